//! Max pooling, overlapping or not (`torch.nn.MaxPool2d`).

use super::tensor::Tensor;

/// Computes the output `[N, C, H', W']` from `x` `[N, C, H, W]`.
pub(crate) fn forward(kernel: usize, stride: usize, x: &Tensor) -> Tensor {
    let (shape, argmaxes) = argmaxes(kernel, stride, x);
    Tensor { shape, values: argmaxes.into_iter().map(|i| x.values[i]).collect() }
}

/// Returns the gradient of `x` for the gradient `dy` of the output. The gradient of each window
/// goes to its maximum.
pub(crate) fn backward(kernel: usize, stride: usize, x: &Tensor, dy: &Tensor) -> Tensor {
    let mut dx = Tensor::zeros(&x.shape);
    for (argmax, dy) in argmaxes(kernel, stride, x).1.into_iter().zip(&dy.values) {
        dx.values[argmax] += dy;
    }
    dx
}

/// Returns the smallest difference between the maximum of a window and the next smaller number in
/// it. Exact ties do not count, because they are resolved by position.
pub(crate) fn smallest_margin(kernel: usize, stride: usize, x: &Tensor) -> f64 {
    let [.., height, width] = x.dimensions();
    let (shape, argmaxes) = argmaxes(kernel, stride, x);
    let (height_out, width_out) = (shape[2], shape[3]);
    let mut smallest = f64::INFINITY;
    for (i, argmax) in argmaxes.into_iter().enumerate() {
        let (plane, oy, ox) =
            (i / (height_out * width_out), i / width_out % height_out, i % width_out);
        for y in oy * stride..oy * stride + kernel {
            for x_ in ox * stride..ox * stride + kernel {
                let margin = x.values[argmax] - x.values[(plane * height + y) * width + x_];
                if margin > 0.0 {
                    smallest = smallest.min(margin);
                }
            }
        }
    }
    smallest
}

/// Returns the output's shape and, for each window, the index in `x` of its first maximum in
/// row-major order.
fn argmaxes(kernel: usize, stride: usize, x: &Tensor) -> (Vec<usize>, Vec<usize>) {
    let [batch, channels, height, width] = x.dimensions();
    let extent = |size: usize| (size - kernel) / stride + 1;
    let (height_out, width_out) = (extent(height), extent(width));
    let mut argmaxes = Vec::new();
    for plane in 0..batch * channels {
        for oy in 0..height_out {
            for ox in 0..width_out {
                let mut argmax = (plane * height + oy * stride) * width + ox * stride;
                for y in oy * stride..oy * stride + kernel {
                    for x_ in ox * stride..ox * stride + kernel {
                        let index = (plane * height + y) * width + x_;
                        if x.values[index] > x.values[argmax] {
                            argmax = index;
                        }
                    }
                }
                argmaxes.push(argmax);
            }
        }
    }
    (vec![batch, channels, height_out, width_out], argmaxes)
}
