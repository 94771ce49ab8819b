//! Compares the full-size variants with PyTorch. `tests/goldens/networks.py` computes the expected
//! results in f64 with `torch.nn` and `torchvision.models.alexnet`. Both sides generate parameters
//! and images with [`mix`].

use std::collections::BTreeMap;

use alexnet_core::{
    Array, Batch, Images, Normalization, Op, Optimizer, State, Step, StepReport, Topology,
    alexnet::Variant, topology::Role,
};
use serde::Deserialize;

use super::networks::same_top1;
use crate::{
    case::{Case, Engine, Outcome, Products},
    compare,
};

/// Returns one case for each variant in the recorded results.
pub fn cases() -> Vec<Case> {
    // The largest first.
    [Variant::Torchvision, Variant::Original, Variant::Tutorial]
        .map(|variant| {
            Case::new(format!("pytorch::{variant}"), move |engine| {
                check(engine, &Golden::of(variant)?)
            })
        })
        .into()
}

/// PyTorch's results for a network without dropout.
#[derive(Deserialize)]
struct Golden {
    variant: Variant,
    classes: usize,
    /// One draw per image: the first ones for which no unit is at a kink.
    draws: Vec<u32>,
    /// `[N, C]`.
    targets: Vec<f32>,
    /// `[N, C]`.
    logits: Vec<f64>,
    loss: f64,
    /// The norm over all parameters.
    gradient_norm: f64,
    gradients: BTreeMap<String, Gradient>,
    /// The losses of ten steps of Adam.
    losses: Vec<f64>,
}

/// The gradient of one parameter.
#[derive(Deserialize)]
struct Gradient {
    norm: f64,
    /// Some elements, at the indices that [`Golden::each_gradient`] computes.
    samples: Vec<f64>,
}

const LEARNING_RATE: f32 = 2e-5;

impl Golden {
    fn of(variant: Variant) -> Outcome<Self> {
        let all: Vec<Self> =
            serde_json::from_str(include_str!("../../tests/goldens/networks.json"))?;
        Ok(all
            .into_iter()
            .find(|golden| golden.variant == variant)
            .ok_or("there are no results of PyTorch")?)
    }

    /// Returns the variant with dropout probability 0.
    fn topology(&self) -> Topology {
        let mut topology = self.variant.topology(self.classes);
        for node in &mut topology.nodes {
            if let Op::Dropout { p } = &mut node.op {
                *p = 0.0;
            }
        }
        topology
    }

    /// Returns parameters that are multiples of 2⁻¹⁵ of a power of two: about 1/√fan_in for linear
    /// layers, twice that for convolutions, 1/16 for biases.
    fn state(&self) -> alexnet_core::Result<State> {
        let mut state = State::default();
        for (salt, parameter) in (0..).zip(self.topology().parameters()?) {
            let fan_in: usize = parameter.shape[1..].iter().product();
            let inverse_root = 0.5f32.powi(fan_in.ilog2() as i32 / 2);
            let scale = match (parameter.role, parameter.shape.len()) {
                (Role::Bias, _) => 1.0 / 16.0,
                (Role::Weight, 2) => inverse_root,
                (Role::Weight, _) => 2.0 * inverse_root,
            };
            let value = |i| ((mix(i, salt) >> 16) as f32 - 32768.0) / 32768.0 * scale;
            let values = (0..parameter.elements() as u32).map(value).collect();
            state.parameters.insert(parameter.name, Array { shape: parameter.shape, values });
        }
        Ok(state)
    }

    fn batch(&self) -> Batch {
        let [channels, height, width] = self.topology().input;
        let numbers = (height * width * channels) as u32;
        let image = |draw: &u32| {
            let salt = 1000 + draw;
            (0..numbers).map(move |i| (mix(i, salt) >> 24) as u8)
        };
        let pixels = self.draws.iter().flat_map(image).collect();
        let images = Images { pixels, height, width, normalization: Normalization::HALF };
        Batch { images, targets: self.targets.clone() }
    }

