//! Matrix products for which the weights are read once, along their rows: `y [N, out] = x [N, in] ·
//! Wᵀ`, `W [out, in]`.
//!
//! The lanes of the vectors are consecutive elements of the dimension that is summed over. A tile
//! of outputs is P rows of W × Q rows of x. Each output is a vector of partial sums, which are
//! added at the end; one step loads P + Q vectors for P·Q multiplications. With 32 registers the
//! tile is 4 × 6, with 16 registers 3 × 4. With one image, W is read at the bandwidth of the
//! memory. Each output has the same bits for any batch size.

use pulp::{Simd, WithSimd};

use super::{
    bf16::{Bf16, Kernel, Pair, ROW_PAIRS},
    elementwise::relu,
};

/// The kernel for some rows of W and their outputs.
pub struct DotRows<'a> {
    /// The input `[N, in]`.
    pub x: &'a [f32],
    /// The weights `[out, in]` of these outputs.
    pub weight: &'a [f32],
    /// The biases `[out]` of these outputs.
    pub bias: &'a [f32],
    /// The length of a row of x and W.
    pub inputs: usize,
    /// Whether a ReLU is fused.
    pub relu: bool,
    /// The outputs `[out, N]`.
    pub y: &'a mut [f32],
}

impl DotRows<'_> {
    /// Computes P outputs, from index `output`, for all images.
    #[inline(always)]
    fn outputs<S: Simd, const P: usize>(&mut self, simd: S, output: usize, images: usize) {
        let batch = self.x.len() / self.inputs;
        let tiles = batch.div_ceil(images);
        let mut image = 0;
        for tile in 0..tiles {
            let rows = (batch - image).div_ceil(tiles - tile);
            macro_rules! by_rows {
                ($($q:literal)*) => {
                    match rows {
                        $($q => self.tile::<S, P, $q>(simd, output, image),)*
                        _ => unreachable!("a tile has at most 6 images"),
                    }
                };
            }
            by_rows!(1 2 3 4 5 6);
            image += rows;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const P: usize, const Q: usize>(
        &mut self,
        simd: S,
        output: usize,
        image: usize,
    ) {
        let inputs = self.inputs;
        let batch = self.x.len() / inputs;
        let weight: [&[f32]; P] =
            std::array::from_fn(|p| &self.weight[(output + p) * inputs..][..inputs]);
        let x: [&[f32]; Q] = std::array::from_fn(|q| &self.x[(image + q) * inputs..][..inputs]);
        let vectors = inputs / S::F32_LANES;
        let weight_vectors = weight.map(|row| &S::as_simd_f32s(row).0[..vectors]);
        let x_vectors = x.map(|row| &S::as_simd_f32s(row).0[..vectors]);
        let mut sums = [[simd.splat_f32s(0.0); Q]; P];
        for t in 0..vectors {
            let x: [S::f32s; Q] = std::array::from_fn(|q| x_vectors[q][t]);
            for p in 0..P {
                let weight = weight_vectors[p][t];
                for q in 0..Q {
                    sums[p][q] = simd.mul_add_e_f32s(weight, x[q], sums[p][q]);
                }
            }
        }
        let rest = vectors * S::F32_LANES..;
        for p in 0..P {
            for q in 0..Q {
                let rest = weight[p][rest.clone()].iter().zip(&x[q][rest.clone()]);
                let sum = rest.fold(simd.reduce_sum_f32s(sums[p][q]), |sum, (w, x)| sum + w * x);
                let y = sum + self.bias[output + p];
                self.y[(output + p) * batch + image + q] = if self.relu { relu(y) } else { y };
            }
        }
    }
}

impl WithSimd for DotRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let outputs = self.bias.len();
        let mut output = 0;
        while output < outputs {
            match (outputs - output, S::REGISTER_COUNT >= 32) {
                (4.., true) => {
                    self.outputs::<S, 4>(simd, output, 6);
                    output += 4;
                }
                (3.., false) => {
                    self.outputs::<S, 3>(simd, output, 4);
                    output += 3;
                }
                _ => {
                    self.outputs::<S, 1>(simd, output, 6);
                    output += 1;
                }
            }
        }
    }
}

