//! A lowered network: forward, backward through candle's graph, update.

use alexnet_core::{
    Batch, Error, Images, Layer, Logits, Mode, Model, Optimizer, Result, State, Step, StepReport,
    backend::{Gradients, check_cotangent, gradient_of},
    loss::cross_entropy,
};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::{
    NAME, failed,
    parameter::{Parameter, to_array, to_tensor},
    update::{square_sum, update},
};

/// A network on this engine.
pub struct CandleModel {
    pub(crate) input: [usize; 3],
    pub(crate) classes: usize,
    pub(crate) device: Device,
    pub(crate) layers: Vec<Box<dyn Layer<Tensor> + Send>>,
    /// Those of all layers, which hold the same storage.
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) optimizer: Optimizer,
    /// Whether moments were loaded or a step was made: before that a state has none.
    pub(crate) stepped: bool,
}

impl CandleModel {
    /// Bytes `[N, H, W, 3]` to numbers, in the same order.
    fn normalised(&self, images: &Images) -> candle_core::Result<Tensor> {
        let table = images.normalization.table();
        let mut values = vec![0.0; images.pixels.len()];
        let rows = values.par_chunks_mut(3 * images.width).zip(images.pixels.par_chunks(3 * images.width));
        rows.for_each(|(values, pixels)| {
            for (values, pixel) in values.chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
                for c in 0..3 {
                    values[c] = table[c][usize::from(pixel[c])];
                }
            }
        });
        Tensor::from_vec(values, (images.len(), images.height, images.width, 3), &self.device)
    }

    /// The logits `[N, C]` as a tensor, which holds the graph of the pass unless `mode` is to evaluate.
    fn forward(&mut self, images: &Images, mode: Mode) -> Result<Tensor> {
        images.check(self.input)?;
        let mut x = self.normalised(images).map_err(failed)?;
        for layer in &mut self.layers {
            x = layer.forward(x, mode)?;
        }
        Ok(x)
    }

    fn to_host(&self, logits: &Tensor) -> Result<Logits> {
        let values = logits.flatten_all().and_then(|l| l.to_vec1()).map_err(failed)?;
        Ok(Logits { values, classes: self.classes })
    }

    /// The gradient of `Σ cotangent · logits` with respect to each parameter that learns.
    fn backward(&self, logits: &Tensor, cotangent: &Logits) -> Result<Vec<Tensor>> {
        let mut gradients = Tensor::from_slice(&cotangent.values, logits.shape(), &self.device)
            .and_then(|constant| (logits * constant)?.sum_all()?.backward())
            .map_err(failed)?;
        let of = |parameter: &Parameter| {
            gradients.remove(&parameter.values).ok_or_else(|| Error::Backend {
                backend: NAME,
                message: format!("no gradient reached {}", parameter.name),
            })
        };
        self.learning().map(of).collect()
    }

    fn forward_backward(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Vec<Tensor>)> {
        batch.check(self.input, self.classes)?;
        let logits = self.forward(&batch.images, step.mode())?;
        let (loss, dlogits) = cross_entropy(&self.to_host(&logits)?, &batch.targets);
        let gradients = self.backward(&logits, &dlogits)?;
        let gradient_norm = norm(&gradients)?;
        Ok((StepReport { loss, gradient_norm }, gradients))
    }

    /// Clips the gradients, whose norm is `gradient_norm`, and updates with them.
    fn update_clipped(&mut self, gradients: &[Tensor], gradient_norm: f64, step: &Step) -> Result<()> {
        let scale = step.gradient_scale(gradient_norm);
        let learning = self.parameters.iter_mut().filter(|parameter| parameter.learns);
        for (parameter, gradient) in learning.zip(gradients) {
            update(parameter, gradient, &self.optimizer, step, scale as f32).map_err(failed)?;
        }
        self.stepped = true;
        Ok(())
    }

    fn learning(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(|parameter| parameter.learns)
    }

    fn by_name(&self, gradients: &[Tensor]) -> Result<Gradients> {
        let pairs = self.learning().zip(gradients);
        pairs.map(|(p, gradient)| Ok((p.name.clone(), to_array(gradient).map_err(failed)?))).collect()
    }
}

/// The L2 norm over all gradients.
fn norm(gradients: &[Tensor]) -> Result<f64> {
    let squares: candle_core::Result<Vec<f64>> = gradients.iter().map(square_sum).collect();
    Ok(squares.map_err(failed)?.iter().sum::<f64>().sqrt())
}

impl Model for CandleModel {
    fn logits(&mut self, images: &Images) -> Result<Logits> {
        let logits = self.forward(images, Mode::Evaluate)?;
        self.to_host(&logits)
    }

    fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        let (report, gradients) = self.forward_backward(batch, step)?;
        self.update_clipped(&gradients, report.gradient_norm, step)?;
        Ok(report)
    }

    fn gradients(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Gradients)> {
        let (report, gradients) = self.forward_backward(batch, step)?;
        Ok((report, self.by_name(&gradients)?))
    }

    fn update(&mut self, gradients: &Gradients, step: &Step) -> Result<f64> {
        let of = |p: &Parameter| {
            let gradient = gradient_of(gradients, &p.name, &p.shape())?;
            to_tensor(gradient, &self.device).map_err(failed)
        };
        let gradients: Vec<Tensor> = self.learning().map(of).collect::<Result<_>>()?;
        let norm = norm(&gradients)?;
        self.update_clipped(&gradients, norm, step)?;
        Ok(norm)
    }

    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients> {
        images.check(self.input)?;
        check_cotangent(cotangent, images.len(), self.classes)?;
        let logits = self.forward(images, Mode::Differentiate)?;
        self.by_name(&self.backward(&logits, cotangent)?)
    }

    fn state(&self) -> Result<State> {
        let mut state = State::default();
        for p in &self.parameters {
            state.parameters.insert(p.name.clone(), to_array(&p.values).map_err(failed)?);
            if self.stepped {
                for (name, moment) in self.optimizer.moments().iter().zip(&p.moments) {
                    state.moments.insert(format!("{}.{name}", p.name), to_array(moment).map_err(failed)?);
                }
            }
        }
        Ok(state)
    }
}