    /// Calls `check` with each parameter's name, PyTorch's gradient and the indices of its samples.
    fn each_gradient<E: From<alexnet_core::Error>>(
        &self,
        mut check: impl FnMut(&str, &Gradient, &[usize]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (salt, parameter) in (0..).zip(self.topology().parameters()?) {
            let gradient = &self.gradients[&parameter.name];
            let index = |k: usize| mix(k as u32, 100 + salt) as usize % parameter.elements();
            let indices: Vec<usize> = (0..gradient.samples.len()).map(index).collect();
            check(&parameter.name, gradient, &indices)?;
        }
        Ok(())
    }
}

/// Returns 32 pseudorandom bits.
fn mix(index: u32, salt: u32) -> u32 {
    let scramble = |h: u32| {
        let h = (h ^ (h >> 16)).wrapping_mul(0x7feb_352d);
        let h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
        h ^ (h >> 16)
    };
    scramble(scramble(salt) ^ index)
}

fn check(engine: &Engine, golden: &Golden) -> Outcome {
    let (topology, batch) = (golden.topology(), golden.batch());
    let mut model = engine.compile(&topology, &golden.state()?, Optimizer::default())?;
    let step = |number| Step {
        micro_batch: None,
        number,
        seed: 0,
        lr: LEARNING_RATE,
        clip_grad_norm: None,
    };

    let logits = model.logits(&batch.images)?;
    let truth = &golden.logits;
    engine.same_outputs("logits", &logits.values, truth)?;
    for (found, truth) in logits.rows().zip(truth.chunks_exact(logits.classes)) {
        same_top1(engine, found, truth)?;
    }

    let (found, gradients) = model.gradients(&batch, &step(1))?;
    compare::relative("loss", found.loss, golden.loss, engine.of_network(1e-5))?;
    let tolerance = engine.of_gradients(1e-4);
    compare::relative("gradient norm", found.gradient_norm, golden.gradient_norm, tolerance)?;
    golden.each_gradient(|name, truth, indices| -> Outcome {
        let found = &gradients.get(name).ok_or(format!("no gradient of {name}"))?.values;
        let norm = found.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        compare::relative(&format!("norm of the gradient of {name}"), norm, truth.norm, tolerance)?;
        if engine.products != Products::F32 {
            return Ok(());
        }
        let samples: Vec<f32> = indices.iter().map(|index| found[*index]).collect();
        let largest = truth.samples.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        compare::within(&format!("gradient of {name}"), &samples, &truth.samples, |_| {
            tolerance * largest
        })
    })?;
    drop(gradients);

    for (number, truth) in (1..).zip(&golden.losses) {
        let loss = model.train_step(&batch, &step(number))?.loss;
        let [found, truth] = [loss, *truth].map(|loss| StepReport { loss, gradient_norm: 1.0 });
        engine.same_step(number, &found, &truth)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{Network, cross_entropy, norm};
    use alexnet_core::Mode;

    fn assert_close(what: &str, found: &[f64], truth: &[f64]) {
        assert_eq!(found.len(), truth.len(), "{what}");
        for (i, (found, truth)) in found.iter().zip(truth).enumerate() {
            assert!(
                (found - truth).abs() <= 1e-11 + 1e-9 * truth.abs(),
                "{what}[{i}]: {found}, {truth}"
            );
        }
    }

    /// The reference and PyTorch both compute in f64, so the results differ only by the order of
    /// sums.
    fn compare_with_pytorch(variant: Variant) {
        let golden = Golden::of(variant).unwrap();
        let batch = golden.batch();
        let state = golden.state().unwrap();
        let network = Network::new(&golden.topology(), &state, Optimizer::default()).unwrap();
        let trace = network.forward(&batch.images, Mode::Differentiate).unwrap();
        assert_close("logits", &trace.logits().values, &golden.logits);
        let (loss, cotangent) = cross_entropy(trace.logits(), &batch.targets, None);
        assert_close("loss", &[loss], &[golden.loss]);
        let gradients = network.backward(&trace, cotangent, Mode::Differentiate).parameters;
        assert_close("gradient norm", &[norm(&gradients)], &[golden.gradient_norm]);
        let check = |name: &str, truth: &Gradient, indices: &[usize]| -> alexnet_core::Result<()> {
            let found = &gradients[name].values;
            assert_close(name, &[found.iter().map(|v| v * v).sum::<f64>().sqrt()], &[truth.norm]);
            let samples: Vec<f64> = indices.iter().map(|index| found[*index]).collect();
            assert_close(name, &samples, &truth.samples);
            Ok(())
        };
        golden.each_gradient(check).unwrap();
    }

    #[test]
    fn the_reference_equals_pytorch_on_the_tutorial_network() {
        compare_with_pytorch(Variant::Tutorial);
    }

    #[test]
    fn the_reference_equals_pytorch_on_the_original_network() {
        compare_with_pytorch(Variant::Original);
    }

    #[test]
    fn the_reference_equals_pytorch_on_the_torchvision_network() {
        compare_with_pytorch(Variant::Torchvision);
    }
}
