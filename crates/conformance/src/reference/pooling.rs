//! Max pooling, overlapping or not (`torch.nn.MaxPool2d`).

use super::tensor::Tensor;

/// `[N, C, H, W]` to `[N, C, H', W']`.
pub(crate) fn forward(kernel: usize, stride: usize, x: &Tensor) -> Tensor {
    let (shape, winners) = winners(kernel, stride, x);
    Tensor { shape, values: winners.into_iter().map(|i| x.values[i]).collect() }
}

/// The gradient of `x` for the gradient `dy` of the output: each window gives all to its maximum.
pub(crate) fn backward(kernel: usize, stride: usize, x: &Tensor, dy: &Tensor) -> Tensor {
    let mut dx = Tensor::zeros(&x.shape);
    for (winner, dy) in winners(kernel, stride, x).1.into_iter().zip(&dy.values) {
        dx.values[winner] += dy;
    }
    dx
}

/// By how much the closest window is decided: the smallest difference between a maximum and the next smaller value of its
/// window. Exact ties do not count, because they are decided by position.
pub(crate) fn smallest_lead(kernel: usize, stride: usize, x: &Tensor) -> f64 {
    let [.., height, width] = x.dimensions();
    let (shape, winners) = winners(kernel, stride, x);
    let (height_out, width_out) = (shape[2], shape[3]);
    let mut smallest = f64::INFINITY;
    for (i, winner) in winners.into_iter().enumerate() {
        let (plane, oy, ox) = (i / (height_out * width_out), i / width_out % height_out, i % width_out);
        for y in oy * stride..oy * stride + kernel {
            for x_ in ox * stride..ox * stride + kernel {
                let lead = x.values[winner] - x.values[(plane * height + y) * width + x_];
                if lead > 0.0 {
                    smallest = smallest.min(lead);
                }
            }
        }
    }
    smallest
}

/// The output's shape and, for each window, the index in `x` of its first maximum in row-major order.
fn winners(kernel: usize, stride: usize, x: &Tensor) -> (Vec<usize>, Vec<usize>) {
    let [batch, channels, height, width] = x.dimensions();
    let extent = |size: usize| (size - kernel) / stride + 1;
    let (height_out, width_out) = (extent(height), extent(width));
    let mut winners = Vec::new();
    for plane in 0..batch * channels {
        for oy in 0..height_out {
            for ox in 0..width_out {
                let mut winner = (plane * height + oy * stride) * width + ox * stride;
                for y in oy * stride..oy * stride + kernel {
                    for x_ in ox * stride..ox * stride + kernel {
                        let index = (plane * height + y) * width + x_;
                        if x.values[index] > x.values[winner] {
                            winner = index;
                        }
                    }
                }
                winners.push(winner);
            }
        }
    }
    (vec![batch, channels, height_out, width_out], winners)
}
