//! A lowered network with its forward pass, backward pass and update.

use std::collections::BTreeMap;

use alexnet_core::{
    Array, Batch, Error, Images, Inspection, Logits, Mode, Model, Optimizer, Parameters, ReluRule,
    Result, State, Step, StepReport,
    backend::{Gradients, check_cotangent, gradient_of},
    inspection::Observed,
    loss::cross_entropy,
};
use rayon::prelude::*;

use crate::{
    device::NAME,
    divided::Divided,
    division::LayerRanks,
    kernels::Isa,
    layers::{CpuLayer, needs_backward},
    memory,
    optimizer::Update,
    parallel::ELEMENTS,
    parameter::ParameterState,
    tensor::{Pool, Tensor},
};

/// A network on this engine.
pub struct CpuModel {
    pub(crate) input: [usize; 3],
    pub(crate) classes: usize,
    pub(crate) layers: Vec<Box<dyn CpuLayer>>,
    /// If layers are divided among ranks.
    pub(crate) divided: Option<Divided>,
    pub(crate) observed: Observed,
    pub(crate) optimizer: Optimizer,
    pub(crate) isa: Isa,
    pub(crate) pool: Pool,
    /// Whether moments were loaded or a step was done. Before that, the state has no moments.
    pub(crate) stepped: bool,
}

impl CpuModel {
    /// Returns the logits `[N, C]` of these images. Without images, it computes nothing, unless
    /// layers are divided among ranks: then it takes part in the computation for the other ranks.
    fn forward(&mut self, images: Option<&Images>, mode: Mode) -> Result<Tensor> {
        images.map_or(Ok(()), |images| images.check(self.input))?;
        let Self { input, classes, layers, divided, pool, .. } = self;
        // Other ranks may train with layers that are divided.
        let for_backward = needs_backward(mode) || divided.is_some();
        layers.par_iter_mut().for_each(|layer| layer.prepare(for_backward));
        let run = |layers: &mut [Box<dyn CpuLayer>], x: Tensor, mode| {
            layers.iter_mut().try_fold(x, |x, layer| layer.forward(x, mode))
        };
        let nothing = || Ok(pool.tensor(0, &[*classes]));
        let Some(divided) = divided else {
            return images
                .map_or_else(nothing, |own| run(layers, normalize(own, *input, pool), mode));
        };
        let Some(mode_of_all) = divided.begin(images, mode)? else {
            return nothing();
        };
        let (before, after) = layers.split_at_mut(divided.first);
        let all = match images {
            _ if before.is_empty() => {
                normalize(&divided.gather_images(images, *input)?, *input, pool)
            }
            Some(own) => divided.gather(&run(before, normalize(own, *input, pool), mode)?)?,
            None => divided.gather(&pool.tensor(0, &after[0].parameters()[0].shape[1..]))?,
        };
        Ok(divided.own_items(&run(after, all, mode_of_all)?))
    }

    fn logits_of(&mut self, images: &Images, mode: Mode) -> Result<Logits> {
        let logits = self.forward(Some(images), mode)?;
        Ok(Logits { values: logits.values().to_vec(), classes: self.classes })
    }

