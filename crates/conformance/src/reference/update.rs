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
