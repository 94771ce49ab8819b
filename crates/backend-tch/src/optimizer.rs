//! The equations of the optimizers for a parameter, and the norm of its gradient, as libtorch's
//! operations on pieces that stay in the cache.

use alexnet_core::{
    Optimizer, Step,
    autodiff::ParameterState,
    optimizer::{Adam, AdamFactors},
};
use rayon::prelude::*;
use tch::{TchError, Tensor};

/// The number of elements of one piece. Its values, gradient and moments stay in the cache during
/// all operations of the equations.
const PIECE: i64 = 1 << 15;

/// Does one step of the equations in [`alexnet_core::optimizer`]. `gradient` is first multiplied by
/// `scale`, and may be overwritten.
///
/// # Errors
/// Those of libtorch.
pub fn update(
    p: &mut ParameterState<Tensor>,
    gradient: &Tensor,
    optimizer: &Optimizer,
    step: &Step,
    scale: f64,
) -> Result<(), TchError> {
    let (values, gradients) = (pieces(&p.values)?, pieces(gradient)?);
    let lr = f64::from(step.lr);
    match (*optimizer, p.moments.as_slice()) {
        (Optimizer::Adam { adam, weight_decay }, [m, v]) => {
            let factors = adam.factors(step.lr, step.number);
            (values, gradients, pieces(m)?, pieces(v)?).into_par_iter().try_for_each(
                |(w, g, m, v)| {
                    let g = with_decay(scaled(g, scale)?, &w, weight_decay)?;
                    adam_update(adam, factors, w, g, m, v)
                },
            )
        }
        (Optimizer::AdamW { adam, weight_decay }, [m, v]) => {
            let factors = adam.factors(step.lr, step.number);
            let weight_factor = 1.0 - lr * f64::from(weight_decay);
            (values, gradients, pieces(m)?, pieces(v)?).into_par_iter().try_for_each(
                |(w, g, m, v)| {
                    adam_update(adam, factors, scaled(w, weight_factor)?, scaled(g, scale)?, m, v)
                },
            )
        }
        (Optimizer::Sgd { momentum, weight_decay }, [b]) => {
            (values, gradients, pieces(b)?).into_par_iter().try_for_each(|(mut w, g, b)| {
                let g = with_decay(scaled(g, scale)?, &w, weight_decay)?;
                let b = scaled(b, f64::from(momentum))?.f_add_(&g)?;
                w.f_sub_(&b.f_mul_scalar(lr)?).map(drop)
            })
        }
        (Optimizer::SgdPaper { momentum, weight_decay }, [b]) => {
            (values, gradients, pieces(b)?).into_par_iter().try_for_each(|(mut w, g, b)| {
                let g = with_decay(scaled(g, scale)?, &w, weight_decay)?;
                let b = scaled(b, f64::from(momentum))?.f_add_(&scaled(g, lr)?)?;
                w.f_sub_(&b).map(drop)
            })
        }
        _ => unreachable!("the moments are those of `Optimizer::moments` of the same optimizer"),
    }
}

/// Computes `x ← factor · x`.
fn scaled(mut x: Tensor, factor: f64) -> Result<Tensor, TchError> {
    if factor == 1.0 { Ok(x) } else { x.f_mul_scalar_(factor) }
}

/// Computes `g ← g + λw`.
fn with_decay(mut g: Tensor, w: &Tensor, weight_decay: f32) -> Result<Tensor, TchError> {
    if weight_decay == 0.0 { Ok(g) } else { g.f_add_(&w.f_mul_scalar(f64::from(weight_decay))?) }
}

/// Computes the last three equations of Adam for one piece.
fn adam_update(
    Adam { beta1, beta2, eps }: Adam,
    AdamFactors { step_size, inverse_correction }: AdamFactors,
    mut w: Tensor,
    mut g: Tensor,
    mut m: Tensor,
    mut v: Tensor,
) -> Result<(), TchError> {
    // m ← m + (1-β₁)(g - m), v ← v + (1-β₂)(g² - v)
    let m = m.f_lerp_(&g, f64::from(1.0 - beta1))?;
    let v = v.f_lerp_(&g.f_square_()?, f64::from(1.0 - beta2))?;
    // w ← w + m / -(√v·correction + ε)/step_size
    let step_size = -f64::from(step_size);
    let denominator = v
        .f_sqrt_out(&g)?
        .f_mul_scalar_(f64::from(inverse_correction) / step_size)?
        .f_add_scalar_(f64::from(eps) / step_size)?;
    w.f_addcdiv_(&m, &denominator).map(drop)
}

/// Returns the sum of the squared gradient. libtorch sums each piece in f32; the sums of the pieces
/// are added in f64.
///
/// # Errors
/// Those of libtorch.
pub fn square_sum(gradient: &Tensor) -> Result<f64, TchError> {
    let sums = pieces(gradient)?
        .into_par_iter()
        .map(|piece| Ok(piece.f_norm()?.f_double_value(&[])?.powi(2)));
    // Collected first, so that they are added in a fixed order.
    Ok(sums.collect::<Result<Vec<f64>, TchError>>()?.iter().sum())
}

/// Returns pieces of all elements in memory order, which share the memory of the tensor. The pieces
/// of a parameter, its moments and libtorch's gradient of it have the same elements.
fn pieces(tensor: &Tensor) -> Result<Vec<Tensor>, TchError> {
    let tensor = tensor.f_detach()?;
    let in_order = match tensor.dim() {
        4 => tensor.f_permute([0, 2, 3, 1])?,
        _ => tensor,
    };
    in_order.f_contiguous()?.f_view(-1)?.f_split(PIECE, 0)
}
