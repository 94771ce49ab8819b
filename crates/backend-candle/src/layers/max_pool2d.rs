//! Overlapping max pooling (paper, section 3.4).

use alexnet_core::{Layer, Mode, Result};
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Device, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::{convolution::Window, error::failed, kernels::values};

/// The maximum of each window. Of equal numbers the first one in row-major order is taken. NaN
/// counts as the maximum, as in PyTorch.
pub struct MaxPool2d {
    /// The window, which has no padding.
    pub window: Window,
}

impl Layer<Tensor> for MaxPool2d {
    fn forward(&mut self, x: Tensor, _: Mode) -> Result<Tensor> {
        let pooled = match x.device() {
            Device::Cpu => x.apply_op1(MaxPool(self.window)),
            Device::Cuda(_) | Device::Metal(_) => compose(self.window, &x),
        };
        pooled.map_err(failed)
    }
}

/// Computes the pooling with candle's operations. `where_cond` passes the gradient to the tensor
/// that was chosen.
fn compose(window: Window, x: &Tensor) -> candle_core::Result<Tensor> {
    // [N, rows, kernel, columns, kernel, C]
    let all = window.select(x)?;
    let under =
        |ky, kx| all.narrow(2, ky, 1)?.narrow(4, kx, 1)?.squeeze(4)?.squeeze(2)?.contiguous();
    let mut largest = under(0, 0)?;
    for i in 1..window.kernel * window.kernel {
        let x = under(i / window.kernel, i % window.kernel)?;
        let larger = x.gt(&largest)?.where_cond(&x, &largest)?;
        largest = x.ne(&x)?.where_cond(&x, &larger)?;
    }
    Ok(largest)
}

/// The pooling on the CPU.
struct MaxPool(Window);

impl MaxPool {
    /// Returns the offsets of the pixels in the window at one position of image `n`, in row-major
    /// order.
    fn pixels(
        &self,
        n: usize,
        [row, column]: [usize; 2],
        channels: usize,
    ) -> impl Iterator<Item = usize> {
        let Window { input: [height, width], kernel, stride, .. } = self.0;
        let corner = (n * height + row * stride) * width + column * stride;
        (0..kernel * kernel).map(move |i| (corner + i / kernel * width + i % kernel) * channels)
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (n, _, _, channels) = layout.shape().dims4()?;
        let [rows, columns] = self.0.output;
        let x = values(x, layout)?;
        let mut y = vec![f32::NEG_INFINITY; n * rows * columns * channels];
        y.par_chunks_mut(columns * channels).enumerate().for_each(|(line, y)| {
            for (column, y) in y.chunks_exact_mut(channels).enumerate() {
                for start in self.pixels(line / rows, [line % rows, column], channels) {
                    for (y, x) in y.iter_mut().zip(&x[start..start + channels]) {
                        *y = if *x > *y || x.is_nan() { *x } else { *y };
                    }
                }
            }
        });
        Ok((CpuStorage::F32(y), (n, rows, columns, channels).into()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(x.apply_op3_no_bwd(y, &dy.contiguous()?, &MaxPoolGradient(Self(self.0)))?))
    }
}

/// Computes `dx` from `x`, `y` and `dy`. It searches the position of the maximum again, which is
/// faster than storing it.
struct MaxPoolGradient(MaxPool);

impl CustomOp3 for MaxPoolGradient {
    fn name(&self) -> &'static str {
        "max-pool-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, height, width, channels) = x_layout.shape().dims4()?;
        let [rows, columns] = self.0.0.output;
        let (x, y, dy) = (values(x, x_layout)?, values(y, y_layout)?, values(dy, dy_layout)?);
        let (image, pooled) = (height * width * channels, rows * columns * channels);
        let mut dx = vec![0.0; x.len()];
        (
            dx.par_chunks_mut(image),
            x.par_chunks(image),
            y.par_chunks(pooled),
            dy.par_chunks(pooled),
        )
            .into_par_iter()
            .for_each(|(dx, x, y, dy)| {
                // The gradients whose maximum is not found yet.
                let mut left = vec![0.0; channels];
                let positions = y.chunks_exact(channels).zip(dy.chunks_exact(channels)).enumerate();
                for (position, (y, dy)) in positions {
                    left.copy_from_slice(dy);
                    for start in
                        self.0.pixels(0, [position / columns, position % columns], channels)
                    {
                        let pixel = start..start + channels;
                        for (((dx, x), y), left) in
                            dx[pixel.clone()].iter_mut().zip(&x[pixel]).zip(y).zip(&mut left)
                        {
                            let is_maximum = x == y || (x.is_nan() && y.is_nan());
                            *dx += if is_maximum { *left } else { 0.0 };
                            *left = if is_maximum { 0.0 } else { *left };
                        }
                    }
                }
            });
        Ok((CpuStorage::F32(dx), x_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    const WINDOW: Window =
        Window { input: [6, 7], output: [2, 3], kernel: 3, stride: 2, padding: 0 };

    /// Returns `y` and the gradient of `Σ y·(1, 2, 3, …)`.
    fn run(x: Vec<f32>, pool: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> [Vec<f32>; 2] {
        let x = Var::from_vec(x, (2, 6, 7, 2), &Device::Cpu).unwrap();
        let y = pool(&x).unwrap();
        let weights: Vec<f32> = (1..=y.elem_count()).map(|i| i as f32).collect();
        let product = (&y * Tensor::from_vec(weights, y.shape(), &Device::Cpu).unwrap()).unwrap();
        let gradients = product.sum_all().unwrap().backward().unwrap();
        [&y, gradients.get(&x).unwrap()].map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
    }

    /// The composition is for GPUs; this test runs it on the CPU. There are many ties.
    #[test]
    fn the_composition_equals_the_custom_operation() {
        let x: Vec<f32> = (0..168).map(|i| (i * i % 7) as f32 - 9.0).collect();
        let composed = run(x.clone(), |x| compose(WINDOW, x));
        assert_eq!(composed, run(x, |x| x.apply_op1(MaxPool(WINDOW))));
        assert!(composed[1].contains(&0.0));
    }

    #[test]
    fn nan_is_the_maximum() {
        for position in 0..3 {
            let mut x = vec![1.0; 168];
            x[2 * position] = f32::NAN;
            for [y, _] in
                [run(x.clone(), |x| compose(WINDOW, x)), run(x, |x| x.apply_op1(MaxPool(WINDOW)))]
            {
                assert!(y[0].is_nan() && y[1] == 1.0, "{y:?}");
            }
        }
    }
}