/// The kernel for some rows of W in bf16 and their outputs. Each output is 16 partial sums of
/// products of pairs, which are added as a balanced tree, so its bits are the same for all
/// instruction sets.
pub struct DotPairs<'a> {
    /// The input `[N, pairs]`.
    pub x: &'a [Pair],
    /// The weights `[out, pairs]` of these outputs.
    pub weight: &'a [Pair],
    /// The biases `[out]` of these outputs.
    pub bias: &'a [f32],
    /// The number of pairs of a row of x and W, a multiple of [`ROW_PAIRS`].
    pub pairs: usize,
    /// Whether a ReLU is fused.
    pub relu: bool,
    /// The outputs `[out, N]`.
    pub y: &'a mut [f32],
}

impl DotPairs<'_> {
    #[inline(always)]
    fn tile<S: Simd, B: Bf16, const P: usize, const Q: usize>(
        &mut self,
        simd: S,
        output: usize,
        image: usize,
    ) {
        let pairs = self.pairs;
        let batch = self.x.len() / pairs;
        let weight: [&[S::u32s]; P] =
            std::array::from_fn(|p| row_vectors::<S>(self.weight, output + p, pairs));
        let x: [&[S::u32s]; Q] =
            std::array::from_fn(|q| row_vectors::<S>(self.x, image + q, pairs));
        let per_row = ROW_PAIRS / S::U32_LANES;
        let mut lanes = [[[0.0; ROW_PAIRS]; Q]; P];
        for part in 0..per_row {
            let mut sums = [[simd.splat_f32s(0.0); Q]; P];
            for t in (part..pairs / S::U32_LANES).step_by(per_row) {
                let x: [S::u32s; Q] = std::array::from_fn(|q| x[q][t]);
                for p in 0..P {
                    let weight = weight[p][t];
                    for q in 0..Q {
                        sums[p][q] = B::multiply_add(simd, weight, x[q], sums[p][q]);
                    }
                }
            }
            for p in 0..P {
                for q in 0..Q {
                    S::as_mut_simd_f32s(&mut lanes[p][q]).0[part] = sums[p][q];
                }
            }
        }
        for p in 0..P {
            for q in 0..Q {
                let mut width = ROW_PAIRS;
                let lanes = &mut lanes[p][q];
                while width > 1 {
                    width /= 2;
                    for i in 0..width {
                        lanes[i] += lanes[i + width];
                    }
                }
                let y = lanes[0] + self.bias[output + p];
                self.y[(output + p) * batch + image + q] = if self.relu { relu(y) } else { y };
            }
        }
    }

    /// Computes P outputs, from index `output`, for all images.
    #[inline(always)]
    fn outputs<S: Simd, B: Bf16, const P: usize>(&mut self, simd: S, output: usize) {
        // Small without instructions for bf16: such kernels are rarely used and take long to compile.
        let images = if B::IS_NATIVE { 6 } else { 2 };
        let batch = self.x.len() / self.pairs;
        let tiles = batch.div_ceil(images);
        let mut image = 0;
        for tile in 0..tiles {
            let rows = (batch - image).div_ceil(tiles - tile);
            macro_rules! by_rows {
                ($($q:literal)*) => {
                    match rows {
                        $($q if const { B::IS_NATIVE || $q <= 2 } => {
                            self.tile::<S, B, P, $q>(simd, output, image)
                        })*
                        _ => unreachable!("a tile has at most 6 images"),
                    }
                };
            }
            by_rows!(1 2 3 4 5 6);
            image += rows;
        }
    }
}

