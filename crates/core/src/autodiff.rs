//! The code that engines on tensor libraries with automatic differentiation share.
//!
//! An engine implements [`Autodiff`] (the operations that differ between libraries) and lowers a
//! topology to layers and parameters. [`AutodiffModel`] implements [`Model`] with them: forward and
//! backward pass, gradient clipping, update and state.

use std::collections::BTreeMap;

use crate::{
    Array, Batch, Images, Inspection, Layer, Logits, Mode, Model, Optimizer, Options, ReluRule,
    Result, State, Step, StepReport, Topology,
    backend::{Gradients, check_cotangent, gradient_of},
    inspection::Observed,
    loss::cross_entropy,
};

/// The operations of a tensor library with automatic differentiation that [`AutodiffModel`] needs.
/// Errors of the library are returned as [`crate::Error::Backend`].
pub trait Autodiff: Send {
    /// The library's tensor. Several handles may share one storage.
    type Tensor: Send;

    /// Converts the bytes of `images` to normalized numbers, in the layout that the first layer
    /// expects.
    ///
    /// # Errors
    /// Those of the library.
    fn normalize(&self, images: &Images) -> Result<Self::Tensor>;

    /// Copies a parameter, moment or gradient to the device, from PyTorch's layout to the engine's.
    ///
    /// # Errors
    /// Those of the library.
    fn to_tensor(&self, array: &Array) -> Result<Self::Tensor>;

    /// Copies a parameter, moment, gradient or logits to the host, from the engine's layout to
    /// PyTorch's.
    ///
    /// # Errors
    /// Those of the library.
    fn to_array(&self, tensor: &Self::Tensor) -> Result<Array>;

    /// Makes `values` a leaf of the graph: gradients can be computed for it, and updates can change
    /// it.
    ///
    /// # Errors
    /// Those of the library.
    fn leaf(&self, values: Self::Tensor) -> Result<Self::Tensor>;

    /// Returns zeros in the shape and layout of `tensor`.
    ///
    /// # Errors
    /// Those of the library.
    fn zeros_like(&self, tensor: &Self::Tensor) -> Result<Self::Tensor>;

    /// Returns another handle of the same storage and the same node of the graph.
    fn share(&self, tensor: &Self::Tensor) -> Self::Tensor;

    /// Returns the values of `tensor` outside of any graph.
    ///
    /// # Errors
    /// Those of the library.
    fn detach(&self, tensor: &Self::Tensor) -> Result<Self::Tensor>;

    /// Returns `max(x, 0)` for each number of `tensor`, which is outside of any graph.
    ///
    /// # Errors
    /// Those of the library.
    fn positive_part(&self, tensor: &Self::Tensor) -> Result<Self::Tensor>;

    /// Returns the gradients of `Σ dy · y` with respect to `leaves`, in the same order. `dy` has
    /// the shape of `y`.
    ///
    /// # Errors
    /// Those of the library.
    fn backward(
        &self,
        y: &Self::Tensor,
        dy: &Self::Tensor,
        leaves: &[&Self::Tensor],
    ) -> Result<Vec<Self::Tensor>>;

    /// Returns the sum of the squares of `gradient`.
    ///
    /// # Errors
    /// Those of the library.
    fn square_sum(&self, gradient: &Self::Tensor) -> Result<f64>;

    /// Updates `parameter` and its moments by one step of the equations in [`crate::optimizer`],
    /// with `gradient` multiplied by `scale`. May overwrite `gradient`.
    ///
    /// # Errors
    /// Those of the library.
    fn update(
        &self,
        parameter: &mut ParameterState<Self::Tensor>,
        gradient: &Self::Tensor,
        optimizer: &Optimizer,
        step: &Step,
        scale: f64,
    ) -> Result<()>;

    /// Calls `run` without recording operations for automatic differentiation, if the library can
    /// switch the recording off.
    fn without_recording<R>(run: impl FnOnce() -> R) -> R {
        run()
    }
}

/// The values and moments of a parameter of the topology, on an engine's device.
pub struct ParameterState<T> {
    /// Its name, such as `features.0.weight`.
    pub name: String,
    /// Its shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// The values, in the engine's layout. They share their storage with the layer's tensor.
    pub values: T,
    /// Whether training updates it. If not, it belongs to no graph and has no moments.
    pub trainable: bool,
    /// The moments in the order of [`Optimizer::moments`], in the layout of `values`.
    pub moments: Vec<T>,
}

