//! Tests the suite by fault injection. A correct engine in f32 must pass all cases. For each
//! injected fault, one of the cases for it must fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use alexnet_core::{
    Array, Backend, Batch, Device, Images, Inspection, Logits, Mode, Model, Op, Optimizer, Options,
    ReluRule, Result, State, Step, StepReport, Topology,
    backend::{Gradients, check_cotangent},
    inspection::Observed,
};

use crate::{
    case::{Case, Engine, Products},
    cases,
    reference::{self, Network, NodeView, Reference, Tensor, Trace, inspection, pooling},
};

/// The faults, each with the prefix of the names of its cases, one of which must fail.
const FAULTS: &[(Fault, &str)] = &[
    (Fault::BlueFirst, "flatten::exact::on_images"),
    (Fault::FlattenChannelsLast, "linear::exact"),
    (Fault::KernelFlipped, "conv2d::exact"),
    (Fault::KernelTransposed, "conv2d::exact"),
    (Fault::PaddingOffByOne, "conv2d::exact"),
    (Fault::GroupsMixed, "conv2d::exact"),
    (Fault::BiasGradientWithoutLastImage, "conv2d::exact"),
    (Fault::InputGradientMissing, "conv2d::exact"),
    (Fault::LinearGradientTransposed, "linear::exact"),
    (Fault::TiesToLastMaximum, "max_pool2d::exact"),
    (Fault::ReluGradientPassesAll, "relu::exact"),
    (Fault::ReluGradientPassesZero, "relu::exact"),
    (Fault::DropoutInEvaluation, "dropout::exact"),
    (Fault::TensorFloat32, "conv2d::error_bound"),
    (Fault::NormAlphaDividedBySize, "local_response_norm::tolerance"),
    (Fault::NormWindowMirrored, "local_response_norm::tolerance"),
    (Fault::NormGradientOfOneChannel, "local_response_norm::tolerance"),
    (Fault::DropoutNotScaled, "dropout::training"),
    (Fault::DropoutOfPreviousStep, "dropout::training"),
    (Fault::DropoutOfOtherNode, "dropout::training"),
    (Fault::DropoutOfOtherSeed, "dropout::training"),
    (Fault::DropoutOfFirstImages, "gradient_accumulation"),
    (Fault::AccumulatedUnclipped, "gradient_accumulation"),
    (Fault::AccumulatedUnchecked, "invalid_input"),
    (Fault::LossSummed, "loss::"),
    (Fault::LossOfHardTargets, "loss::"),
    (Fault::AdamWithoutBiasCorrection, "optimizer::adam"),
    (Fault::AdamEpsInsideRoot, "optimizer::adam"),
    (Fault::AdamWCoupled, "optimizer::adamw"),
    (Fault::DecayForgotten, "optimizer::sgd"),
    (Fault::PaperRateOfMoment, "optimizer::sgd_of_the_paper"),
    (Fault::MomentNamesSwapped, "optimizer::adam"),
    (Fault::GradientsAccumulate, "optimizer::sgd"),
    (Fault::ClipForgotten, "gradient_clipping"),
    (Fault::ClippedNormReported, "gradient_clipping"),
    (Fault::MomentsNotInState, "state::"),
    (Fault::MomentsNotLoaded, "state::"),
    (Fault::StateOfStart, "state::"),
    (Fault::FrozenIsTrained, "freezing::"),
    (Fault::FrozenDecays, "freezing::"),
    (Fault::FrozenKeepsMoments, "freezing::"),
    (Fault::FrozenInNorm, "freezing::"),
    (Fault::FrozenStopsGradient, "freezing::"),
    (Fault::FreezingUnchecked, "invalid_input"),
    (Fault::LogitsDependOnBatch, "batches::"),
    (Fault::EvaluationChangesTraining, "batches::"),
    (Fault::WeightsCachedForEvaluation, "batches::"),
    (Fault::StateUnchecked, "invalid_input"),
    (Fault::ImagesUnchecked, "invalid_input"),
    (Fault::TargetsUnchecked, "invalid_input"),
    (Fault::CotangentUnchecked, "invalid_input"),
    (Fault::StepBeforeError, "invalid_input"),
    (Fault::InspectionChannelsLast, "inspection"),
    (Fault::ActivationOfNextNode, "inspection"),
    (Fault::GuidedRuleIgnored, "inspection"),
    (Fault::GuidedRuleUnchecked, "inspection::invalid"),
    (Fault::GuidedGradientClamped, "inspection"),
    (Fault::InputGradientOfBytes, "inspection"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    BlueFirst,
    FlattenChannelsLast,
    /// Convolution instead of cross-correlation.
    KernelFlipped,
    KernelTransposed,
    PaddingOffByOne,
    GroupsMixed,
    BiasGradientWithoutLastImage,
    InputGradientMissing,
    LinearGradientTransposed,
    TiesToLastMaximum,
    ReluGradientPassesAll,
    ReluGradientPassesZero,
    DropoutInEvaluation,
    /// The factors of products are rounded to ten mantissa bits.
    TensorFloat32,
    NormAlphaDividedBySize,
    NormWindowMirrored,
    NormGradientOfOneChannel,
    DropoutNotScaled,
    DropoutOfPreviousStep,
    DropoutOfOtherNode,
    DropoutOfOtherSeed,
    DropoutOfFirstImages,
    AccumulatedUnclipped,
    AccumulatedUnchecked,
    LossSummed,
    LossOfHardTargets,
    AdamWithoutBiasCorrection,
    AdamEpsInsideRoot,
    AdamWCoupled,
    DecayForgotten,
    /// The learning rate of the step is applied to all earlier gradients.
    PaperRateOfMoment,
    MomentNamesSwapped,
    GradientsAccumulate,
    ClipForgotten,
    ClippedNormReported,
    MomentsNotInState,
    MomentsNotLoaded,
    StateOfStart,
    FrozenIsTrained,
    FrozenDecays,
    FrozenKeepsMoments,
    FrozenInNorm,
    FrozenStopsGradient,
    FreezingUnchecked,
    LogitsDependOnBatch,
    EvaluationChangesTraining,
    WeightsCachedForEvaluation,
    StateUnchecked,
    ImagesUnchecked,
    TargetsUnchecked,
    CotangentUnchecked,
    StepBeforeError,
    InspectionChannelsLast,
    /// The output of the next node, as after in-place operations.
    ActivationOfNextNode,
    GuidedRuleIgnored,
    GuidedRuleUnchecked,
    /// The gradient after the rule of the node, instead of before it.
    GuidedGradientClamped,
    /// The gradient with respect to the bytes instead of the normalized numbers.
    InputGradientOfBytes,
}

/// Runs `cases` on several threads and asserts that all pass.
fn assert_conforms(backend: &dyn Backend, cases: &[Case]) {
    let engine = Engine { backend, device: Device::Cpu, products: Products::F32 };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failures = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            failures
                .extend(case.run(&engine).err().map(|message| format!("{}: {message}", case.name)));
        }
        failures
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn the_reference_conforms() {
    let mut cases = cases::small();
    cases
        .retain(|case| !case.name.starts_with("network::") && !case.name.starts_with("training::"));
    assert_conforms(&Reference, &cases);
}

#[test]
fn an_engine_that_rounds_all_outputs_to_f32_conforms() {
    assert_conforms(&FaultyBackend { fault: None }, &cases::small());
}

#[test]
fn every_fault_is_detected() {
    let cases = cases::small();
    for (fault, prefix) in FAULTS {
        let backend = FaultyBackend { fault: Some(*fault) };
        let engine = Engine { backend: &backend, device: Device::Cpu, products: Products::F32 };
        let mut candidates = cases.iter().filter(|case| case.name.starts_with(prefix));
        let detected = candidates.find_map(|case| Some((&case.name, case.run(&engine).err()?)));
        let (case, message) =
            detected.unwrap_or_else(|| panic!("no case `{prefix}…` detects {fault:?}"));
        println!("{fault:?}: {case}: {message}");
    }
}

/// The reference, rounded to f32 after every node, with an optional fault.
struct FaultyBackend {
    fault: Option<Fault>,
}

impl Backend for FaultyBackend {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn devices(&self) -> Vec<Device> {
        vec![Device::Cpu]
    }

    fn compile(
        &self,
        topology: &Topology,
        mut state: State,
        options: &Options,
    ) -> Result<Box<dyn Model>> {
        Reference.compile(
            &Topology { input: [1, 1, 1], nodes: vec![flatten()] },
            State::default(),
            &Options { device: options.device, ..Options::default() },
        )?;
        if self.is(Fault::MomentsNotLoaded) {
            state.moments.clear();
        }
        if self.is(Fault::MomentNamesSwapped) {
            state.moments = swap_names(state.moments);
        }
        if self.is(Fault::StateUnchecked) {
            state.parameters.retain(|name, _| name != "layer.99.bias");
        }
        let optimizer = match (self.fault, options.optimizer) {
            (Some(Fault::AdamWCoupled), Optimizer::AdamW { adam, weight_decay }) => {
                Optimizer::Adam { adam, weight_decay }
            }
            (Some(Fault::DecayForgotten), Optimizer::Sgd { momentum, .. }) => {
                Optimizer::Sgd { momentum, weight_decay: 0.0 }
            }
            (Some(Fault::PaperRateOfMoment), Optimizer::SgdPaper { momentum, weight_decay }) => {
                Optimizer::Sgd { momentum, weight_decay }
            }
            (_, optimizer) => optimizer,
        };
        let mut network = Network::new(topology, &state, optimizer)?;
        if !self.is(Fault::FreezingUnchecked) {
            options.check(topology)?;
        }
        let mut frozen = options.frozen.clone();
        if self.is(Fault::FrozenIsTrained) {
            frozen.clear();
        }
        if !self.is(Fault::FrozenKeepsMoments) {
            network = network.freeze(&frozen);
        }
        Ok(Box::new(FaultyModel {
            fault: self.fault,
            frozen,
            start: network.clone(),
            network,
            optimizer,
            evaluations: 0,
            accumulated: BTreeMap::new(),
            observed: Observed::new(
                topology,
                &options.observed,
                &(1..=topology.nodes.len()).collect::<Vec<_>>(),
            ),
        }))
    }
}

impl FaultyBackend {
    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

fn flatten() -> alexnet_core::Node {
    alexnet_core::Node { name: "flatten".into(), op: Op::Flatten }
}

fn swap_names<T>(moments: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let swap = |name: String| match name.strip_suffix(".exp_avg") {
        Some(stem) => format!("{stem}.exp_avg_sq"),
        None => name.strip_suffix("_sq").map(str::to_string).unwrap_or(name),
    };
    moments.into_iter().map(|(name, moment)| (swap(name), moment)).collect()
}

struct FaultyModel {
    fault: Option<Fault>,
    frozen: BTreeSet<String>,
    start: Network,
    network: Network,
    optimizer: Optimizer,
    evaluations: u64,
    accumulated: BTreeMap<String, Tensor>,
    observed: Observed,
}

fn to_f32(tensor: Tensor) -> Tensor {
    tensor.map(|v| f64::from(v as f32))
}

impl FaultyModel {
    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn forward(&self, network: &Network, images: &Images, mode: Mode) -> Trace {
        let mut input = Tensor::from_images(images);
        if self.is(Fault::BlueFirst) {
            let plane = images.height * images.width;
            let channel_swapped =
                |i: usize| i / (3 * plane) * 3 * plane + (2 - i / plane % 3) * plane + i % plane;
            input.values =
                (0..input.values.len()).map(|i| input.values[channel_swapped(i)]).collect();
        }
        let mut trace = Trace { input, outputs: Vec::new() };
        for index in 0..network.topology().nodes.len() {
            let y = self
                .forward_node(&network.node(index, self.faulty_mode(mode)), trace.input_of(index));
            trace.outputs.push(to_f32(y));
        }
        trace
    }

    fn faulty_mode(&self, mode: Mode) -> Mode {
        match (self.fault, mode) {
            (Some(Fault::DropoutOfPreviousStep), Mode::Train { seed, step, micro_batch }) => {
                Mode::Train { seed, step: step - 1, micro_batch }
            }
            (Some(Fault::DropoutOfOtherSeed), Mode::Train { step, micro_batch, .. }) => {
                Mode::Train { seed: 17, step, micro_batch }
            }
            (Some(Fault::DropoutOfFirstImages), Mode::Train { seed, step, .. }) => {
                Mode::Train { seed, step, micro_batch: None }
            }
            (Some(Fault::EvaluationChangesTraining), Mode::Train { seed, step, micro_batch }) => {
                Mode::Train { seed, step: step + self.evaluations, micro_batch }
            }
            (Some(Fault::DropoutInEvaluation), Mode::Evaluate | Mode::Differentiate) => {
                Mode::Train { seed: 0, step: 1, micro_batch: None }
            }
            _ => mode,
        }
    }

    fn forward_node(&self, node: &NodeView, x: &Tensor) -> Tensor {
        let Some(fault) = self.fault else { return reference::forward(node, x) };
        match (fault, node.op) {
            (Fault::FlattenChannelsLast, Op::Flatten) if x.shape.len() == 4 => {
                let [batch, channels, height, width] = x.dimensions();
                let (plane, item) = (height * width, channels * height * width);
                let from = |i: usize| i / item * item + i % channels * plane + i % item / channels;
                let values = (0..x.values.len()).map(|i| x.values[from(i)]).collect();
                Tensor { shape: vec![batch, item], values }
            }
            (Fault::NormAlphaDividedBySize, Op::LocalResponseNorm { .. }) => {
                reference::forward(&NodeView { op: &alpha_divided(node.op), ..*node }, x)
            }
            (Fault::NormWindowMirrored, Op::LocalResponseNorm { .. }) => roll_channels(
                &reference::forward(node, &roll_channels(x, |c, n| n - 1 - c)),
                |c, n| n - 1 - c,
            ),
            (Fault::DropoutNotScaled, Op::Dropout { p }) => {
                reference::forward(node, x).map(|v| v * (1.0 - f64::from(*p)))
            }
            (Fault::DropoutOfOtherNode, Op::Dropout { .. }) => {
                reference::forward(&NodeView { index: node.index + 1, ..*node }, x)
            }
            (Fault::PaddingOffByOne, Op::Conv2d { padding: 1.., .. }) => {
                reference::forward(node, &shift_columns(x))
            }
            (Fault::GroupsMixed, Op::Conv2d { inputs, groups: groups @ 2.., .. }) => {
                let by = inputs / groups;
                reference::forward(node, &roll_channels(x, |c, n| (c + by) % n))
            }
            (Fault::KernelFlipped | Fault::KernelTransposed | Fault::TensorFloat32, _) => {
                let Some((weight, bias)) = node.parameters else {
                    return reference::forward(node, x);
                };
                let weight = self.faulty_weight(weight);
                let x = if fault == Fault::TensorFloat32 { x.map(ten_bits) } else { x.clone() };
                reference::forward(&NodeView { parameters: Some((&weight, bias)), ..*node }, &x)
            }
            _ => reference::forward(node, x),
        }
    }

    fn faulty_weight(&self, weight: &Tensor) -> Tensor {
        if self.is(Fault::TensorFloat32) {
            return weight.map(ten_bits);
        }
        let &[.., height, width] = weight.shape.as_slice() else { return weight.clone() };
        if weight.shape.len() != 4 {
            return weight.clone();
        }
        let from = |i: usize| match self.fault {
            Some(Fault::KernelFlipped) => {
                i / (height * width) * height * width + height * width - 1 - i % (height * width)
            }
            _ => i / (height * width) * height * width + i % width * width + i / width % height,
        };
        Tensor {
            shape: weight.shape.clone(),
            values: (0..weight.values.len()).map(|i| weight.values[from(i)]).collect(),
        }
    }

    fn backward(&self, trace: &Trace, cotangent: Tensor, mode: Mode) -> BTreeMap<String, Tensor> {
        let mut parameters = BTreeMap::new();
        let mut dy = cotangent;
        for (index, node) in self.network.topology().nodes.iter().enumerate().rev() {
            let view = self.network.node(index, self.faulty_mode(mode));
            let (dx, gradients) = self.backward_node(&view, trace.input_of(index), &dy);
            for (gradient, role) in gradients.into_iter().flatten().zip(["weight", "bias"]) {
                parameters.insert(format!("{}.{role}", node.name), to_f32(gradient));
            }
            dy = to_f32(dx);
            if self.is(Fault::FrozenStopsGradient)
                && self.frozen.contains(&format!("{}.weight", node.name))
            {
                dy.values.fill(0.0);
            }
        }
        parameters
    }

    fn trainable(&self, mut gradients: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
        gradients.retain(|name, _| !self.frozen.contains(name));
        gradients
    }

    fn backward_node(
        &self,
        node: &NodeView,
        x: &Tensor,
        dy: &Tensor,
    ) -> (Tensor, Option<[Tensor; 2]>) {
        let (mut dx, mut gradients) = reference::backward(node, x, dy);
        let Some(fault) = self.fault else { return (dx, gradients) };
        match (fault, node.op, &mut gradients) {
            (Fault::BiasGradientWithoutLastImage, _, Some([_, bias])) => {
                let remaining = dy.values.len() / dy.batch() * (dy.batch() - 1);
                let mut dy = dy.clone();
                dy.values[remaining..].fill(0.0);
                let (_, fewer) = reference::backward(node, x, &dy);
                if let Some([_, fewer]) = fewer {
                    *bias = fewer;
                }
            }
            (Fault::InputGradientMissing, Op::Conv2d { stride: 2.., .. }, _) => dx.values.fill(0.0),
            (
                Fault::LinearGradientTransposed,
                Op::Linear { inputs, outputs },
                Some([weight, _]),
            ) => {
                let from = |i: usize| i % outputs * inputs + i / outputs;
                weight.values = (0..weight.values.len()).map(|i| weight.values[from(i)]).collect();
            }
            (Fault::TiesToLastMaximum, Op::MaxPool2d { kernel, stride }, _) => {
                let mut x = x.clone();
                x.values.iter_mut().enumerate().for_each(|(i, v)| *v += i as f64 * 1e-9);
                dx = pooling::backward(*kernel, *stride, &x, dy);
            }
            (Fault::ReluGradientPassesAll, Op::Relu, _) => dx.values.clone_from(&dy.values),
            (Fault::ReluGradientPassesZero, Op::Relu, _) => {
                for (dx, (x, dy)) in dx.values.iter_mut().zip(x.values.iter().zip(&dy.values)) {
                    *dx = if *x >= 0.0 { *dy } else { 0.0 };
                }
            }
            (Fault::NormGradientOfOneChannel, Op::LocalResponseNorm { .. }, _) => {
                let y = reference::forward(node, x);
                for (i, dx) in dx.values.iter_mut().enumerate() {
                    *dx = if x.values[i] == 0.0 {
                        *dx
                    } else {
                        dy.values[i] * y.values[i] / x.values[i]
                    };
                }
            }
            (Fault::DropoutOfOtherNode, Op::Dropout { .. }, _) => {
                dx = reference::forward(&NodeView { index: node.index + 1, ..*node }, dy);
            }
            (Fault::DropoutNotScaled, Op::Dropout { p }, _) => {
                dx = dx.map(|v| v * (1.0 - f64::from(*p)))
            }
            _ => {}
        }
        (dx, gradients)
    }

    fn loss(&self, trace: &Trace, targets: &[f32], step: &Step) -> (f64, Tensor) {
        let [n, classes] = [trace.logits().shape[0], trace.logits().shape[1]];
        let mut targets = targets.to_vec();
        if self.is(Fault::TargetsUnchecked) {
            targets.resize(n * classes, 0.0);
        }
        if self.is(Fault::LossOfHardTargets) {
            for row in targets.chunks_exact_mut(classes) {
                let top = (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
                row.fill(0.0);
                row[top] = 1.0;
            }
        }
        let (loss, gradient) = reference::cross_entropy(trace.logits(), &targets, step.micro_batch);
        if self.is(Fault::LossSummed) {
            return (loss * n as f64, gradient.map(|g| g * n as f64));
        }
        (loss, to_f32(gradient))
    }

    fn loss_and_gradients(
        &mut self,
        batch: &Batch,
        step: &Step,
    ) -> Result<(StepReport, BTreeMap<String, Tensor>)> {
        self.check_images(&batch.images)?;
        if !self.is(Fault::TargetsUnchecked) && !self.is(Fault::ImagesUnchecked) {
            batch.check(self.network.topology().input, self.network.topology().classes()?)?;
        }
        let mode = step.mode();
        let trace = self.forward(&self.network, &batch.images, mode);
        let (loss, cotangent) = self.loss(&trace, &batch.targets, step);
        let mut gradients = self.backward(&trace, cotangent, mode);
        if self.is(Fault::GradientsAccumulate) {
            for (name, gradient) in &mut gradients {
                if let Some(before) = self.accumulated.get(name) {
                    gradient
                        .values
                        .iter_mut()
                        .zip(&before.values)
                        .for_each(|(g, before)| *g += before);
                }
            }
            self.accumulated = gradients.clone();
        }
        let norm_of_all = reference::norm(&gradients);
        let gradients = self.trainable(gradients);
        let gradient_norm =
            if self.is(Fault::FrozenInNorm) { norm_of_all } else { reference::norm(&gradients) };
        Ok((StepReport { loss, gradient_norm }, gradients))
    }

    fn check_images(&self, images: &Images) -> Result<()> {
        if self.is(Fault::ImagesUnchecked) {
            Ok(())
        } else {
            images.check(self.network.topology().input)
        }
    }

    /// Uses `√(v̂ + ε)` instead of `√v̂ + ε`.
    fn put_eps_inside_root(&mut self, before: &Network, step: &Step) -> Result<()> {
        let Optimizer::Adam { adam, .. } = self.optimizer else { return Ok(()) };
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step.number as f64);
        let mut state = self.network.state();
        for (name, parameter) in &mut state.parameters {
            let (m, v) = (
                &state.moments[&format!("{name}.exp_avg")],
                &state.moments[&format!("{name}.exp_avg_sq")],
            );
            for (i, w) in parameter.values.iter_mut().enumerate() {
                let root =
                    (f64::from(v.values[i]) / correction(adam.beta2) + f64::from(adam.eps)).sqrt();
                let change =
                    f64::from(step.lr) / correction(adam.beta1) * f64::from(m.values[i]) / root;
                *w = (before.parameters()[name].values[i] - change) as f32;
            }
        }
        self.network = Network::new(self.network.topology(), &state, self.optimizer)?;
        Ok(())
    }
}

fn alpha_divided(op: &Op) -> Op {
    match *op {
        Op::LocalResponseNorm { size, alpha, beta, k } => {
            Op::LocalResponseNorm { size, alpha: alpha / size as f32, beta, k }
        }
        _ => op.clone(),
    }
}

fn ten_bits(v: f64) -> f64 {
    f64::from(f32::from_bits((v as f32).to_bits() & !0x1fff))
}

/// Channel c of the result is channel `from(c, C)` of `x`.
fn roll_channels(x: &Tensor, from: impl Fn(usize, usize) -> usize) -> Tensor {
    let [_, channels, height, width] = x.dimensions();
    let plane = height * width;
    let source = |i: usize| {
        let (item, c, p) = (i / (channels * plane), i / plane % channels, i % plane);
        (item * channels + from(c, channels)) * plane + p
    };
    Tensor {
        shape: x.shape.clone(),
        values: (0..x.values.len()).map(|i| x.values[source(i)]).collect(),
    }
}

/// Shifts by one column to the right, like one column too many of padding on the left.
fn shift_columns(x: &Tensor) -> Tensor {
    let width = x.shape[3];
    let value = |i: usize| if i.is_multiple_of(width) { 0.0 } else { x.values[i - 1] };
    Tensor { shape: x.shape.clone(), values: (0..x.values.len()).map(value).collect() }
}

fn round(tensors: BTreeMap<String, Tensor>) -> Gradients {
    tensors.into_iter().map(|(name, tensor)| (name, tensor.to_array())).collect()
}

impl Model for FaultyModel {
    fn logits(&mut self, images: &Images) -> Result<Logits> {
        self.check_images(images)?;
        self.evaluations += 1;
        let network =
            if self.is(Fault::WeightsCachedForEvaluation) { &self.start } else { &self.network };
        let trace = self.forward(network, images, Mode::Evaluate);
        let mut values = trace.logits().to_array().values;
        if self.is(Fault::LogitsDependOnBatch) {
            values[0] += 0.01 * images.len() as f32;
        }
        Ok(Logits { values, classes: self.network.topology().classes()? })
    }

    fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<StepReport> {
        if self.is(Fault::StepBeforeError) {
            // A partial step: the moments and weights change before the batch is checked.
            let tiny =
                self.network.parameters().iter().map(|(name, p)| (name.clone(), p.map(|_| 1e-3)));
            let tiny = tiny.collect();
            self.network.update(&tiny, step, 0.0);
        }
        let (mut report, gradients) = self.loss_and_gradients(batch, step)?;
        let mut step = *step;
        let norm = report.gradient_norm;
        if self.is(Fault::ClippedNormReported) {
            report.gradient_norm = norm.min(step.clip_grad_norm.map_or(norm, f64::from));
        }
        if self.is(Fault::ClipForgotten) {
            step.clip_grad_norm = None;
        }
        if self.is(Fault::AdamWithoutBiasCorrection) {
            step.number = 1_000_000;
        }
        let before = self.network.clone();
        self.network.update(&gradients, &step, norm);
        if self.is(Fault::FrozenDecays) {
            let mut state = self.network.state();
            for name in &self.frozen {
                state
                    .parameters
                    .get_mut(name)
                    .unwrap()
                    .values
                    .iter_mut()
                    .for_each(|w| *w *= 1.0 - step.lr * 0.01);
            }
            self.network = Network::new(self.network.topology(), &state, self.optimizer)?;
        }
        if self.is(Fault::AdamEpsInsideRoot) {
            self.put_eps_inside_root(&before, &step)?;
        }
        self.network.round();
        Ok(report)
    }

    fn gradients(&mut self, batch: &Batch, step: &Step) -> Result<(StepReport, Gradients)> {
        let (report, gradients) = self.loss_and_gradients(batch, step)?;
        Ok((report, round(gradients)))
    }

    fn update(&mut self, gradients: &Gradients, step: &Step) -> Result<f64> {
        let mut step = *step;
        if self.is(Fault::AccumulatedUnclipped) {
            step.clip_grad_norm = None;
        }
        let norm = if self.is(Fault::AccumulatedUnchecked) {
            let known =
                |(name, gradient): (&String, &Array)| (name.clone(), Tensor::from_array(gradient));
            let gradients: BTreeMap<_, _> = gradients.iter().map(known).collect();
            let norm = reference::norm(&gradients);
            self.network.update(&gradients, &step, norm);
            norm
        } else {
            self.network.update_with(gradients, &step)?
        };
        self.network.round();
        Ok(norm)
    }

    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients> {
        self.check_images(images)?;
        let classes = self.network.topology().classes()?;
        let mut values: Vec<f64> = cotangent.values.iter().map(|v| f64::from(*v)).collect();
        if self.is(Fault::CotangentUnchecked) {
            values.resize(images.len() * classes, 0.0);
        } else {
            check_cotangent(cotangent, images.len(), classes)?;
        }
        let trace = self.forward(&self.network, images, Mode::Differentiate);
        let cotangent = Tensor { shape: vec![images.len(), classes], values };
        Ok(round(self.trainable(self.backward(&trace, cotangent, Mode::Differentiate))))
    }

    fn inspect(
        &mut self,
        images: &Images,
        cotangent: &Logits,
        rule: ReluRule,
    ) -> Result<Inspection> {
        self.check_images(images)?;
        check_cotangent(cotangent, images.len(), self.network.topology().classes()?)?;
        let ignored = self.is(Fault::GuidedRuleIgnored);
        let unchecked = self.is(Fault::GuidedRuleUnchecked);
        let rule = if ignored { ReluRule::Gradient } else { rule };
        self.observed.check(if unchecked { ReluRule::Gradient } else { rule })?;
        let trace = self.forward(&self.network, images, Mode::Differentiate);
        let mut found = inspection(&self.network, &self.observed, &trace, cotangent, rule);
        if self.is(Fault::InspectionChannelsLast) {
            for array in found.activations.values_mut().chain([&mut found.input_gradient]) {
                if let [n, c, h, w] = array.shape[..] {
                    let plane = h * w;
                    let from = |i: usize| (i / (c * plane), i / c % plane, i % c);
                    let value = |i: usize| {
                        let (item, position, channel) = from(i);
                        array.values[(item * c + channel) * plane + position]
                    };
                    array.values = (0..n * c * plane).map(value).collect();
                }
            }
        }
        if self.is(Fault::ActivationOfNextNode) {
            for (index, node) in self.network.topology().nodes.iter().enumerate() {
                if let (Some(activation), Some(next)) =
                    (found.activations.get_mut(&node.name), trace.outputs.get(index + 1))
                {
                    *activation = next.to_array();
                }
            }
        }
        if self.is(Fault::GuidedGradientClamped) && rule == ReluRule::Guided {
            for gradient in found.gradients.values_mut() {
                gradient.values.iter_mut().for_each(|v| *v = v.max(0.0));
            }
        }
        if self.is(Fault::InputGradientOfBytes) {
            found.input_gradient.values.iter_mut().for_each(|v| *v /= 255.0 * 0.5);
        }
        Ok(found)
    }

    fn state(&self) -> Result<State> {
        let mut state =
            if self.is(Fault::StateOfStart) { self.start.state() } else { self.network.state() };
        if self.is(Fault::MomentsNotInState) {
            state.moments.clear();
        }
        if self.is(Fault::MomentNamesSwapped) {
            state.moments = swap_names(state.moments);
        }
        Ok(state)
    }
}
