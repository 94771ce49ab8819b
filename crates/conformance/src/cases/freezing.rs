//! Parameters that are not trainable ([`alexnet_core::Options::frozen`]). Their bits do not change
//! and they only affect the forward pass. All other parameters are trained as if the frozen ones
//! were constants.

use std::collections::BTreeSet;

use alexnet_core::{Batch, Mode, Model, Optimizer, State, Step};

use super::{
    states::{same_bits, same_state, start},
    training::usual_optimizers,
};
use crate::{
    case::{Case, Engine, Outcome},
    compare, fixtures,
    naming::slug,
    reference::{Network, Tensor},
};

/// The sets of frozen parameters of the miniature network. Its convolutions are layers 0 and 4, its
/// linear layers 8 and 11.
const FROZEN: [(&str, &[&str]); 6] = [
    ("the convolutions", &["layer.0.weight", "layer.0.bias", "layer.4.weight", "layer.4.bias"]),
    ("a convolution in the middle", &["layer.4.weight", "layer.4.bias"]),
    ("a linear layer in the middle", &["layer.8.weight", "layer.8.bias"]),
    ("the last layer", &["layer.11.weight", "layer.11.bias"]),
    ("weights alone", &["layer.0.weight", "layer.4.weight", "layer.8.weight"]),
    ("biases alone", &["layer.0.bias", "layer.4.bias", "layer.11.bias"]),
];

/// Returns a case for each set with each kind of optimizer.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (optimizer_name, optimizer, lr) in usual_optimizers() {
        for (what, names) in FROZEN {
            cases.push(Case::new(
                format!("freezing::{}::{}", slug(optimizer_name), slug(what)),
                move |engine| {
                    let run = Run {
                        frozen: names.iter().map(|name| (*name).into()).collect(),
                        optimizer,
                        lr,
                    };
                    run.gradients(engine)?;
                    run.training(engine)?;
                    run.moments_of_others(engine)
                },
            ));
        }
    }
    cases
}

struct Run {
    frozen: BTreeSet<String>,
    optimizer: Optimizer,
    lr: f32,
}

impl Run {
    fn compile(&self, engine: &Engine, state: &State) -> alexnet_core::Result<Box<dyn Model>> {
        engine.compile_frozen(&fixtures::miniature(), state, self.optimizer, &self.frozen)
    }

    fn reference(&self, engine: &Engine, state: &State) -> alexnet_core::Result<Network> {
        Ok(engine.reference(&fixtures::miniature(), state, self.optimizer)?.freeze(&self.frozen))
    }

    /// Returns step `number`. Every second step is clipped, so that the update depends on the norm.
    fn step(&self, number: u64) -> Step {
        Step {
            micro_batch: None,
            number,
            seed: 3,
            lr: self.lr,
            clip_grad_norm: (number % 2 == 1).then_some(0.5),
        }
    }

    /// Checks that gradients and their norm contain exactly the trainable parameters.
    fn gradients(&self, engine: &Engine) -> Outcome {
        let (state, batches) = start();
        let (mut model, network) = (self.compile(engine, &state)?, self.reference(engine, &state)?);
        let aligned = |name: &str, found: &[f32], truth: &[f64]| {
            compare::aligned(name, found, truth, engine.of_gradients(1e-4))
        };

        let (found, found_gradients) = model.gradients(&batches[0], &self.step(1))?;
        let (truth, gradients) = network.gradients(&batches[0], &self.step(1))?;
        engine.same_step(1, &found, &truth)?;
        compare::gradients(&found_gradients, &gradients, aligned)?;

        let images = &batches[1].images;
        let cotangent = fixtures::cotangent(&mut fixtures::rng("freezing"), images.len(), 5);
        let found = model.vjp(images, &cotangent)?;
        let trace = network.forward(images, Mode::Differentiate)?;
        let values = cotangent.values.iter().map(|v| f64::from(*v)).collect();
        let cotangent = Tensor { shape: vec![images.len(), 5], values };
        let truth = network.backward(&trace, cotangent, Mode::Differentiate).parameters;
        compare::gradients(&found, &truth, aligned)
    }

    /// Compares six steps with the reference, and with the same steps after an interruption.
    fn training(&self, engine: &Engine) -> Outcome {
        let (state, batches) = start();
        let (mut model, mut network) =
            (self.compile(engine, &state)?, self.reference(engine, &state)?);
        for number in 1..=6 {
            let (batch, step) = (batch_of(&batches, number), self.step(number));
            engine.same_step(
                number,
                &model.train_step(batch, &step)?,
                &network.train_step(batch, &step)?,
            )?;
        }
        let after = model.state()?;
        self.check(&after, &state, &network)?;

        let mut first = self.compile(engine, &state)?;
        self.train(first.as_mut(), &batches, 1..=3)?;
        let between = first.state()?;
        let mut second = self.compile(engine, &between)?;
        same_state("after compile", &second.state()?, &between)?;
        self.train(second.as_mut(), &batches, 4..=6)?;
        same_state("after resuming", &second.state()?, &after)
    }

    /// Checks that frozen parameters have not changed, and that all others have changed as in the
    /// reference.
    fn check(&self, after: &State, start: &State, network: &Network) -> Outcome {
        after.check(&fixtures::miniature())?;
        for (name, start) in &start.parameters {
            let end = &after.parameters[name];
            if self.frozen.contains(name) {
                if !same_bits(end, start) {
                    return Err(format!("{name} is frozen and has changed").into());
                }
                continue;
            }
            let change: Vec<f32> =
                end.values.iter().zip(&start.values).map(|(end, start)| end - start).collect();
            let ends = network.parameters()[name].values.iter().zip(&start.values);
            let truth: Vec<f64> = ends.map(|(end, start)| end - f64::from(*start)).collect();
            compare::aligned(&format!("the change of {name}"), &change, &truth, 1e-3)?;
        }
        if after.moments.keys().eq(network.moments().keys()) {
            return Ok(());
        }
        Err(format!("moments {:?}, not {:?}", after.moments.keys(), network.moments().keys())
            .into())
    }

    /// Checks that moments of frozen parameters in a loaded state are dropped and have no effect.
    fn moments_of_others(&self, engine: &Engine) -> Outcome {
        let (state, batches) = start();
        let mut free = engine.compile(&fixtures::miniature(), &state, self.optimizer)?;
        self.train(free.as_mut(), &batches, 1..=2)?;
        let with = free.state()?;
        let mut without = with.clone();
        let trainable =
            |moment: &str| !self.frozen.iter().any(|name| moment.starts_with(&format!("{name}.")));
        without.moments.retain(|moment, _| trainable(moment));
        let mut models = [self.compile(engine, &with)?, self.compile(engine, &without)?];
        same_state("after compile", &models[0].state()?, &without)?;
        for model in &mut models {
            self.train(model.as_mut(), &batches, 3..=4)?;
        }
        same_state("after dropping moments", &models[0].state()?, &models[1].state()?)
    }

    fn train(
        &self,
        model: &mut dyn Model,
        batches: &[Batch],
        numbers: std::ops::RangeInclusive<u64>,
    ) -> Outcome {
        for number in numbers {
            model.train_step(batch_of(batches, number), &self.step(number))?;
        }
        Ok(())
    }
}

fn batch_of(batches: &[Batch], number: u64) -> &Batch {
    &batches[number as usize % batches.len()]
}