    /// Calls `pass` for the layers from the last to the first trainable one, with the gradient of
    /// the layer's output. Earlier layers need no gradient.
    fn for_each_backward(
        &mut self,
        dlogits: &Logits,
        mut pass: impl FnMut(&mut dyn CpuLayer, Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        let mut dy = self.pool.tensor(dlogits.values.len() / self.classes, &[self.classes]);
        dy.values_mut().copy_from_slice(&dlogits.values);
        let Some(first) = self.layers.iter().position(|layer| layer.is_trainable()) else {
            return Ok(());
        };
        if let Some(divided) = &self.divided {
            dy = divided.gather(&dy)?;
        }
        for (index, layer) in self.layers.iter_mut().enumerate().skip(first).rev() {
            dy = pass(layer.as_mut(), dy)?;
            if let Some(divided) = &self.divided
                && index == divided.first
                && index > first
            {
                dy = divided.own_gradients(&dy)?;
            }
        }
        Ok(())
    }

    /// Computes the gradients of all trainable parameters from the gradient of the logits.
    fn backward(&mut self, dlogits: &Logits) -> Result<()> {
        self.for_each_backward(dlogits, |layer, dy| layer.backward(dy))
    }

    /// Returns the mean loss and the gradient of the logits.
    fn loss(&mut self, batch: &Batch, step: &Step) -> Result<(f64, Logits)> {
        batch.check(self.input, self.classes)?;
        let logits = self.logits_of(&batch.images, step.mode())?;
        Ok(cross_entropy(&logits, &batch.targets, step.micro_batch))
    }

    fn forward_backward(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        let (loss, dlogits) = self.loss(batch, step)?;
        self.backward(&dlogits)?;
        Ok(StepReport { loss, gradient_norm: self.gradient_norm()? })
    }

    fn gradient_norm(&self) -> Result<f64> {
        let mut square_sum = 0.0;
        for parameter in self.trainable_parameters() {
            let mut sums = parameter.gradient_square_sums(self.isa);
            if let Some(divided) = &self.divided
                && parameter.is_divided()
            {
                sums = divided.ranks.gather_numbers(&sums)?;
            }
            square_sum += sums.iter().sum::<f64>();
        }
        Ok(square_sum.sqrt())
    }

    /// Clips the gradients, whose norm is `gradient_norm`, and updates the parameters.
    fn update_clipped(&mut self, gradient_norm: f64, step: &Step) {
        self.stepped = true;
        let (isa, scale) = (self.isa, step.gradient_scale(gradient_norm));
        let update = Update::new(&self.optimizer, step, scale as f32);
        self.trainable_parameters_mut().for_each(|parameter| parameter.update(isa, &update));
    }

    /// Updates the parameters that are not divided, after a backward pass in which the ranks have
    /// updated the others. `own` is the share of this rank in the sum of the squared gradients of
    /// those. Returns the norm of all gradients.
    fn update_whole(&mut self, ranks: &LayerRanks, own: f64, step: &Step) -> Result<f64> {
        self.stepped = true;
        let mut square_sum: f64 = ranks.gather_numbers(&[own])?.iter().sum();
        let (isa, update) = (self.isa, Update::new(&self.optimizer, step, 1.0));
        for layer in self.layers.iter_mut().filter(|layer| is_trained_whole(layer.as_ref())) {
            for parameter in layer.parameters_mut().iter_mut().filter(|p| p.trainable) {
                square_sum += parameter.gradient_square_sum(isa);
                parameter.update(isa, &update);
            }
        }
        Ok(square_sum.sqrt())
    }

    fn step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        if step.clip_grad_norm.is_some() {
            // The norm of all gradients must be known before the first update.
            let report = self.forward_backward(batch, step)?;
            self.update_clipped(report.gradient_norm, step);
            return Ok(report);
        }
        let (loss, dlogits) = self.loss(batch, step)?;
        self.stepped = true;
        let update = Update::new(&self.optimizer, step, 1.0);
        let isa = self.isa;
        let mut square_sum = 0.0;
        self.for_each_backward(&dlogits, |layer, dy| {
            let (dx, layer_sum) = layer.backward_and_update(dy, isa, &update)?;
            square_sum += layer_sum;
            Ok(dx)
        })?;
        Ok(StepReport { loss, gradient_norm: square_sum.sqrt() })
    }

    fn inspect_in_pool(
        &mut self,
        images: &Images,
        cotangent: &Logits,
        rule: ReluRule,
    ) -> Result<Inspection> {
        let mut x = normalize(images, self.input, &self.pool);
        self.layers.par_iter_mut().for_each(|layer| layer.prepare(true));
        let Self { classes, layers, observed, pool, .. } = self;
        let classes = *classes;
        let (mut activations, mut gradients) = (BTreeMap::new(), BTreeMap::new());
        for (index, layer) in layers.iter_mut().enumerate() {
            x = layer.forward(x, Mode::Differentiate)?;
            for node in observed.after(index + 1) {
                activations.insert(node.name.clone(), x.to_array());
            }
        }
        let logits = Logits { values: x.values().to_vec(), classes };
        let mut dy = pool.tensor(images.len(), &[classes]);
        dy.values_mut().copy_from_slice(&cotangent.values);
        for (index, layer) in layers.iter_mut().enumerate().rev() {
            for node in observed.after(index + 1) {
                gradients.insert(node.name.clone(), dy.to_array());
                if node.is_relu && rule == ReluRule::Guided {
                    dy.values_mut().par_iter_mut().for_each(|dy| *dy = dy.max(0.0));
                }
            }
            dy = layer.backward(dy)?;
        }
        Ok(Inspection { logits, activations, gradients, input_gradient: dy.to_array() })
    }

