//! Convolution as the matrix product of patches and weights (im2col), and linear layers as the
//! convolution of a single pixel.
//!
//! candle's own convolution has a backward pass that takes three to four times as long as the
//! forward pass on the CPU, and that computes the gradient of the images, which is not needed.
//! Therefore the convolution on the CPU is a custom operation with its own backward pass: in both
//! passes, the patches of a few images at a time are gathered, multiplied by candle and dropped. On
//! other devices, where candle-nn's layers cannot be used (`layers/gpu.rs`), it is composed of
//! candle's operations, which candle differentiates.

mod window;

use std::ops::Range;

use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor,
    backend::BackendStorage,
};
use rayon::prelude::*;

pub use self::window::Window;
use crate::kernels::{ELEMENTS, values};

/// The size of the patches that are multiplied at once, in numbers: small enough to stay in the
/// third-level cache, large enough to keep all cores busy.
const PATCHES: usize = 1 << 20;

/// A convolution as a matrix product of patches.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// The window and its positions on the image.
    pub window: Window,
    /// Whether a ReLU is fused.
    pub relu: bool,
}

impl Convolution {
    /// Computes the output `[N, rows, columns, O]` from `x [N, H, W, C]`, `weight [O,
    /// kernel·kernel·C]` and `bias [O]`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn apply(self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        match x.device() {
            Device::Cpu => x.apply_op3(weight, bias, self),
            Device::Cuda(_) | Device::Metal(_) => self.compose(x, weight, bias),
        }
    }

    /// Computes the same with candle's operations.
    fn compose(self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let [rows, columns] = self.window.output;
        let (outputs, depth) = weight.dims2()?;
        let n = x.dim(0)?;
        let patches = self
            .window
            .select(x)?
            .permute([0, 1, 3, 2, 4, 5])?
            .reshape((n * rows * columns, depth))?;
        let y = patches
            .matmul(&weight.t()?)?
            .broadcast_add(bias)?
            .reshape((n, rows, columns, outputs))?;
        if self.relu { relu(&y) } else { Ok(y) }
    }
}

