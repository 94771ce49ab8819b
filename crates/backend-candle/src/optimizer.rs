//! The equations of the optimizers for a parameter, and the norm of its gradient.
//!
//! candle's own optimizers do not expose their moments, which must be part of the state. In a
//! composition of candle's operations, each term of the equations is a pass over memory, which
//! makes a training step on the CPU about a quarter longer. On the CPU the equations are therefore
//! custom loops.

use alexnet_core::{Optimizer, Step, autodiff::ParameterState, optimizer::Adam};
use candle_core::{CpuStorage, Device, Error, InplaceOp3, Layout, Result, Storage, Tensor, Var};
use rayon::prelude::*;

use crate::kernels::{ELEMENTS, values};

/// Does one step of the equations in [`alexnet_core::optimizer`]. `scale` is the factor of the
/// gradient (1 without clipping).
///
/// # Errors
/// Those of candle.
pub fn update(
    p: &mut ParameterState<Tensor>,
    gradient: &Tensor,
    optimizer: &Optimizer,
    step: &Step,
    scale: f32,
) -> Result<()> {
    let equations = Equations::new(optimizer, step, scale);
    match gradient.device() {
        Device::Cpu => equations.in_place(p, &gradient.contiguous()?),
        Device::Cuda(_) | Device::Metal(_) => equations.compose(p, gradient),
    }
}

/// The constants of a step. Adam and AdamW differ in the weight decay.
#[derive(Clone, Copy, Debug)]
struct Equations {
    kind: Kind,
    /// The factor of the gradient.
    scale: f32,
    /// The factor of the weight that is added to the gradient (L2 regularization).
    l2: f32,
    /// The factor of the weight before the step (decoupled weight decay).
    weight_factor: f32,
    /// The factor of the direction that is subtracted from the weight.
    step_size: f32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Adam {
        adam: Adam,
        inverse_correction: f32,
    },
    /// Both kinds of SGD; `gradient_factor` is 1, or the learning rate.
    Sgd {
        momentum: f32,
        gradient_factor: f32,
    },
}

impl Equations {
    fn new(optimizer: &Optimizer, step: &Step, scale: f32) -> Self {
        let lr = step.lr;
        let (adam, l2, weight_factor) = match *optimizer {
            Optimizer::Adam { adam, weight_decay } => (adam, weight_decay, 1.0),
            Optimizer::AdamW { adam, weight_decay } => (adam, 0.0, 1.0 - lr * weight_decay),
            Optimizer::Sgd { momentum, weight_decay: l2 } => {
                let kind = Kind::Sgd { momentum, gradient_factor: 1.0 };
                return Self { kind, scale, l2, weight_factor: 1.0, step_size: lr };
            }
            Optimizer::SgdPaper { momentum, weight_decay: l2 } => {
                let kind = Kind::Sgd { momentum, gradient_factor: lr };
                return Self { kind, scale, l2, weight_factor: 1.0, step_size: 1.0 };
            }
        };
        let factors = adam.factors(lr, step.number);
        let kind = Kind::Adam { adam, inverse_correction: factors.inverse_correction };
        Self { kind, scale, l2, weight_factor, step_size: factors.step_size }
    }

    /// Does the step on the CPU.
    fn in_place(self, p: &mut ParameterState<Tensor>, g: &Tensor) -> Result<()> {
        let Self { scale, l2, weight_factor, step_size, .. } = self;
        let w = &p.values;
        match (self.kind, p.moments.as_slice()) {
            (Kind::Adam { adam: Adam { beta1, beta2, eps }, inverse_correction }, [m, v]) => {
                m.inplace_op3(
                    g,
                    w,
                    &Elementwise(|m, g, w| beta1 * m + (1.0 - beta1) * (scale * g + l2 * w)),
                )?;
                v.inplace_op3(
                    g,
                    w,
                    &Elementwise(|v, g, w| {
                        let g = scale * g + l2 * w;
                        beta2 * v + (1.0 - beta2) * (g * g)
                    }),
                )?;
                w.inplace_op3(
                    m,
                    v,
                    &Elementwise(|w, m, v: f32| {
                        w * weight_factor - step_size * m / (v.sqrt() * inverse_correction + eps)
                    }),
                )
            }
            (Kind::Sgd { momentum, gradient_factor }, [b]) => {
                b.inplace_op3(
                    g,
                    w,
                    &Elementwise(|b, g, w| momentum * b + gradient_factor * (scale * g + l2 * w)),
                )?;
                w.inplace_op3(b, g, &Elementwise(|w, b, _| w - step_size * b))
            }
            _ => unreachable!("{MOMENTS}"),
        }
    }

