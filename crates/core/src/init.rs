//! Initial weights. They are computed on the host, so that all engines start from identical bits.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::{
    Array, Node, Op, Result, State, Topology,
    rng::{Purpose, generator},
    topology::{Parameter, Role},
};

/// The initialization of the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// As in the tutorial: convolutions `kaiming_normal_(mode='fan_out', nonlinearity='relu')`,
    /// linear layers N(0, 0.01), biases 0.
    #[default]
    Tutorial,
    /// PyTorch's default for `Conv2d` and `Linear`: weights and biases uniform in ±1/√fan_in.
    Pytorch,
    /// As in the paper (section 5): weights N(0, 0.01); biases 1 in the second, fourth and fifth
    /// convolution and in the hidden linear layers, else 0.
    Paper,
    /// As in Caffe's `bvlc_alexnet`: as [`Init::Paper`], but these biases are 0.1, and the weights of
    /// the hidden linear layers N(0, 0.005).
    Caffe,
}

enum Initializer {
    Constant(f32),
    /// Standard deviation.
    Normal(f32),
    /// Half the width of the interval around 0.
    Uniform(f32),
}

/// Returns the state before the first step: parameters drawn with `seed`, and no moments.
///
/// # Errors
/// [`crate::Error::Topology`] when the network is not valid.
pub fn initialize(topology: &Topology, init: Init, seed: u64) -> Result<State> {
    let parameters = topology.parameters()?;
    let mut state = State::default();
    for (index, parameter) in parameters.iter().enumerate() {
        let mut rng = generator(seed, Purpose::Init, 0, index as u64);
        let values = sample(initializer(topology, parameter, init), parameter.elements(), &mut rng);
        state
            .parameters
            .insert(parameter.name.clone(), Array { shape: parameter.shape.clone(), values });
    }
    Ok(state)
}

fn initializer(topology: &Topology, parameter: &Parameter, init: Init) -> Initializer {
    let op = &topology.nodes[parameter.node].op;
    match (init, parameter.role) {
        (Init::Tutorial, Role::Bias) => Initializer::Constant(0.0),
        (Init::Tutorial, Role::Weight) => match op {
            Op::Conv2d { outputs, kernel, .. } => {
                Initializer::Normal((2.0 / (outputs * kernel * kernel) as f32).sqrt())
            }
            _ => Initializer::Normal(0.01),
        },
        (Init::Pytorch, _) => {
            let fan_in = match op {
                Op::Conv2d { inputs, kernel, groups, .. } => inputs / groups * kernel * kernel,
                Op::Linear { inputs, .. } => *inputs,
                _ => 1,
            };
            Initializer::Uniform(1.0 / (fan_in as f32).sqrt())
        }
        (Init::Caffe, Role::Weight) if is_hidden_linear(topology, parameter.node) => {
            Initializer::Normal(0.005)
        }
        (Init::Paper | Init::Caffe, Role::Weight) => Initializer::Normal(0.01),
        (Init::Paper | Init::Caffe, Role::Bias) => {
            let raised = if init == Init::Paper { 1.0 } else { 0.1 };
            let is_raised = has_raised_bias(topology, parameter.node);
            Initializer::Constant(if is_raised { raised } else { 0.0 })
        }
    }
}

fn is_hidden_linear(topology: &Topology, node: usize) -> bool {
    let is_linear = |node: &Node| matches!(node.op, Op::Linear { .. });
    is_linear(&topology.nodes[node]) && topology.nodes[node + 1..].iter().any(is_linear)
}

/// Whether the paper initializes this node's bias to 1 instead of 0, "to provide the ReLUs with
/// positive inputs".
fn has_raised_bias(topology: &Topology, node: usize) -> bool {
    let same_kind_before =
        |is: fn(&Op) -> bool| topology.nodes[..node].iter().filter(|n| is(&n.op)).count();
    match topology.nodes[node].op {
        Op::Conv2d { .. } => {
            [1, 3, 4].contains(&same_kind_before(|op| matches!(op, Op::Conv2d { .. })))
        }
        _ => is_hidden_linear(topology, node),
    }
}

