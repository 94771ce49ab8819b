//! The equations of the optimizers ([`alexnet_core::optimizer`]), for a vector at a time. They are
//! applied to a finished gradient ([`Apply`]), or to the sums of the matrix product that computes
//! the gradient ([`ApplyToSums`]), so that the gradient is not written to memory.

use alexnet_core::{
    Optimizer, Step,
    optimizer::{Adam, AdamFactors},
};
use pulp::{Simd, WithSimd};

use crate::kernels::{
    bf16::{Bf16, RoundedRows},
    gemm::Finish,
    vector::{prefetch, read, write},
};

/// One step of an optimizer.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    rule: Rule,
    /// The factor of the gradient (1 without clipping).
    scale: f32,
    /// The factor of the weight that is added to the gradient (L2 regularization).
    l2: f32,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Adam and AdamW, which differ in the weight decay. `weight_factor` multiplies the weight
    /// before the step.
    Adam { adam: Adam, factors: AdamFactors, weight_factor: f32 },
    /// Both kinds of SGD, which differ in where the learning rate is applied: `gradient_factor` to
    /// the gradient that is added to the moment, or `step_size` to the moment.
    Sgd { momentum: f32, gradient_factor: f32, step_size: f32 },
}

/// The weights and moments of an update, as slices of equal length. SGD has only the first moment.
pub struct Slices<'a> {
    /// The weights.
    pub values: &'a mut [f32],
    /// The moments in the order of [`Optimizer::moments`]; empty if the optimizer has no second
    /// moment.
    pub moments: [&'a mut [f32]; 2],
}

impl<'a> Slices<'a> {
    #[inline(always)]
    fn prefetch(&self, at: usize) {
        prefetch(self.values, at);
        prefetch(self.moments[0], at);
        prefetch(self.moments[1], at);
    }

    /// Returns consecutive pieces of `len` numbers. The last one may be shorter.
    pub fn pieces(self, len: usize) -> Vec<Slices<'a>> {
        let Slices { values, moments: [first, second] } = self;
        let mut second = second.chunks_mut(len);
        assert_eq!(values.len(), first.len(), "every optimizer has a moment for each weight");
        let pieces = values.chunks_mut(len).zip(first.chunks_mut(len));
        pieces
            .map(|(values, first)| Slices {
                values,
                moments: [first, second.next().unwrap_or_default()],
            })
            .collect()
    }
}

impl Update {
    /// Creates the update of a step, in which the gradient is multiplied by `scale`.
    pub fn new(optimizer: &Optimizer, step: &Step, scale: f32) -> Self {
        let lr = step.lr;
        match *optimizer {
            Optimizer::Adam { adam, weight_decay } => {
                let rule =
                    Rule::Adam { adam, factors: adam.factors(lr, step.number), weight_factor: 1.0 };
                Self { rule, scale, l2: weight_decay }
            }
            Optimizer::AdamW { adam, weight_decay } => {
                let weight_factor = 1.0 - lr * weight_decay;
                let rule =
                    Rule::Adam { adam, factors: adam.factors(lr, step.number), weight_factor };
                Self { rule, scale, l2: 0.0 }
            }
            Optimizer::Sgd { momentum, weight_decay } => {
                let rule = Rule::Sgd { momentum, gradient_factor: 1.0, step_size: lr };
                Self { rule, scale, l2: weight_decay }
            }
            Optimizer::SgdPaper { momentum, weight_decay } => {
                let rule = Rule::Sgd { momentum, gradient_factor: lr, step_size: 1.0 };
                Self { rule, scale, l2: weight_decay }
            }
        }
    }

    /// Returns the new weights and moments of one vector.
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
            Rule::Adam { adam: Adam { beta1, beta2, eps }, factors, weight_factor } => {
                let m = fma(c(beta1), first, simd.mul_f32s(c(1.0 - beta1), g));
                let v = fma(c(beta2), second, simd.mul_f32s(c(1.0 - beta2), simd.mul_f32s(g, g)));
                let divisor = fma(simd.sqrt_f32s(v), c(factors.inverse_correction), c(eps));
                let change = simd.div_f32s(simd.mul_f32s(c(factors.step_size), m), divisor);
                (simd.sub_f32s(simd.mul_f32s(w, c(weight_factor)), change), [m, v])
            }
            Rule::Sgd { momentum, gradient_factor, step_size } => {
                let b = fma(c(momentum), first, simd.mul_f32s(c(gradient_factor), g));
                (fma(c(-step_size), b, w), [b, second])
            }
        }
    }

    /// Updates `lanes` numbers of `slices` from index `at`. Returns the new weights.
    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        g: S::f32s,
        slices: &mut Slices<'_>,
        at: usize,
        lanes: usize,
    ) -> S::f32s {
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
        w
    }
}

/// The kernel that updates `slices` with a gradient of the same length.
pub struct Apply<'a> {
    /// The update.
    pub update: &'a Update,
    /// The gradient.
    pub gradient: &'a [f32],
    /// The weights and moments to update.
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

/// Updates row-major `slices` with the sums of a matrix product, and adds up the squares of the
/// sums.
pub struct ApplyToSums<'a> {
    /// The update.
    pub update: &'a Update,
    /// The weights and moments to update.
    pub slices: Slices<'a>,
    /// The length of a row.
    pub row: usize,
    /// The copy of the weights in bf16 to update, if there is one.
    pub rounded: RoundedRows<'a>,
    /// The sum of the squared gradient so far.
    pub square_sum: f64,
}

impl Finish for ApplyToSums<'_> {
    const WIDE: bool = true;

    #[inline(always)]
    fn finish<S: Simd, B: Bf16, const P: usize, const V: usize>(
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
                // Lanes beyond the right edge are zero, so they do not change the sum.
                squares = simd.mul_add_e_f32s(*g, *g, squares);
                let at = (row + p) * self.row + column + v * S::F32_LANES;
                // The next tile in these rows: the update is limited by the memory, and the processor
                // does not foresee accesses to so many rows.
                self.slices.prefetch(at + 2 * V * S::F32_LANES);
                let w = self.update.apply(simd, *g, &mut self.slices, at, lanes);
                self.rounded.write::<S, B>(simd, row + p, column + v * S::F32_LANES, w);
            }
        }
        self.square_sum += f64::from(simd.reduce_sum_f32s(squares));
    }
}

/// The kernel that computes the sum of the squares, in f64.
pub struct SquareSum<'a>(pub &'a [f32]);

impl WithSimd for SquareSum<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        // Sixteen partial sums allow the compiler to vectorize the loop. Their number is the same
        // for all instruction sets, so that the bits of the result are too.
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