    /// Does the step with candle's operations.
    fn compose(self, p: &mut ParameterState<Tensor>, g: &Tensor) -> Result<()> {
        let times = |x: &Tensor, factor: f32| x.affine(f64::from(factor), 0.0);
        let w = p.values.detach();
        let g = (times(g, self.scale)? + times(&w, self.l2)?)?;
        let direction = match (self.kind, p.moments.as_mut_slice()) {
            (Kind::Adam { adam: Adam { beta1, beta2, eps }, inverse_correction }, [m, v]) => {
                *m = (times(m, beta1)? + times(&g, 1.0 - beta1)?)?;
                *v = (times(v, beta2)? + times(&g.sqr()?, 1.0 - beta2)?)?;
                m.div(&v.sqrt()?.affine(f64::from(inverse_correction), f64::from(eps))?)?
            }
            (Kind::Sgd { momentum, gradient_factor }, [b]) => {
                *b = (times(b, momentum)? + times(&g, gradient_factor)?)?;
                b.clone()
            }
            _ => unreachable!("{MOMENTS}"),
        };
        // `values` is a variable, so this returns the same variable.
        Var::from_tensor(&p.values)?
            .set(&(times(&w, self.weight_factor)? - times(&direction, self.step_size)?)?)
    }
}

const MOMENTS: &str = "the moments are those of `Optimizer::moments` of the same optimizer";

/// Computes `x[i] = f(x[i], a[i], b[i])` for every i, in place.
struct Elementwise<F>(F);

impl<F: Fn(f32, f32, f32) -> f32 + Sync> InplaceOp3 for Elementwise<F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(x), Some((start, end))) = (x, x_layout.contiguous_offsets()) else {
            return Err(Error::RequiresContiguous { op: "update" });
        };
        let (a, b) = (values(a, a_layout)?, values(b, b_layout)?);
        (x[start..end].par_chunks_mut(ELEMENTS), a.par_chunks(ELEMENTS), b.par_chunks(ELEMENTS))
            .into_par_iter()
            .for_each(|(x, a, b)| {
                for ((x, a), b) in x.iter_mut().zip(a).zip(b) {
                    *x = (self.0)(*x, *a, *b);
                }
            });
        Ok(())
    }
}

/// Returns the sum of the squares; on the CPU it is computed in f64.
///
/// # Errors
/// Those of candle.
pub fn square_sum(tensor: &Tensor) -> Result<f64> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Ok(f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?));
    };
    let sum = |values: &[f32]| values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let partial: Vec<f64> = values(storage, layout)?.par_chunks(ELEMENTS).map(sum).collect();
    Ok(partial.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The composition is for GPUs; this test runs it on the CPU.
    #[test]
    fn the_composition_equals_the_custom_loops() {
        let adam = Adam { beta1: 0.8, beta2: 0.9, eps: 0.01 };
        for optimizer in [
            Optimizer::Adam { adam, weight_decay: 0.5 },
            Optimizer::AdamW { adam, weight_decay: 5.0 },
            Optimizer::Sgd { momentum: 0.5, weight_decay: 0.5 },
            Optimizer::SgdPaper { momentum: 0.5, weight_decay: 0.5 },
        ] {
            let numbers = |seed: usize| -> Vec<f32> {
                (0..50).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
            };
            let tensor = |seed| Tensor::from_vec(numbers(seed), (5, 10), &Device::Cpu).unwrap();
            let fresh = || ParameterState {
                name: "it".into(),
                shape: vec![5, 10],
                values: Var::from_tensor(&tensor(0)).unwrap().into_inner(),
                trainable: true,
                moments: optimizer
                    .moments()
                    .iter()
                    .map(|_| tensor(0).zeros_like().unwrap())
                    .collect(),
            };
            let (mut a, mut b) = (fresh(), fresh());
            for number in 1..=3 {
                let step =
                    Step { micro_batch: None, number, seed: 0, lr: 0.01, clip_grad_norm: None };
                let equations = Equations::new(&optimizer, &step, 0.7);
                equations.in_place(&mut a, &tensor(number as usize)).unwrap();
                equations.compose(&mut b, &tensor(number as usize)).unwrap();
            }
            let all = |p: &ParameterState<Tensor>| -> Vec<f32> {
                let tensors = std::iter::once(&p.values).chain(&p.moments);
                tensors.flat_map(|t| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
            };
            assert_ne!(all(&a), all(&fresh()));
            for (a, b) in all(&a).into_iter().zip(all(&b)) {
                assert!((a - b).abs() < 1e-6, "{a} and {b} with {optimizer:?}");
            }
        }
    }
}