    fn parameters(&self) -> impl Iterator<Item = &ParameterState> {
        self.layers.iter().flat_map(|layer| layer.parameters())
    }

    fn trainable_parameters(&self) -> impl Iterator<Item = &ParameterState> {
        self.parameters().filter(|parameter| parameter.trainable)
    }

    fn trainable_parameters_mut(&mut self) -> impl Iterator<Item = &mut ParameterState> {
        let parameters = self.layers.iter_mut().flat_map(|layer| layer.parameters_mut());
        parameters.filter(|parameter| parameter.trainable)
    }

    fn gradients_by_name(&self) -> Gradients {
        self.trainable_parameters().map(|p| (p.name.clone(), p.gradient_array())).collect()
    }

    /// Returns `values`, which are the values or a moment of `parameter`. If it is divided, `gather`
    /// is called with the rows of this rank and the number of all rows.
    fn array(
        &self,
        parameter: &ParameterState,
        values: &[f32],
        gather: impl FnOnce(&LayerRanks, Array, usize) -> Result<Array>,
    ) -> Result<Array> {
        let shape = parameter.own_shape();
        let own = Array { values: parameter.layout.export(&shape, values), shape };
        match &self.divided {
            Some(divided) if parameter.is_divided() => {
                gather(&divided.ranks, own, parameter.shape[0])
            }
            _ => Ok(own),
        }
    }

    /// Refuses what a model whose layers are divided among ranks cannot do.
    fn check_whole(&self) -> Result<()> {
        match self.divided {
            None => Ok(()),
            Some(_) => Err(Error::Backend {
                backend: NAME,
                message: "a network that is divided among ranks can only be trained and evaluated"
                    .into(),
            }),
        }
    }

    /// Runs `work` on a thread of the caller's pool, or of the global one. The parallel loops inside
    /// then start without the cost of switching to a pool thread and waiting for it. But if `work`
    /// waits for other ranks, it runs on the caller's thread: ranks may be threads that share a pool.
    fn in_pool<R: Send>(&mut self, work: impl FnOnce(&mut Self) -> R + Send) -> R {
        match self.divided {
            None => rayon::scope(|_| work(self)),
            Some(_) => work(self),
        }
    }
}

/// Converts the bytes `[N, H, W, 3]` to normalized numbers in the same order, which is the layout of
/// this engine.
fn normalize(images: &Images, input: [usize; 3], pool: &Pool) -> Tensor {
    let table = images.normalization.table();
    let mut x = pool.tensor(images.len(), &input);
    let pieces =
        x.values_mut().par_chunks_mut(3 * ELEMENTS).zip(images.pixels.par_chunks(3 * ELEMENTS));
    pieces.for_each(|(x, pixels)| {
        for (x, pixel) in x.chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
            x[0] = table[0][usize::from(pixel[0])];
            x[1] = table[1][usize::from(pixel[1])];
            x[2] = table[2][usize::from(pixel[2])];
        }
    });
    x
}

/// Whether the layer has trainable parameters, which are not divided among ranks.
fn is_trained_whole(layer: &dyn CpuLayer) -> bool {
    layer.is_trainable() && !layer.is_divided()
}

impl Model for CpuModel {
    fn logits(&mut self, images: &Images) -> Result<Logits> {
        self.in_pool(|model| model.logits_of(images, Mode::Evaluate))
    }

    fn take_part(&mut self) -> Result<()> {
        match self.divided {
            None => Ok(()),
            Some(_) => self.forward(None, Mode::Evaluate).map(drop),
        }
    }

    fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        self.check_whole()?;
        self.in_pool(|model| model.step(batch, step))
    }

    fn gradients(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Gradients)> {
        self.check_whole()?;
        let report = self.in_pool(|model| model.forward_backward(batch, step))?;
        Ok((report, self.gradients_by_name()))
    }

    fn hand_out_gradients(
        &mut self,
        batch: &Batch,
        step: &Step,
        hand_out: &mut (dyn FnMut(String, Array) + Send),
    ) -> Result<f64> {
        self.in_pool(|model| {
            let (loss, dlogits) = model.loss(batch, step)?;
            let (isa, update) = (model.isa, Update::new(&model.optimizer, step, 1.0));
            let mut divided_square_sum = 0.0;
            model.for_each_backward(&dlogits, |layer, dy| {
                if layer.is_divided() {
                    if step.clip_grad_norm.is_some() {
                        return layer.backward(dy);
                    }
                    let (dx, square_sum) = layer.backward_and_update(dy, isa, &update)?;
                    divided_square_sum += square_sum;
                    return Ok(dx);
                }
                let dx = layer.backward(dy)?;
                for p in layer.parameters().iter().filter(|p| p.trainable) {
                    hand_out(p.name.clone(), p.gradient_array());
                }
                Ok(dx)
            })?;
            if let Some(divided) = &mut model.divided {
                divided.square_sum = step.clip_grad_norm.is_none().then_some(divided_square_sum);
            }
            Ok(loss)
        })
    }

    fn update(&mut self, gradients: &Gradients, step: &Step) -> Result<f64> {
        let whole = self.layers.iter_mut().filter(|layer| is_trained_whole(layer.as_ref()));
        let whole: Vec<_> =
            whole.flat_map(|layer| layer.parameters_mut()).filter(|p| p.trainable).collect();
        whole.iter().try_for_each(|p| gradient_of(gradients, &p.name, &p.shape).map(drop))?;
        for p in whole {
            let gradient = gradient_of(gradients, &p.name, &p.shape)?;
            p.gradient = p.layout.import(&p.shape, gradient.values.clone());
        }
        self.in_pool(|model| {
            if let Some(divided) = &mut model.divided
                && let Some(own) = divided.square_sum.take()
            {
                let ranks = divided.ranks.clone();
                return model.update_whole(&ranks, own, step);
            }
            let norm = model.gradient_norm()?;
            model.update_clipped(norm, step);
            Ok(norm)
        })
    }

    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients> {
        images.check(self.input)?;
        check_cotangent(cotangent, images.len(), self.classes)?;
        self.check_whole()?;
        self.in_pool(|model| {
            model.forward(Some(images), Mode::Differentiate)?;
            model.backward(cotangent)
        })?;
        Ok(self.gradients_by_name())
    }

    fn inspect(
        &mut self,
        images: &Images,
        cotangent: &Logits,
        rule: ReluRule,
    ) -> Result<Inspection> {
        images.check(self.input)?;
        check_cotangent(cotangent, images.len(), self.classes)?;
        self.observed.check(rule)?;
        self.check_whole()?;
        self.in_pool(|model| model.inspect_in_pool(images, cotangent, rule))
    }

    fn parameters(&self) -> Result<Parameters> {
        let whole = |ranks: &LayerRanks, own, outputs| ranks.whole_array(&own, outputs);
        let named = |p: &ParameterState| Ok((p.name.clone(), self.array(p, &p.values, whole)?));
        CpuModel::parameters(self).map(named).collect()
    }

    fn state(&self) -> Result<State> {
        // Frees memory for the copy. The buffers of a step are allocated again in less time than a
        // step takes.
        self.pool.clear();
        memory::release_freed_memory();
        let array = |p, values: &[f32]| self.array(p, values, LayerRanks::whole_array_on_first);
        let mut state = State::default();
        for p in self.parameters() {
            state.parameters.insert(p.name.clone(), array(p, &p.values)?);
            if self.stepped {
                for (name, moment) in self.optimizer.moments().iter().zip(&p.moments) {
                    state.moments.insert(format!("{}.{name}", p.name), array(p, moment)?);
                }
            }
        }
        Ok(state)
    }
}
