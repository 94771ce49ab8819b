//! Tests that errors injected into an engine are detected, with new weights and with trained
//! weights.

use alexnet::core::{
    Images, Inspection, Logits, Node, Op, ReluRule,
    init::{Init, initialize},
    optimizer::Adam,
};

use super::*;
use alexnet::Engine;

/// An error that is injected into an engine.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// β₂ is 0.99 instead of 0.999.
    Beta2,
    /// Each learning rate is too high by 0.1 %.
    Rate,
    /// Each gradient is wrong by 0.1 %, alternately up and down.
    Gradient,
    /// The dropout masks are those of another seed.
    Dropout,
}

/// An engine with an injected error.
struct Faulty<'a>(&'a dyn Backend, Fault);

struct FaultyModel(Box<dyn Model>, Fault);

impl Backend for Faulty<'_> {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn devices(&self) -> Vec<Device> {
        self.0.devices()
    }

    fn compile(
        &self,
        topology: &Topology,
        state: State,
        options: &Options,
    ) -> Result<Box<dyn Model>> {
        let mut options = options.clone();
        if let (Fault::Beta2, Optimizer::Adam { adam, .. }) = (self.1, &mut options.optimizer) {
            adam.beta2 = 0.99;
        }
        Ok(Box::new(FaultyModel(self.0.compile(topology, state, &options)?, self.1)))
    }
}

impl Model for FaultyModel {
    fn logits(&mut self, images: &Images) -> Result<Logits> {
        self.0.logits(images)
    }

    fn train_step(&mut self, batch: &Batch, step: &Step) -> Result<alexnet::core::StepReport> {
        self.0.train_step(batch, step)
    }

    fn gradients(
        &mut self,
        batch: &Batch,
        step: &Step,
    ) -> Result<(alexnet::core::StepReport, Gradients)> {
        let seed = step.seed + u64::from(self.1 == Fault::Dropout);
        let (report, mut gradients) = self.0.gradients(batch, &Step { seed, ..*step })?;
        if self.1 == Fault::Gradient {
            for (i, g) in gradients.values_mut().flat_map(|array| &mut array.values).enumerate() {
                *g *= if i % 2 == 0 { 1.001 } else { 0.999 };
            }
        }
        Ok((report, gradients))
    }

    fn update(&mut self, gradients: &Gradients, step: &Step) -> Result<f64> {
        let lr = if self.1 == Fault::Rate { step.lr * 1.001 } else { step.lr };
        self.0.update(gradients, &Step { lr, ..*step })
    }

    fn vjp(&mut self, images: &Images, cotangent: &Logits) -> Result<Gradients> {
        self.0.vjp(images, cotangent)
    }

    fn inspect(
        &mut self,
        images: &Images,
        cotangent: &Logits,
        rule: ReluRule,
    ) -> Result<Inspection> {
        self.0.inspect(images, cotangent, rule)
    }

    fn state(&self) -> Result<State> {
        self.0.state()
    }
}

fn topology() -> Topology {
    let ops = [
        Op::Conv2d { inputs: 3, outputs: 16, kernel: 5, stride: 2, padding: 2, groups: 1 },
        Op::Relu,
        Op::MaxPool2d { kernel: 3, stride: 2 },
        Op::Conv2d { inputs: 16, outputs: 16, kernel: 3, stride: 1, padding: 1, groups: 1 },
        Op::Relu,
        Op::Flatten,
        Op::Dropout { p: 0.5 },
        Op::Linear { inputs: 16 * 7 * 7, outputs: 32 },
        Op::Relu,
        Op::Linear { inputs: 32, outputs: 5 },
    ];
    let nodes = (0..).zip(ops).map(|(i, op)| Node { name: format!("layer.{i}"), op });
    Topology { input: [3, 32, 32], nodes: nodes.collect() }
}

fn steps(number: u64, lr: f32, batches: &[Batch]) -> Vec<(Step, Batch)> {
    let step = |number| Step { number, seed: 0, micro_batch: None, lr, clip_grad_norm: None };
    (1..=number).map(step).zip(batches.iter().cloned().cycle()).collect()
}

/// With new weights, trained weights, and weights that overfit the images.
#[test]
fn engines_agree_and_each_injected_error_is_detected() {
    let engines = Engine::compiled();
    let mut targets: Vec<Target> = Vec::new();
    for engine in &engines {
        targets.push(Target {
            name: engine.name().into(),
            engine: engine.as_ref(),
            device: Device::Cpu,
        });
    }
    let faults = [Fault::None, Fault::Beta2, Fault::Rate, Fault::Gradient, Fault::Dropout];
    let faulty = faults.map(|fault| Faulty(engines[0].as_ref(), fault));
    for engine in &faulty {
        targets.push(Target { name: format!("{:?}", engine.1), engine, device: Device::Cpu });
    }
    let mut batches: Vec<Batch> = (0..3).map(|_| Batch::random(24, 32, 5)).collect();
    for (i, batch) in batches.iter_mut().enumerate() {
        batch.images.pixels.rotate_left(i * 10_007);
    }
    let adam =
        Optimizer::Adam { adam: Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, weight_decay: 0.0 };
    let mut parameters = initialize(&topology(), Init::Pytorch, 0).unwrap().parameters;
    for more in [0, 30, 300] {
        let training = TrainingSetup {
            topology: topology(),
            optimizer: adam,
            parameters,
            steps: steps(more, 1e-3, &batches),
            batch_size: 24,
        };
        let state = State::from(training.parameters.clone());
        let mut model = training.compile(&targets[0], &state).unwrap();
        for (step, batch) in &training.steps {
            train_step(model.as_mut(), batch, 24, step, &Alone).unwrap();
        }
        parameters = model.parameters().unwrap();
        for (optimizer, lr) in
            [(adam, 2e-4), (Optimizer::Sgd { momentum: 0.9, weight_decay: 0.0 }, 0.01)]
        {
            let steps = steps(4, lr, &batches);
            let setup = TrainingSetup {
                topology: topology(),
                optimizer,
                parameters: parameters.clone(),
                steps,
                batch_size: 24,
            };
            for (target, compared) in targets.iter().zip(setup.compare(&targets).unwrap()) {
                let is_adam = matches!(optimizer, Optimizer::Adam { .. });
                let expected = match target.name.as_str() {
                    "Beta2" => !is_adam,
                    "Rate" | "Gradient" | "Dropout" => false,
                    _ => true,
                };
                let what =
                    format!("{} after {more} steps, {optimizer:?}: {compared:?}", target.name);
                assert_eq!(compared.within_tolerance, expected, "{what}");
            }
        }
    }
}