impl<T> ParameterState<T> {
    /// Loads the parameter `name` of `state` with its moments. Moments that are missing in `state`
    /// become zeros.
    ///
    /// # Errors
    /// Those of the library, for example when the device is out of memory.
    ///
    /// # Panics
    /// When `state` has no such parameter; call [`State::check`] before.
    pub fn load<A: Autodiff<Tensor = T>>(
        name: &str,
        state: &State,
        options: &Options,
        engine: &A,
    ) -> Result<Self> {
        let array = &state.parameters[name];
        let values = engine.to_tensor(array)?;
        let shape = array.shape.clone();
        if options.frozen.contains(name) {
            return Ok(Self {
                name: name.to_owned(),
                shape,
                values,
                trainable: false,
                moments: Vec::new(),
            });
        }
        let values = engine.leaf(values)?;
        let moment = |moment: &&str| match state.moments.get(&format!("{name}.{moment}")) {
            Some(saved) => engine.to_tensor(saved),
            None => engine.zeros_like(&values),
        };
        let moments = options.optimizer.moments().iter().map(moment).collect::<Result<_>>()?;
        Ok(Self { name: name.to_owned(), shape, values, trainable: true, moments })
    }
}

/// A layer that can be sent to another thread with its model.
pub type BoxedLayer<T> = Box<dyn Layer<T> + Send>;

/// A topology that an engine has lowered.
pub struct Lowered<T> {
    /// The layers in order.
    pub layers: Vec<BoxedLayer<T>>,
    /// The parameters of all layers.
    pub parameters: Vec<ParameterState<T>>,
    /// For each node of the topology, the number of layers that compute the nodes up to it; see
    /// [`Observed::new`].
    pub layers_after: Vec<usize>,
}

/// A lowered network on a tensor library with automatic differentiation.
pub struct AutodiffModel<A: Autodiff> {
    engine: A,
    input: [usize; 3],
    classes: usize,
    layers: Vec<BoxedLayer<A::Tensor>>,
    parameters: Vec<ParameterState<A::Tensor>>,
    observed: Observed,
    optimizer: Optimizer,
    /// Whether moments were loaded or a step was done. Before that, the state has no moments.
    stepped: bool,
}

impl<A: Autodiff> AutodiffModel<A> {
    /// Checks the arguments, then lowers `topology` with `lower`. The model starts from `state`.
    ///
    /// # Errors
    /// Those of [`crate::Backend::compile`] and of `lower`.
    pub fn compile(
        engine: A,
        topology: &Topology,
        state: &State,
        options: &Options,
        lower: impl FnOnce(&Topology, &State, &Options, &A) -> Result<Lowered<A::Tensor>>,
    ) -> Result<Self> {
        let classes = topology.classes()?;
        state.check(topology)?;
        options.check(topology)?;
        let Lowered { layers, parameters, layers_after } =
            lower(topology, state, options, &engine)?;
        Ok(Self {
            engine,
            input: topology.input,
            classes,
            layers,
            parameters,
            observed: Observed::new(topology, &options.observed, &layers_after),
            optimizer: options.optimizer,
            stepped: !state.moments.is_empty(),
        })
    }

    /// Returns the logits `[N, C]` on the device. They hold the graph of the pass unless `mode` is
    /// [`Mode::Evaluate`].
    fn forward(&mut self, images: &Images, mode: Mode) -> Result<A::Tensor> {
        images.check(self.input)?;
        let mut x = self.engine.normalize(images)?;
        for layer in &mut self.layers {
            x = layer.forward(x, mode)?;
        }
        Ok(x)
    }

    fn to_host(&self, logits: &A::Tensor) -> Result<Logits> {
        Ok(Logits { values: self.engine.to_array(logits)?.values, classes: self.classes })
    }

    /// Copies a cotangent of the logits to the device.
    fn to_device(&self, cotangent: &Logits) -> Result<A::Tensor> {
        let Logits { values, classes } = cotangent;
        let shape = vec![values.len() / classes, *classes];
        self.engine.to_tensor(&Array { shape, values: values.clone() })
    }

