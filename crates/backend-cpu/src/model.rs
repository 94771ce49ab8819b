//! A lowered network: forward, backward, update.

use alexnet_core::{
    Array, Batch, Images, Logits, Mode, Model, Optimizer, Result, State, Step, StepReport,
    backend::{Gradients, check_cotangent},
    loss::cross_entropy,
};
use rayon::prelude::*;

use crate::{
    layers::CpuLayer,
    parallel::ELEMENTS,
    parameter::Parameter,
    tensor::{Pool, Tensor},
};

/// A network on this engine.
pub struct CpuModel {
    pub(crate) input: [usize; 3],
    pub(crate) classes: usize,
    pub(crate) layers: Vec<Box<dyn CpuLayer>>,
    pub(crate) optimizer: Optimizer,
    pub(crate) pool: Pool,
    /// Whether moments were loaded or a step was made: before that a state has none.
    pub(crate) stepped: bool,
}

impl CpuModel {
    /// Bytes `[N, H, W, 3]` to normalised numbers in the same order, which is this engine's.
    fn normalised(&self, images: &Images) -> Tensor {
        let table = images.normalization.table();
        let mut x = self.pool.tensor(images.len(), &self.input);
        let pieces = x.values_mut().par_chunks_mut(3 * ELEMENTS).zip(images.pixels.par_chunks(3 * ELEMENTS));
        pieces.for_each(|(x, pixels)| {
            for (x, pixel) in x.chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
                x[0] = table[0][usize::from(pixel[0])];
                x[1] = table[1][usize::from(pixel[1])];
                x[2] = table[2][usize::from(pixel[2])];
            }
        });
        x
    }

    /// `[N, C]`.
    fn forward(&mut self, images: &Images, mode: Mode) -> Result<Logits> {
        images.check(self.input)?;
        let mut x = self.normalised(images);
        for layer in &mut self.layers {
            x = layer.forward(x, mode)?;
        }
        Ok(Logits { values: x.values().to_vec(), classes: self.classes })
    }

    /// From the gradient of the logits to those of all parameters that learn.
    fn backward(&mut self, dlogits: &Logits) -> Result<()> {
        let mut dy = self.pool.tensor(dlogits.values.len() / self.classes, &[self.classes]);
        dy.values_mut().copy_from_slice(&dlogits.values);
        // Nothing before the first layer that learns needs a gradient.
        let Some(first) = self.layers.iter().position(|layer| layer.learns()) else { return Ok(()) };
        for layer in self.layers[first..].iter_mut().rev() {
            dy = layer.backward(dy)?;
        }
        Ok(())
    }

    fn forward_backward(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        batch.check(self.input, self.classes)?;
        let logits = self.forward(&batch.images, Mode::Train { seed: step.seed, step: step.number })?;
        let (loss, dlogits) = cross_entropy(&logits, &batch.targets);
        self.backward(&dlogits)?;
        let square_sum: f64 = self.learning().map(Parameter::gradient_square_sum).sum();
        Ok(StepReport { loss, gradient_norm: square_sum.sqrt() })
    }

    fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.layers.iter().flat_map(|layer| layer.parameters())
    }

    fn learning(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters().filter(|parameter| parameter.learns)
    }

    fn gradients_by_name(&self) -> Gradients {
        self.learning()
            .map(|p| (p.name.clone(), Array { shape: p.shape.clone(), values: p.layout.export(&p.shape, &p.gradient) }))
            .collect()
    }
}

impl Model for CpuModel {
    fn logits(&mut self, images: &Images) -> Result<Logits> {
        self.forward(images, Mode::Evaluate)
    }

    fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        let report = self.forward_backward(batch, step)?;
        let scale = step.gradient_scale(report.gradient_norm);
        for layer in &mut self.layers {
            for parameter in layer.parameters_mut().iter_mut().filter(|parameter| parameter.learns) {
                parameter.update(&self.optimizer, step, scale as f32);
            }
        }
        self.stepped = true;
        Ok(report)
    }

    fn gradients(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Gradients)> {
        let report = self.forward_backward(batch, step)?;
        Ok((report, self.gradients_by_name()))
    }

    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients> {
        images.check(self.input)?;
        check_cotangent(cotangent, images.len(), self.classes)?;
        self.forward(images, Mode::Differentiate)?;
        self.backward(cotangent)?;
        Ok(self.gradients_by_name())
    }

    fn state(&self) -> Result<State> {
        let mut state = State::default();
        for p in self.parameters() {
            let array = |values: &Vec<f32>| Array { shape: p.shape.clone(), values: p.layout.export(&p.shape, values) };
            state.parameters.insert(p.name.clone(), array(&p.values));
            if self.stepped {
                let moments = self.optimizer.moments().iter().zip(&p.moments);
                state.moments.extend(moments.map(|(name, m)| (format!("{}.{name}", p.name), array(m))));
            }
        }
        Ok(state)
    }
}