/// Computes `max(x, 0)` with derivative 0 at 0, and NaN for NaN, as in PyTorch. candle's own ReLU
/// differs in both.
///
/// # Errors
/// Those of candle.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    x.le(0.0)?.where_cond(&x.zeros_like()?, x)
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "convolve"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let parts = Parts::new(self.window, x_layout.shape())?;
        let bias = values(bias, bias_layout)?;
        let outputs = bias.len();
        let by_weight = weight_layout.transpose(0, 1)?;
        let mut y = vec![0.0; parts.n * parts.positions * outputs];
        parts.for_each(values(x, x_layout)?, |rows, patches, patches_layout| {
            let product = patches.matmul(
                weight,
                (1, rows.len(), outputs, parts.depth),
                patches_layout,
                &by_weight,
            )?;
            let y = &mut y[rows.start * outputs..rows.end * outputs];
            let task = (ELEMENTS / outputs).max(1) * outputs;
            y.par_chunks_mut(task).zip(product.as_slice::<f32>()?.par_chunks(task)).for_each(
                |(y, product)| {
                    for (y, product) in
                        y.chunks_exact_mut(outputs).zip(product.chunks_exact(outputs))
                    {
                        for ((y, product), bias) in y.iter_mut().zip(product).zip(bias) {
                            let sum = product + bias;
                            *y = if self.relu && sum < 0.0 { 0.0 } else { sum };
                        }
                    }
                },
            );
            Ok(())
        })?;
        let [rows, columns] = self.window.output;
        Ok((CpuStorage::F32(y), (parts.n, rows, columns, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let dy = if self.relu { dy.apply_op2_no_bwd(y, &ReluGradient)? } else { dy };
        // Layers before the first trainable one and frozen parameters need no gradient.
        let input_gradient = InputGradient { window: self.window, shape: x.shape().clone() };
        let dx = x.track_op().then(|| dy.apply_op2_no_bwd(weight, &input_gradient)).transpose()?;
        let weight_gradient = WeightGradient(self.window);
        let dweight =
            weight.track_op().then(|| x.apply_op2_no_bwd(&dy, &weight_gradient)).transpose()?;
        let dbias = bias.track_op().then(|| sum_of_rows(&dy.flatten_to(2)?)).transpose()?;
        Ok((dx, dweight, dbias))
    }
}

/// Sums `[rows, O]` to `[O]`, in a tenth of the time of candle's sum.
fn sum_of_rows(x: &Tensor) -> Result<Tensor> {
    Tensor::ones((1, x.dim(0)?), x.dtype(), x.device())?.matmul(x)?.squeeze(0)
}

/// The division of a batch into parts of a few images. Only the patches of one part are in memory
/// at a time.
struct Parts {
    window: Window,
    n: usize,
    channels: usize,
    /// The number of positions of the window on an image, which is the number of patches.
    positions: usize,
    /// The size of a patch in numbers, K.
    depth: usize,
    /// The number of images in a part. The last part may have fewer.
    images: usize,
}

impl Parts {
    /// Creates the parts of `x [N, H, W, C]`.
    fn new(window: Window, x: &Shape) -> Result<Self> {
        let (n, _, _, channels) = x.dims4()?;
        let positions = window.output.iter().product::<usize>();
        let depth = window.kernel * window.kernel * channels;
        Ok(Self {
            window,
            n,
            channels,
            positions,
            depth,
            images: (PATCHES / (positions * depth)).max(1),
        })
    }

    /// Returns the range of images of each part.
    fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.n).step_by(self.images).map(|start| start..(start + self.images).min(self.n))
    }

    /// Returns the size of an image, in numbers.
    fn image(&self) -> usize {
        self.window.input.iter().product::<usize>() * self.channels
    }

    /// Calls `visit` for each part with its range of the rows `[N·positions]` of the batch, and its
    /// patches `[rows, K]`.
    fn for_each(
        &self,
        x: &[f32],
        mut visit: impl FnMut(Range<usize>, &CpuStorage, &Layout) -> Result<()>,
    ) -> Result<()> {
        let mut patches =
            CpuStorage::F32(vec![0.0; self.images.min(self.n) * self.positions * self.depth]);
        for images in self.ranges() {
            let rows = images.start * self.positions..images.end * self.positions;
            let CpuStorage::F32(numbers) = &mut patches else {
                unreachable!("created as f32 above")
            };
            let x = &x[images.start * self.image()..images.end * self.image()];
            self.window.gather(self.channels, x, &mut numbers[..rows.len() * self.depth]);
            let layout = Layout::contiguous((rows.len(), self.depth));
            visit(rows, &patches, &layout)?;
        }
        Ok(())
    }
}

/// Computes the gradient `[O, K]` of the weight from `x [N, H, W, C]` and `dy [N, rows, columns,
/// O]`.
struct WeightGradient(Window);

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "convolve-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let parts = Parts::new(self.0, x_layout.shape())?;
        let outputs = dy_layout.dims()[3];
        let mut dweight: Option<CpuStorage> = None;
        parts.for_each(values(x, x_layout)?, |rows, patches, patches_layout| {
            let start = dy_layout.start_offset() + rows.start * outputs;
            let by_output =
                Layout::contiguous_with_offset((rows.len(), outputs), start).transpose(0, 1)?;
            let product = dy.matmul(
                patches,
                (1, outputs, parts.depth, rows.len()),
                &by_output,
                patches_layout,
            )?;
            match &mut dweight {
                Some(CpuStorage::F32(sum)) => sum
                    .par_chunks_mut(ELEMENTS)
                    .zip(product.as_slice::<f32>()?.par_chunks(ELEMENTS))
                    .for_each(|(sum, product)| {
                        sum.iter_mut().zip(product).for_each(|(s, p)| *s += p)
                    }),
                _ => dweight = Some(product),
            }
            Ok(())
        })?;
        let shape = (outputs, parts.depth).into();
        Ok((dweight.unwrap_or_else(|| CpuStorage::F32(vec![0.0; outputs * parts.depth])), shape))
    }
}