    /// Returns the gradients of `Σ cotangent · logits` with respect to the trainable parameters, in
    /// their order.
    fn backward(&self, logits: &A::Tensor, cotangent: &Logits) -> Result<Vec<A::Tensor>> {
        let leaves: Vec<_> = self.trainable_parameters().map(|p| &p.values).collect();
        if leaves.is_empty() {
            return Ok(Vec::new());
        }
        self.engine.backward(logits, &self.to_device(cotangent)?, &leaves)
    }

    fn forward_backward(
        &mut self,
        batch: &Batch,
        step: &Step,
    ) -> Result<(StepReport, Vec<A::Tensor>)> {
        batch.check(self.input, self.classes)?;
        let logits = self.forward(&batch.images, step.mode())?;
        let (loss, dlogits) =
            cross_entropy(&self.to_host(&logits)?, &batch.targets, step.micro_batch);
        let gradients = self.backward(&logits, &dlogits)?;
        Ok((StepReport { loss, gradient_norm: self.norm(&gradients)? }, gradients))
    }

    /// Returns the L2 norm over all gradients.
    fn norm(&self, gradients: &[A::Tensor]) -> Result<f64> {
        let square_sums = gradients.iter().map(|gradient| self.engine.square_sum(gradient));
        Ok(square_sums.collect::<Result<Vec<f64>>>()?.iter().sum::<f64>().sqrt())
    }

    /// Clips the gradients, whose norm is `gradient_norm`, and updates the parameters.
    fn update_clipped(
        &mut self,
        gradients: &[A::Tensor],
        gradient_norm: f64,
        step: &Step,
    ) -> Result<()> {
        let scale = step.gradient_scale(gradient_norm);
        let trainable = self.parameters.iter_mut().filter(|parameter| parameter.trainable);
        A::without_recording(|| {
            trainable.zip(gradients).try_for_each(|(parameter, gradient)| {
                self.engine.update(parameter, gradient, &self.optimizer, step, scale)
            })
        })?;
        self.stepped = true;
        Ok(())
    }

    fn trainable_parameters(&self) -> impl Iterator<Item = &ParameterState<A::Tensor>> {
        self.parameters.iter().filter(|parameter| parameter.trainable)
    }

    fn by_name(&self, gradients: &[A::Tensor]) -> Result<Gradients> {
        let named = self.trainable_parameters().zip(gradients);
        named.map(|(p, gradient)| Ok((p.name.clone(), self.engine.to_array(gradient)?))).collect()
    }
}

impl<A: Autodiff> Model for AutodiffModel<A> {
    fn logits(&mut self, images: &Images) -> Result<Logits> {
        A::without_recording(|| {
            let logits = self.forward(images, Mode::Evaluate)?;
            self.to_host(&logits)
        })
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
        let of = |p: &ParameterState<A::Tensor>| {
            self.engine.to_tensor(gradient_of(gradients, &p.name, &p.shape)?)
        };
        let gradients: Vec<A::Tensor> =
            self.trainable_parameters().map(of).collect::<Result<_>>()?;
        let norm = self.norm(&gradients)?;
        self.update_clipped(&gradients, norm, step)?;
        Ok(norm)
    }

    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients> {
        images.check(self.input)?;
        check_cotangent(cotangent, images.len(), self.classes)?;
        let logits = self.forward(images, Mode::Differentiate)?;
        self.by_name(&self.backward(&logits, cotangent)?)
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
        let engine = &self.engine;
        // Each part of the network that ends with an observed node has a graph of its own, whose
        // leaf is the output of the previous part.
        let mut parts = Vec::new();
        let mut activations = BTreeMap::new();
        let mut leaf = engine.leaf(engine.normalize(images)?)?;
        let mut x = engine.share(&leaf);
        let all = self.layers.len();
        for (layers, layer) in (1..=all).zip(&mut self.layers) {
            x = layer.forward(x, Mode::Differentiate)?;
            for node in self.observed.after(layers) {
                activations.insert(node.name.clone(), engine.to_array(&x)?);
            }
            if layers == all || self.observed.after(layers).next().is_some() {
                let next = engine.leaf(engine.detach(&x)?)?;
                let output = std::mem::replace(&mut x, engine.share(&next));
                parts.push((layers, std::mem::replace(&mut leaf, next), output));
            }
        }
        let logits = self.to_host(&x)?;
        let mut dy = self.to_device(cotangent)?;
        let mut gradients = BTreeMap::new();
        for (layers, leaf, output) in parts.into_iter().rev() {
            for node in self.observed.after(layers) {
                gradients.insert(node.name.clone(), engine.to_array(&dy)?);
                if node.is_relu && rule == ReluRule::Guided {
                    dy = engine.positive_part(&dy)?;
                }
            }
            for gradient in engine.backward(&output, &dy, &[&leaf])? {
                dy = gradient;
            }
        }
        let input_gradient = engine.to_array(&dy)?;
        Ok(Inspection { logits, activations, gradients, input_gradient })
    }