fn sample(initializer: Initializer, n: usize, rng: &mut impl Rng) -> Vec<f32> {
    match initializer {
        Initializer::Constant(value) => vec![value; n],
        Initializer::Normal(std) => {
            let mut normal = || -> f32 { StandardNormal.sample(rng) };
            (0..n).map(|_| std * normal()).collect()
        }
        Initializer::Uniform(half) => (0..n).map(|_| rng.random_range(-half..half)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alexnet::Variant;

    fn mean_and_std(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        (mean, (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn tutorial_weights_have_the_std_of_kaiming_fan_out_and_001() {
        let state = initialize(&Variant::Tutorial.topology(5), Init::Tutorial, 0).unwrap();
        for (name, expected) in
            [("features.3.weight", (2.0 / (128.0 * 25.0f64)).sqrt()), ("classifier.1.weight", 0.01)]
        {
            let (mean, std) = mean_and_std(&state.parameters[name].values);
            assert!(
                mean.abs() < expected / 100.0 && (std / expected - 1.0).abs() < 0.01,
                "{name} {mean} {std}"
            );
        }
        assert!(state.parameters["features.3.bias"].values.iter().all(|v| *v == 0.0));
    }

    #[test]
    fn pytorch_weights_are_uniform_within_the_fan_in_bound() {
        let state = initialize(&Variant::Original.topology(5), Init::Pytorch, 0).unwrap();
        let half = 1.0 / (48.0f32 * 25.0).sqrt();
        for name in ["features.4.weight", "features.4.bias"] {
            let values = &state.parameters[name].values;
            let largest = values.iter().fold(0.0f32, |a, v| a.max(v.abs()));
            assert!(largest <= half && largest > 0.95 * half, "{name} {largest}");
        }
        let (mean, std) = mean_and_std(&state.parameters["features.4.weight"].values);
        assert!(mean.abs() < 1e-3 && (std * 3f64.sqrt() / f64::from(half) - 1.0).abs() < 0.01);
    }

    #[test]
    fn paper_biases_are_one_in_the_named_layers() {
        let topology = Variant::Original.topology(5);
        let state = initialize(&topology, Init::Paper, 0).unwrap();
        let ones: Vec<_> = topology
            .parameters()
            .unwrap()
            .into_iter()
            .filter(|p| {
                p.role == Role::Bias && state.parameters[&p.name].values.iter().all(|v| *v == 1.0)
            })
            .map(|p| p.name)
            .collect();
        assert_eq!(
            ones,
            [
                "features.4.bias",
                "features.10.bias",
                "features.12.bias",
                "classifier.0.bias",
                "classifier.3.bias"
            ]
        );
        assert!(state.parameters["classifier.6.bias"].values.iter().all(|v| *v == 0.0));
    }

    /// The fillers of `models/bvlc_alexnet/train_val.prototxt` of Caffe.
    #[test]
    fn caffe_weights_and_biases_are_those_of_bvlc_alexnet() {
        let state = initialize(&Variant::Original.topology(1000), Init::Caffe, 0).unwrap();
        for (layer, expected_std, expected_bias) in [
            ("features.0", 0.01, 0.0),
            ("features.4", 0.01, 0.1),
            ("features.8", 0.01, 0.0),
            ("features.10", 0.01, 0.1),
            ("features.12", 0.01, 0.1),
            ("classifier.0", 0.005, 0.1),
            ("classifier.3", 0.005, 0.1),
            ("classifier.6", 0.01, 0.0),
        ] {
            let (mean, std) = mean_and_std(&state.parameters[&format!("{layer}.weight")].values);
            assert!(mean.abs() < expected_std / 50.0, "{layer}: {mean}");
            assert!((std / expected_std - 1.0).abs() < 0.02, "{layer}: {std}");
            let bias = &state.parameters[&format!("{layer}.bias")].values;
            assert!(bias.iter().all(|value| *value == expected_bias), "{layer}");
        }
    }

    #[test]
    fn equal_seeds_give_equal_bits() {
        let topology = Variant::Tutorial.topology(5);
        let one = initialize(&topology, Init::Tutorial, 1).unwrap();
        assert_eq!(one, initialize(&topology, Init::Tutorial, 1).unwrap());
        assert_ne!(one, initialize(&topology, Init::Tutorial, 2).unwrap());
    }
}