/// Computes the gradient of `x`, which has the shape `shape`, from `dy [N, rows, columns, O]` and
/// `weight [O, K]`.
struct InputGradient {
    window: Window,
    shape: Shape,
}

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "convolve-input-gradient"
    }

    fn cpu_fwd(
        &self,
        dy: &CpuStorage,
        dy_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let parts = Parts::new(self.window, &self.shape)?;
        let outputs = dy_layout.dims()[3];
        let mut dx = vec![0.0f32; self.shape.elem_count()];
        for images in parts.ranges() {
            let rows = images.len() * parts.positions;
            let start = dy_layout.start_offset() + images.start * parts.positions * outputs;
            let dy_layout = Layout::contiguous_with_offset((rows, outputs), start);
            let patches =
                dy.matmul(weight, (1, rows, parts.depth, outputs), &dy_layout, weight_layout)?;
            let dx = &mut dx[images.start * parts.image()..images.end * parts.image()];
            self.window.scatter(parts.channels, patches.as_slice()?, dx);
        }
        Ok((CpuStorage::F32(dx), self.shape.clone()))
    }
}

/// Returns `dy` where `y` is positive, else 0.
struct ReluGradient;

impl CustomOp2 for ReluGradient {
    fn name(&self) -> &'static str {
        "relu-gradient"
    }

    fn cpu_fwd(
        &self,
        dy: &CpuStorage,
        dy_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (dy, y) = (values(dy, dy_layout)?, values(y, y_layout)?);
        let mut dx = vec![0.0; dy.len()];
        (dx.par_chunks_mut(ELEMENTS), dy.par_chunks(ELEMENTS), y.par_chunks(ELEMENTS))
            .into_par_iter()
            .for_each(|(dx, dy, y)| {
                for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                    *dx = if *y > 0.0 { *dy } else { 0.0 };
                }
            });
        Ok((CpuStorage::F32(dx), dy_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{integers, with_gradients};

    /// The composition is for GPUs; this test runs it on the CPU. The last case has three parts of
    /// two, two and one image.
    #[test]
    fn the_composition_equals_the_custom_operation() {
        for (n, channels, kernel, stride, padding, input, output) in [
            (2, 3, 3, 2, 1, [8, 6], [4, 3]),
            (1, 2, 1, 1, 0, [8, 6], [8, 6]),
            (3, 1, 4, 3, 0, [8, 6], [2, 1]),
            (2, 3, 5, 1, 2, [8, 6], [8, 6]),
            (5, 16, 5, 1, 2, [32, 32], [32, 32]),
        ] {
            let window = Window { input, output, kernel, stride, padding };
            let x = integers(&[n, input[0], input[1], channels], 0);
            let arguments = [x, integers(&[5, kernel * kernel * channels], 1), integers(&[5], 2)];
            let [x, weight, bias] = &arguments;
            let run = |y: Tensor| with_gradients(&y, &arguments);
            for relu in [false, true] {
                let convolution = Convolution { window, relu };
                let composed = run(convolution.compose(x, weight, bias).unwrap());
                assert!(
                    composed == run(convolution.apply(x, weight, bias).unwrap()),
                    "{convolution:?}"
                );
            }
        }
    }

    #[test]
    fn nan_stays_nan() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let x = tensor(&[f32::NAN, -1.0, 0.0, 2.0]).reshape((4, 1, 1, 1)).unwrap();
        let (weight, bias) = (tensor(&[1.0]).reshape((1, 1)).unwrap(), tensor(&[0.0]));
        let convolution = Convolution { window: Window::PIXEL, relu: true };
        for y in [convolution.apply(&x, &weight, &bias), convolution.compose(&x, &weight, &bias)] {
            let y: Vec<f32> = y.unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert!(y[0].is_nan() && y[1..] == [0.0, 0.0, 2.0], "{y:?}");
        }
    }
}