/// Returns the vectors of a row of `len` pairs.
#[inline(always)]
fn row_vectors<S: Simd>(rows: &[Pair], row: usize, len: usize) -> &[S::u32s] {
    S::as_simd_u32s(&rows[row * len..][..len]).0
}

impl Kernel for DotPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, B: Bf16>(mut self, simd: S) {
        let outputs = self.bias.len();
        let mut output = 0;
        while output < outputs {
            if const { B::IS_NATIVE } && outputs - output >= 4 {
                self.outputs::<S, B, 4>(simd, output);
                output += 4;
            } else {
                self.outputs::<S, B, 1>(simd, output);
                output += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    /// Tests all tile sizes, and row lengths that are not a multiple of a vector, with all
    /// instruction sets. The numbers are integers, so the results are exact.
    #[test]
    fn products_of_integers_are_exact() {
        for isa in Isa::available() {
            for (batch, outputs, inputs) in [(1, 9, 40), (5, 7, 3), (13, 4, 33), (32, 11, 16)] {
                let integers =
                    |n: usize| -> Vec<f32> { (0..n).map(|i| (i * 29 % 9) as f32 - 4.0).collect() };
                let (x, weight, bias) =
                    (integers(batch * inputs), integers(outputs * inputs), integers(outputs));
                for relu in [false, true] {
                    let mut y = vec![f32::NAN; outputs * batch];
                    isa.run(DotRows {
                        x: &x,
                        weight: &weight,
                        bias: &bias,
                        inputs,
                        relu,
                        y: &mut y,
                    });
                    for (at, y) in y.into_iter().enumerate() {
                        let (o, n) = (at / batch, at % batch);
                        let products =
                            (0..inputs).map(|i| weight[o * inputs + i] * x[n * inputs + i]);
                        let sum = products.sum::<f32>() + bias[o];
                        assert_eq!(y, if relu { sum.max(0.0) } else { sum }, "{isa} {o} {n}");
                    }
                }
            }
        }
    }

    /// Each output has the same bits for all instruction sets and batch sizes.
    #[test]
    fn products_of_pairs_have_the_same_bits() {
        let (outputs, pairs) = (9, 48);
        let numbers = |n: usize, step: usize| -> Vec<Pair> {
            let number = |i: usize| (i * step % 997) as f32 / 499.0 - 1.0;
            (0..n)
                .map(|i| number(2 * i).to_bits() >> 16 | number(2 * i + 1).to_bits() & 0xFFFF_0000)
                .collect()
        };
        let (x, weight) = (numbers(7 * pairs, 31), numbers(outputs * pairs, 57));
        let bias: Vec<f32> = (0..outputs).map(|o| o as f32 - 4.0).collect();
        let product = |isa: Isa, x: &[Pair]| {
            let mut y = vec![f32::NAN; outputs * x.len() / pairs];
            let (weight, bias) = (&weight[..], &bias[..]);
            isa.run_bf16(DotPairs { x, weight, bias, pairs, relu: false, y: &mut y });
            y
        };
        let together = product(Isa::Portable, &x);
        for isa in Isa::available() {
            assert_eq!(product(isa, &x), together, "{isa}");
            for (image, x) in x.chunks(pairs).enumerate() {
                let alone: Vec<f32> = together.chunks(7).map(|row| row[image]).collect();
                assert_eq!(product(isa, x), alone, "{isa}, image {image}");
            }
        }
        for (at, found) in together.iter().enumerate() {
            let (o, image) = (at / 7, at % 7);
            let halves = |p: Pair| [p << 16, p & 0xFFFF_0000].map(|h| f64::from(f32::from_bits(h)));
            let sum: f64 = (0..pairs)
                .flat_map(|t| {
                    let (w, x) = (halves(weight[o * pairs + t]), halves(x[image * pairs + t]));
                    [w[0] * x[0], w[1] * x[1]]
                })
                .sum();
            assert!((f64::from(*found) - sum - f64::from(bias[o])).abs() < 1e-5, "{o} {image}");
        }
    }
}
