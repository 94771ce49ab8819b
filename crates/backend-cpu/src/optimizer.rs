//! The optimizers' equations ([`alexnet_core::optimizer`]) a vector at a time: over a finished gradient ([`Apply`]), or as
//! the end of the product that makes it ([`ApplyToSums`]), when the gradient itself never needs to be written.

use alexnet_core::{
    Optimizer, Step,
    optimizer::{Adam, AdamFactors},
};
use pulp::{Simd, WithSimd};

use crate::kernels::{
    gemm::Finish,
    vector::{read, write},
};

/// One step of an optimizer.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    rule: Rule,
    /// Multiplies the gradient (1 when nothing is clipped).
    scale: f32,
    /// Multiplies the weight and is added to the gradient.
    l2: f32,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Adam and AdamW: they differ in where weight decay enters. `keep` multiplies the weight first.
    Adam {
        adam: Adam,
        factors: AdamFactors,
        keep: f32,
    },
    Sgd {
        momentum: f32,
        lr: f32,
    },
}

/// What an update works on: the weights and the moments, of which SGD has only the first, as slices of one length.
pub struct Slices<'a> {
    /// Weights.
    pub values: &'a mut [f32],
    /// In the order of [`Optimizer::moments`]; empty where there is none.
    pub moments: [&'a mut [f32]; 2],
}

impl<'a> Slices<'a> {
    /// Consecutive pieces of `len` numbers, the last of which may be shorter.
    pub fn pieces(self, len: usize) -> Vec<Slices<'a>> {
        let Slices { values, moments: [first, second] } = self;
        let mut second = second.chunks_mut(len);
        assert_eq!(values.len(), first.len(), "every optimizer has a moment for each weight");
        let pieces = values.chunks_mut(len).zip(first.chunks_mut(len));
        pieces
            .map(|(values, first)| Slices { values, moments: [first, second.next().unwrap_or_default()] })
            .collect()
    }
}

impl Update {
    /// The step that `step` describes, with the gradient multiplied by `scale`.
    pub fn new(optimizer: &Optimizer, step: &Step, scale: f32) -> Self {
        let lr = step.lr;
        match *optimizer {
            Optimizer::Adam { adam, weight_decay } => {
                let rule = Rule::Adam { adam, factors: adam.factors(lr, step.number), keep: 1.0 };
                Self { rule, scale, l2: weight_decay }
            }
            Optimizer::AdamW { adam, weight_decay } => {
                let keep = 1.0 - lr * weight_decay;
                let rule = Rule::Adam { adam, factors: adam.factors(lr, step.number), keep };
                Self { rule, scale, l2: 0.0 }
            }
            Optimizer::Sgd { momentum, weight_decay } => {
                Self { rule: Rule::Sgd { momentum, lr }, scale, l2: weight_decay }
            }
        }
    }

    /// New weights and moments of one vector.
    #[inline(always)]
    fn vector<S: Simd>(
        &self,
        simd: S,
        g: S::f32s,
        w: S::f32s,
        [first, second]: [S::f32s; 2],
    ) -> (S::f32s, [S::f32s; 2]) {
        let c = |value| simd.splat_f32s(value);
        let fma = |a, b, c| simd.mul_add_e_f32s(a, b, c);
        let g = fma(c(self.l2), w, simd.mul_f32s(c(self.scale), g));
        match self.rule {
            Rule::Adam { adam: Adam { beta1, beta2, eps }, factors, keep } => {
                let m = fma(c(beta1), first, simd.mul_f32s(c(1.0 - beta1), g));
                let v = fma(c(beta2), second, simd.mul_f32s(c(1.0 - beta2), simd.mul_f32s(g, g)));
                let divisor = fma(simd.sqrt_f32s(v), c(factors.inverse_correction), c(eps));
                let change = simd.div_f32s(simd.mul_f32s(c(factors.step_size), m), divisor);
                (simd.sub_f32s(simd.mul_f32s(w, c(keep)), change), [m, v])
            }
            Rule::Sgd { momentum, lr } => {
                let b = fma(c(momentum), first, g);
                (fma(c(-lr), b, w), [b, second])
            }
        }
    }

    /// Updates the numbers of `slices` from `at` on, `lanes` of them.
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, g: S::f32s, slices: &mut Slices<'_>, at: usize, lanes: usize) {
        let Slices { values, moments: [first, second] } = slices;
        let part = at..at + lanes;
        let has_second = !second.is_empty();
        let zero = simd.splat_f32s(0.0);
        let moments = [
            read(simd, &first[part.clone()]),
            if has_second { read(simd, &second[part.clone()]) } else { zero },
        ];
        let (w, moments) = self.vector(simd, g, read(simd, &values[part.clone()]), moments);
        write(simd, &mut values[part.clone()], w);
        write(simd, &mut first[part.clone()], moments[0]);
        if has_second {
            write(simd, &mut second[part], moments[1]);
        }
    }
}

/// Updates `slices` by a gradient as long.
pub struct Apply<'a> {
    /// The step.
    pub update: &'a Update,
    /// The gradient.
    pub gradient: &'a [f32],
    /// What it changes.
    pub slices: Slices<'a>,
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for at in (0..self.gradient.len()).step_by(S::F32_LANES) {
            let lanes = S::F32_LANES.min(self.gradient.len() - at);
            let g = read(simd, &self.gradient[at..at + lanes]);
            self.update.apply(simd, g, &mut self.slices, at, lanes);
        }
    }
}

/// Updates row-major `slices` by the sums of a product, and adds up their squares.
pub struct ApplyToSums<'a> {
    /// The step.
    pub update: &'a Update,
    /// What it changes.
    pub slices: Slices<'a>,
    /// Numbers of a row.
    pub row: usize,
    /// The sum of the squared gradient so far.
    pub square_sum: f64,
}

impl Finish for ApplyToSums<'_> {
    const WIDE: bool = true;

    #[inline(always)]
    fn finish<S: Simd, const P: usize, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        lanes: usize,
        sums: &[[S::f32s; V]; P],
    ) {
        let mut squares = simd.splat_f32s(0.0);
        for (p, sums) in sums.iter().enumerate() {
            for (v, g) in sums.iter().enumerate() {
                // Lanes beyond the edge are zero: there was nothing to sum.
                squares = simd.mul_add_e_f32s(*g, *g, squares);
                let at = (row + p) * self.row + column + v * S::F32_LANES;
                self.update.apply(simd, *g, &mut self.slices, at, lanes);
            }
        }
        self.square_sum += f64::from(simd.reduce_sum_f32s(squares));
    }
}

/// The sum of the squares, in f64.
pub struct SquareSum<'a>(pub &'a [f32]);

impl WithSimd for SquareSum<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        // Sixteen sums, so that the loop runs in vector lanes; always the same ones, so that the bits stay.
        let mut lanes = [0.0f64; 16];
        let chunks = self.0.chunks_exact(16);
        for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane += f64::from(*value) * f64::from(*value);
        }
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(*value) * f64::from(*value);
            }
        }
        lanes.iter().sum()
    }
}
