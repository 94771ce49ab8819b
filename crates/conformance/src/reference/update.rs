//! The equations of the optimizers ([`alexnet_core::optimizer`]) in f64.

use alexnet_core::{Optimizer, Step, optimizer::Adam};

use super::tensor::Tensor;

/// Returns the factor of `torch.nn.utils.clip_grad_norm_`.
pub(crate) fn clip_factor(gradient_norm: f64, limit: Option<f32>) -> f64 {
    limit.map_or(1.0, |limit| (f64::from(limit) / (gradient_norm + 1e-6)).min(1.0))
}

/// Updates one parameter and its moments, which are in the order of [`Optimizer::moments`].
pub(crate) fn update(
    optimizer: &Optimizer,
    step: &Step,
    parameter: &mut Tensor,
    gradient: &Tensor,
    moments: &mut [Tensor],
) {
    let lr = f64::from(step.lr);
    let elements = parameter.values.iter_mut().zip(&gradient.values).enumerate();
    match (optimizer, moments) {
        (Optimizer::Adam { adam, weight_decay }, [m, v]) => {
            for (i, (w, g)) in elements {
                let g = g + f64::from(*weight_decay) * *w;
                adam_element(adam, step, w, g, &mut m.values[i], &mut v.values[i]);
            }
        }
        (Optimizer::AdamW { adam, weight_decay }, [m, v]) => {
            for (i, (w, g)) in elements {
                *w *= 1.0 - lr * f64::from(*weight_decay);
                adam_element(adam, step, w, *g, &mut m.values[i], &mut v.values[i]);
            }
        }
        (Optimizer::Sgd { momentum, weight_decay }, [b]) => {
            for (i, (w, g)) in elements {
                let b = &mut b.values[i];
                *b = f64::from(*momentum) * *b + g + f64::from(*weight_decay) * *w;
                *w -= lr * *b;
            }
        }
        (Optimizer::SgdPaper { momentum, weight_decay }, [b]) => {
            for (i, (w, g)) in elements {
                let b = &mut b.values[i];
                *b = f64::from(*momentum) * *b + lr * (g + f64::from(*weight_decay) * *w);
                *w -= *b;
            }
        }
        _ => unreachable!("there are as many moments as `Optimizer::moments` names"),
    }
}

fn adam_element(adam: &Adam, step: &Step, w: &mut f64, g: f64, m: &mut f64, v: &mut f64) {
    let (beta1, beta2) = (f64::from(adam.beta1), f64::from(adam.beta2));
    let correction = |beta: f64| 1.0 - beta.powf(step.number as f64);
    *m = beta1 * *m + (1.0 - beta1) * g;
    *v = beta2 * *v + (1.0 - beta2) * g * g;
    let denominator = v.sqrt() / correction(beta2).sqrt() + f64::from(adam.eps);
    *w -= f64::from(step.lr) / correction(beta1) * *m / denominator;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// import numpy as np
    /// mu, decay = np.float32([0.9, 5e-4]).tolist()
    /// rates = np.float32([0.1, 0.1, 0.01, 0.01]).tolist()
    /// w, v = np.array([1.0, -2.0]), np.zeros(2)
    /// for rate, g in zip(rates, [[0.5, 1.0], [-1.0, 0.25], [0.5, 0.5], [0.0, -1.0]]):
    ///     v = mu * v - decay * rate * w - rate * np.array(g)  # the paper, section 5
    ///     w = w + v
    /// print(w.tolist(), (-v).tolist())
    /// ```
    #[test]
    fn the_sgd_of_the_paper_is_its_equation() {
        let mut w = Tensor { shape: vec![2], values: vec![1.0, -2.0] };
        let mut moments = [Tensor::zeros(&[2])];
        let gradients = [[0.5, 1.0], [-1.0, 0.25], [0.5, 0.5], [0.0, -1.0]];
        for ((number, lr), g) in (1..).zip([0.1, 0.1, 0.01, 0.01]).zip(gradients) {
            let step = Step { micro_batch: None, number, seed: 0, lr, clip_grad_norm: None };
            let g = Tensor { shape: vec![2], values: g.to_vec() };
            let optimizer = Optimizer::SgdPaper { momentum: 0.9, weight_decay: 5e-4 };
            update(&optimizer, &step, &mut w, &g, &mut moments);
        }
        let [b] = moments;
        let expected =
            [1.0892345406394826, -2.410488900627593, -0.039965308309126084, 0.08747046731072584];
        for (found, expected) in w.values.iter().chain(&b.values).zip(expected) {
            assert!((found - expected).abs() < 1e-14, "{found}, {expected}");
        }
    }
}
