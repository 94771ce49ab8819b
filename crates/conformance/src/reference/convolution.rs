//! Convolution with groups, stride and padding (`torch.nn.Conv2d`).

use std::ops::Range;

use alexnet_core::Op;

use super::tensor::Tensor;

/// Computes the output `[N, O, H', W']` from `x` `[N, C, H, W]`, `weight` `[O, C/groups, k, k]` and
/// `bias` `[O]`.
pub(crate) fn forward(op: &Op, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let g = Geometry::new(op, x);
    let mut y = Tensor::zeros(&[g.batch, g.outputs, g.height_out, g.width_out]);
    for (i, plane) in y.values.chunks_exact_mut(g.height_out * g.width_out).enumerate() {
        plane.fill(bias.values[i % g.outputs]);
    }
    g.for_each_row(|row| {
        let w = weight.values[row.weight];
        let (y, x) = (&mut y.values[row.output], &x.values[row.input..]);
        if g.stride == 1 {
            // Without steps, the compiler uses SIMD.
            y.iter_mut().zip(x).for_each(|(y, x)| *y += w * x);
        } else {
            y.iter_mut().zip(x.iter().step_by(g.stride)).for_each(|(y, x)| *y += w * x);
        }
    });
    y
}

/// Returns the gradient of `x`, and those of weight and bias, for the gradient `dy` of the output.
pub(crate) fn backward(op: &Op, x: &Tensor, weight: &Tensor, dy: &Tensor) -> (Tensor, [Tensor; 2]) {
    let g = Geometry::new(op, x);
    let mut dx = Tensor::zeros(&x.shape);
    let mut dw = Tensor::zeros(&weight.shape);
    let mut db = Tensor::zeros(&[g.outputs]);
    for (i, plane) in dy.values.chunks_exact(g.height_out * g.width_out).enumerate() {
        db.values[i % g.outputs] += plane.iter().sum::<f64>();
    }
    g.for_each_row(|row| {
        let w = weight.values[row.weight];
        let mut sum = 0.0;
        let dy = &dy.values[row.output];
        let (x, dx) = (&x.values[row.input..], &mut dx.values[row.input..]);
        if g.stride == 1 {
            dy.iter().zip(x).for_each(|(dy, x)| sum += dy * x);
            dy.iter().zip(dx).for_each(|(dy, dx)| *dx += w * dy);
        } else {
            dy.iter().zip(x.iter().step_by(g.stride)).for_each(|(dy, x)| sum += dy * x);
            dy.iter().zip(dx.iter_mut().step_by(g.stride)).for_each(|(dy, dx)| *dx += w * dy);
        }
        dw.values[row.weight] += sum;
    });
    (dx, [dw, db])
}

struct Geometry {
    batch: usize,
    inputs: usize,
    height: usize,
    width: usize,
    outputs: usize,
    height_out: usize,
    width_out: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    groups: usize,
}

/// The products of one weight with one row: those of the inputs `input + j·stride` for the outputs
/// `output[j]`, for each j.
struct Row {
    weight: usize,
    output: Range<usize>,
    input: usize,
}

impl Geometry {
    fn new(op: &Op, x: &Tensor) -> Self {
        let Op::Conv2d { outputs, kernel, stride, padding, groups, .. } = *op else {
            unreachable!("only called for convolutions")
        };
        let [batch, inputs, height, width] = x.dimensions();
        let extent = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        let (height_out, width_out) = (extent(height), extent(width));
        Self {
            batch,
            inputs,
            height,
            width,
            outputs,
            height_out,
            width_out,
            kernel,
            stride,
            padding,
            groups,
        }
    }

    /// Visits every product of the convolution once, row by row, except those with the zeros of the
    /// padding.
    fn for_each_row(&self, mut visit: impl FnMut(Row)) {
        let (inputs, outputs) = (self.inputs / self.groups, self.outputs / self.groups);
        for n in 0..self.batch {
            for o in 0..self.outputs {
                for i in 0..inputs {
                    let channel = o / outputs * inputs + i;
                    for ky in 0..self.kernel {
                        for kx in 0..self.kernel {
                            let columns = self.inside(kx, self.width, self.width_out);
                            if columns.is_empty() {
                                continue;
                            }
                            for oy in self.inside(ky, self.height, self.height_out) {
                                let y = oy * self.stride + ky - self.padding;
                                let x = columns.start * self.stride + kx - self.padding;
                                let row = ((n * self.outputs + o) * self.height_out + oy)
                                    * self.width_out;
                                visit(Row {
                                    weight: ((o * inputs + i) * self.kernel + ky) * self.kernel
                                        + kx,
                                    output: row + columns.start..row + columns.end,
                                    input: ((n * self.inputs + channel) * self.height + y)
                                        * self.width
                                        + x,
                                });
                            }
                        }
                    }
                }
            }
        }
    }

    /// Returns the output positions for which kernel position `k` is on the image and not on the
    /// padding.
    fn inside(&self, k: usize, size: usize, size_out: usize) -> Range<usize> {
        let first = self.padding.saturating_sub(k).div_ceil(self.stride);
        let last = (size + self.padding).saturating_sub(k).div_ceil(self.stride).min(size_out);
        first..last
    }
}
