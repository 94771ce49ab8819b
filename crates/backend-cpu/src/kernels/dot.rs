//! Matrix products for which the weights are read once, along their rows: `y [N, out] = x [N, in] ·
//! Wᵀ`, `W [out, in]`.
//!
//! The lanes of the vectors are consecutive elements of the dimension that is summed over. A tile
//! of outputs is P rows of W × Q rows of x. Each output is a vector of partial sums, which are
//! added at the end; one step loads P + Q vectors for P·Q multiplications. With 32 registers the
//! tile is 4 × 6, with 16 registers 3 × 4. With one image, W is read at the bandwidth of the
//! memory. Each output has the same bits for any batch size.

use pulp::{Simd, WithSimd};

use super::elementwise::relu;

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
}
