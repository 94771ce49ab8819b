//! A lowered network: forward, backward, update.

use alexnet_core::{
    Batch, Images, Logits, Mode, Model, Optimizer, Result, State, Step, StepReport,
    backend::{Gradients, check_cotangent, gradient_of},
    loss::cross_entropy,
};
use rayon::prelude::*;
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    failed,
    lower::TchLayer,
    parameter::{Parameter, square_sum, to_array, to_tensor},
};

/// Pixels that one task turns into numbers.
const PIXELS: usize = 1 << 13;

/// A network on this engine.
pub struct TchModel {
    pub(crate) input: [usize; 3],
    pub(crate) classes: usize,
    pub(crate) layers: Vec<TchLayer>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) optimizer: Optimizer,
    pub(crate) device: Device,
    /// Whether moments were loaded or a step was made: before that a state has none.
    pub(crate) stepped: bool,
}

impl TchModel {
    /// Bytes `[N, H, W, 3]` to normalised numbers, `[N, 3, H, W]` in `channels_last` order, which is the order of the bytes.
    fn normalised(&self, images: &Images) -> Result<Tensor, TchError> {
        let [channels, height, width] = self.input.map(|extent| extent as i64);
        let table = images.normalization.table();
        let size = [images.len() as i64, height, width, channels];
        let x = Tensor::f_empty(size, (Kind::Float, Device::Cpu))?;
        // Piece by piece, so that numbers are still in the cache when libtorch copies them.
        let pieces = x.f_view(-1)?.f_split(3 * PIXELS as i64, 0)?;
        pieces.into_par_iter().zip(images.pixels.par_chunks(3 * PIXELS)).try_for_each(
            |(mut piece, bytes)| {
                let pixels = bytes.as_chunks::<3>().0.iter();
                let numbers: Vec<[f32; 3]> =
                    pixels.map(|pixel| std::array::from_fn(|c| table[c][usize::from(pixel[c])])).collect();
                piece.f_copy_(&Tensor::f_from_slice(numbers.as_flattened())?)
            },
        )?;
        x.f_permute([0, 3, 1, 2])?.f_to_device(self.device)
    }

    /// `[N, C]`, on the device.
    fn forward(&mut self, images: &Images, mode: Mode) -> Result<Tensor> {
        images.check(self.input)?;
        let mut x = self.normalised(images).map_err(failed)?;
        for layer in &mut self.layers {
            x = layer.forward(x, mode)?;
        }
        Ok(x)
    }

    fn to_host(&self, logits: &Tensor) -> Result<Logits> {
        Ok(Logits { values: to_array(logits).map_err(failed)?.values, classes: self.classes })
    }

    /// From the gradient of the logits to those of all parameters that learn, in their order.
    fn backward(&self, logits: &Tensor, dlogits: &Logits) -> Result<Vec<Tensor>> {
        if self.parameters.is_empty() {
            return Ok(Vec::new());
        }
        let gradients = || {
            let dlogits = Tensor::f_from_slice(&dlogits.values)?
                .f_view([-1, self.classes as i64])?
                .f_to_device(self.device)?;
            // Its derivative with respect to the logits is `dlogits`.
            let inner = logits.f_mul(&dlogits)?.f_sum(None)?;
            let parameters: Vec<&Tensor> = self.learning().map(|p| &p.value).collect();
            Tensor::f_run_backward(&[inner], &parameters, false, false)
        };
        gradients().map_err(failed)
    }

    fn forward_backward(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Vec<Tensor>)> {
        batch.check(self.input, self.classes)?;
        let logits = self.forward(&batch.images, step.mode())?;
        let (loss, dlogits) = cross_entropy(&self.to_host(&logits)?, &batch.targets);
        let gradients = self.backward(&logits, &dlogits)?;
        Ok((StepReport { loss, gradient_norm: norm(&gradients)? }, gradients))
    }

    /// Clips the gradients, whose norm is `gradient_norm`, and updates with them.
    fn update_clipped(&mut self, gradients: &[Tensor], gradient_norm: f64, step: &Step) -> Result<()> {
        let scale = step.gradient_scale(gradient_norm);
        let _guard = tch::no_grad_guard();
        let learning = self.parameters.iter_mut().filter(|parameter| parameter.learns);
        for (parameter, gradient) in learning.zip(gradients) {
            parameter.update(self.optimizer, step, gradient, scale).map_err(failed)?;
        }
        self.stepped = true;
        Ok(())
    }

    fn learning(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(|parameter| parameter.learns)
    }

    fn by_name(&self, gradients: &[Tensor]) -> Result<Gradients> {
        let named = self.learning().zip(gradients);
        named.map(|(p, gradient)| Ok((p.name.clone(), to_array(gradient).map_err(failed)?))).collect()
    }
}

/// The L2 norm over all gradients.
fn norm(gradients: &[Tensor]) -> Result<f64> {
    let sums = gradients.iter().map(square_sum).collect::<Result<Vec<f64>, _>>().map_err(failed)?;
    Ok(sums.iter().sum::<f64>().sqrt())
}

impl Model for TchModel {
    fn logits(&mut self, images: &Images) -> Result<Logits> {
        let _guard = tch::no_grad_guard();
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
            to_tensor(gradient, self.device).map_err(failed)
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
        let gradients = self.backward(&logits, cotangent)?;
        self.by_name(&gradients)
    }

    fn state(&self) -> Result<State> {
        let mut state = State::default();
        for parameter in &self.parameters {
            let value = to_array(&parameter.value).map_err(failed)?;
            state.parameters.insert(parameter.name.clone(), value);
            if self.stepped {
                state.moments.extend(parameter.moments(self.optimizer).map_err(failed)?);
            }
        }
        Ok(state)
    }
}