    fn state(&self) -> Result<State> {
        let mut state = State::default();
        for p in &self.parameters {
            state.parameters.insert(p.name.clone(), self.engine.to_array(&p.values)?);
            if self.stepped {
                for (name, moment) in self.optimizer.moments().iter().zip(&p.moments) {
                    state
                        .moments
                        .insert(format!("{}.{name}", p.name), self.engine.to_array(moment)?);
                }
            }
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::{Node, Op};

    /// A tensor for the tests: only its shared storage matters.
    type Shared = Arc<Mutex<Vec<f32>>>;

    fn shared(values: Vec<f32>) -> Shared {
        Arc::new(Mutex::new(values))
    }

    fn values(tensor: &Shared) -> Vec<f32> {
        tensor.lock().unwrap().clone()
    }

    /// A library whose only network returns the parameter `bias` as the logits of each image, so
    /// that the gradient of `bias` is the sum of the cotangent's rows.
    struct Biases;

    impl Autodiff for Biases {
        type Tensor = Shared;

        fn normalize(&self, images: &Images) -> Result<Shared> {
            Ok(shared(vec![0.0; images.len()]))
        }

        fn to_tensor(&self, array: &Array) -> Result<Shared> {
            Ok(shared(array.values.clone()))
        }

        fn to_array(&self, tensor: &Shared) -> Result<Array> {
            let values = values(tensor);
            Ok(Array { shape: vec![values.len()], values })
        }

        fn leaf(&self, values: Shared) -> Result<Shared> {
            Ok(values)
        }

        fn zeros_like(&self, tensor: &Shared) -> Result<Shared> {
            Ok(shared(vec![0.0; values(tensor).len()]))
        }

        fn share(&self, tensor: &Shared) -> Shared {
            tensor.clone()
        }

        fn detach(&self, tensor: &Shared) -> Result<Shared> {
            Ok(shared(values(tensor)))
        }

        fn positive_part(&self, tensor: &Shared) -> Result<Shared> {
            Ok(shared(values(tensor).iter().map(|x| x.max(0.0)).collect()))
        }

        fn backward(&self, y: &Shared, dy: &Shared, leaves: &[&Shared]) -> Result<Vec<Shared>> {
            let [bias] = leaves else {
                panic!("gradients are computed for trainable parameters only")
            };
            let classes = values(bias).len();
            assert_eq!(values(y).len(), values(dy).len());
            let sum = |c: usize| values(dy).chunks_exact(classes).map(|row| row[c]).sum();
            Ok(vec![shared((0..classes).map(sum).collect())])
        }

        fn square_sum(&self, gradient: &Shared) -> Result<f64> {
            Ok(values(gradient).iter().map(|g| f64::from(*g) * f64::from(*g)).sum())
        }

        /// Plain gradient descent; the moment becomes the scaled gradient.
        fn update(
            &self,
            parameter: &mut ParameterState<Shared>,
            gradient: &Shared,
            _optimizer: &Optimizer,
            step: &Step,
            scale: f64,
        ) -> Result<()> {
            let scaled: Vec<f32> =
                values(gradient).iter().map(|g| (f64::from(*g) * scale) as f32).collect();
            for (w, g) in parameter.values.lock().unwrap().iter_mut().zip(&scaled) {
                *w -= step.lr * g;
            }
            parameter.moments[0] = shared(scaled);
            Ok(())
        }
    }

    struct AddBias(Shared);

    impl Layer<Shared> for AddBias {
        fn forward(&mut self, x: Shared, _: Mode) -> Result<Shared> {
            let bias = values(&self.0);
            Ok(shared(values(&x).iter().flat_map(|_| bias.clone()).collect()))
        }
    }

    fn topology() -> Topology {
        let ops = [Op::Flatten, Op::Linear { inputs: 3, outputs: 2 }];
        let nodes = ["flatten", "layer"].into_iter().zip(ops);
        Topology {
            input: [3, 1, 1],
            nodes: nodes.map(|(name, op)| Node { name: name.into(), op }).collect(),
        }
    }

    /// `layer.weight` is frozen.
    fn model() -> AutodiffModel<Biases> {
        let state = State::from(crate::Parameters::from([
            ("layer.bias".into(), Array { shape: vec![2], values: vec![0.5, -0.5] }),
            ("layer.weight".into(), Array::filled(&[2, 3], 1.0)),
        ]));
        let options = Options {
            optimizer: Optimizer::Sgd { momentum: 0.9, weight_decay: 0.0 },
            frozen: BTreeSet::from(["layer.weight".into()]),
            ..Options::default()
        };
        AutodiffModel::compile(
            Biases,
            &topology(),
            &state,
            &options,
            |_, state, options, engine| {
                let load = |name| ParameterState::load(name, state, options, engine);
                let parameters = vec![load("layer.weight")?, load("layer.bias")?];
                let layers: Vec<BoxedLayer<Shared>> =
                    vec![Box::new(AddBias(parameters[1].values.clone()))];
                Ok(Lowered { layers, parameters, layers_after: vec![1, 1] })
            },
        )
        .unwrap()
    }

    fn step(clip_grad_norm: Option<f32>) -> Step {
        Step { number: 1, seed: 0, micro_batch: None, lr: 1.0, clip_grad_norm }
    }

    #[test]
    fn a_step_equals_gradients_and_then_update() {
        let batch = Batch::random(3, 1, 2);
        for clip_grad_norm in [None, Some(0.01)] {
            let (mut direct, mut parts) = (model(), model());
            let report = direct.train_step(&batch, &step(clip_grad_norm)).unwrap();
            let (same, gradients) = parts.gradients(&batch, &step(clip_grad_norm)).unwrap();
            let norm = parts.update(&gradients, &step(clip_grad_norm)).unwrap();
            assert_eq!((report, report.gradient_norm), (same, norm));
            assert!(direct.state().unwrap() == parts.state().unwrap());
            let moment = &direct.state().unwrap().moments["layer.bias.momentum_buffer"].values;
            let clipped = moment.iter().map(|g| g * g).sum::<f32>().sqrt();
            assert!(
                norm > 0.02 && (clip_grad_norm.is_none() || clipped < 0.010_001),
                "{norm} {clipped}"
            );
        }
    }

    #[test]
    fn a_frozen_parameter_keeps_its_values_and_has_no_gradient_and_no_moments() {
        let mut model = model();
        assert!(
            model.state().unwrap().moments.is_empty(),
            "no moments were loaded and no step was done"
        );
        let before = model.state().unwrap().parameters;
        let batch = Batch::random(3, 1, 2);
        let logits = model.logits(&batch.images).unwrap();
        assert_eq!(logits.values, [0.5, -0.5].repeat(3));
        assert_eq!(model.vjp(&batch.images, &logits).unwrap()["layer.bias"].values, [1.5, -1.5]);
        model.train_step(&batch, &step(None)).unwrap();
        let after = model.state().unwrap();
        assert_eq!(before["layer.weight"].values, after.parameters["layer.weight"].values);
        assert_ne!(before["layer.bias"], after.parameters["layer.bias"]);
        assert_eq!(after.moments.keys().collect::<Vec<_>>(), ["layer.bias.momentum_buffer"]);
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let mut model = model();
        let batch = Batch::random(3, 1, 2);
        let (_, mut gradients) = model.gradients(&batch, &step(None)).unwrap();
        assert!(model.vjp(&batch.images, &Logits { values: vec![0.0; 4], classes: 2 }).is_err());
        assert!(model.logits(&Batch::random(3, 2, 2).images).is_err());
        gradients.insert("layer.bias".into(), Array::filled(&[3], 0.0));
        assert!(model.update(&gradients, &step(None)).is_err());
    }
}
