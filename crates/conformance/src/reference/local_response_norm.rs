//! Local response normalization across channels (paper, section 3.3).

use std::ops::Range;

use alexnet_core::Op;

use super::tensor::Tensor;

struct Constants {
    size: usize,
    alpha: f64,
    beta: f64,
    k: f64,
}

impl Constants {
    fn new(op: &Op) -> Self {
        let Op::LocalResponseNorm { size, alpha, beta, k } = *op else {
            unreachable!("only called for normalizations")
        };
        Self { size, alpha: alpha.into(), beta: beta.into(), k: k.into() }
    }

    /// Returns the channels in the sum of channel `c`.
    fn window(&self, c: usize, channels: usize) -> Range<usize> {
        c.saturating_sub(self.size / 2)..(c + (self.size - 1) / 2 + 1).min(channels)
    }

    /// Returns `k + alpha · Σ x²` for every element of `x`.
    fn base(&self, x: &Tensor) -> Tensor {
        let mut base = x.map(|_| self.k);
        let [batch, channels, height, width] = x.dimensions();
        let plane = height * width;
        for n in 0..batch {
            for c in 0..channels {
                for j in self.window(c, channels) {
                    for p in 0..plane {
                        let neighbor = x.values[(n * channels + j) * plane + p];
                        base.values[(n * channels + c) * plane + p] +=
                            self.alpha * neighbor * neighbor;
                    }
                }
            }
        }
        base
    }
}

/// Computes the output `[N, C, H, W]`.
pub(crate) fn forward(op: &Op, x: &Tensor) -> Tensor {
    let constants = Constants::new(op);
    let mut y = constants.base(x);
    for (y, x) in y.values.iter_mut().zip(&x.values) {
        *y = x / y.powf(constants.beta);
    }
    y
}

/// Returns the gradient of `x` for the gradient `dy` of the output. With s the base, it is `dx[j] =
/// dy[j]·s[j]^-β - 2αβ·x[j]·Σ dy[c]·x[c]·s[c]^(-β-1)`, summed over the channels c that have j in
/// their window.
pub(crate) fn backward(op: &Op, x: &Tensor, dy: &Tensor) -> Tensor {
    let constants = Constants::new(op);
    let base = constants.base(x);
    let [batch, channels, height, width] = x.dimensions();
    let plane = height * width;
    let mut dx = Tensor::zeros(&x.shape);
    for n in 0..batch {
        for c in 0..channels {
            for p in 0..plane {
                let at = |channel: usize| (n * channels + channel) * plane + p;
                let (s, dy) = (base.values[at(c)], dy.values[at(c)]);
                let power = s.powf(-constants.beta);
                dx.values[at(c)] += dy * power;
                let slope =
                    2.0 * constants.alpha * constants.beta * dy * x.values[at(c)] * power / s;
                for j in constants.window(c, channels) {
                    dx.values[at(j)] -= slope * x.values[at(j)];
                }
            }
        }
    }
    dx
}
