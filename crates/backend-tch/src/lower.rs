//! Lowers a topology to layers.

use alexnet_core::{
    Node, Op, Options, Result, State, Topology,
    autodiff::{BoxedLayer, Lowered, ParameterState},
};
use tch::Tensor;

use crate::{
    layers::{Conv2d, Dropout, Flatten, Linear, LocalResponseNorm, MaxPool2d, Relu},
    model::Libtorch,
};

/// Returns the layers of the valid `topology` in order, and their parameters, with the values and
/// moments of `state`, which must fit the topology.
///
/// # Errors
/// Those of libtorch, for example when it is out of memory.
pub fn lower(
    topology: &Topology,
    state: &State,
    options: &Options,
    engine: &Libtorch,
) -> Result<Lowered<Tensor>> {
    let mut layers: Vec<BoxedLayer<Tensor>> = Vec::new();
    let mut parameters = Vec::new();
    let mut layers_after = vec![0; topology.nodes.len()];
    let mut before: Option<&Op> = None;
    for (index, Node { name, op }) in pooling_before_relu(topology, options) {
        let mut parameter = |role: &str| {
            let parameter =
                ParameterState::load(&format!("{name}.{role}"), state, options, engine)?;
            // The clone shares the storage and the node in the graph.
            let values = parameter.values.shallow_clone();
            parameters.push(parameter);
            Ok::<_, alexnet_core::Error>(values)
        };
        layers.push(match *op {
            Op::Conv2d { stride, padding, groups, .. } => Box::new(Conv2d {
                weight: parameter("weight")?,
                bias: parameter("bias")?,
                stride: stride as i64,
                padding: padding as i64,
                groups: groups as i64,
                factors: engine.factors(),
            }),
            Op::Linear { .. } => Box::new(Linear {
                weight: parameter("weight")?,
                bias: parameter("bias")?,
                factors: engine.factors(),
            }),
            // The gradients of these operations do not need their outputs, so the ReLU may
            // overwrite them.
            Op::Relu => Box::new(Relu {
                in_place: matches!(
                    before,
                    Some(Op::Conv2d { .. } | Op::Linear { .. } | Op::MaxPool2d { .. })
                ),
            }),
            Op::MaxPool2d { kernel, stride } => {
                Box::new(MaxPool2d { kernel: kernel as i64, stride: stride as i64 })
            }
            Op::LocalResponseNorm { size, alpha, beta, k } => Box::new(LocalResponseNorm {
                size: size as i64,
                alpha: alpha.into(),
                beta: beta.into(),
                k: k.into(),
            }),
            Op::Flatten => Box::new(Flatten),
            Op::Dropout { p } => Box::new(Dropout { p, node: index, device: engine.device }),
        });
        // An observed output must not be overwritten.
        before = (!options.observed.contains(name)).then_some(op);
        layers_after[index] = layers.len();
    }
    // Both nodes of a swapped pair end with the ReLU.
    for index in 1..layers_after.len() {
        layers_after[index] = layers_after[index].max(layers_after[index - 1]);
    }
    Ok(Lowered { layers, parameters, layers_after })
}

/// Returns the nodes with their indices, with each ReLU that is not observed moved after the
/// pooling that follows it.
/// The result and the gradients are the same, since max pooling and ReLU commute, and the ReLU
/// processes only a quarter of the numbers.
fn pooling_before_relu<'a>(topology: &'a Topology, options: &Options) -> Vec<(usize, &'a Node)> {
    let mut nodes: Vec<(usize, &Node)> = topology.nodes.iter().enumerate().collect();
    for i in 1..nodes.len() {
        let [(_, relu), (_, pooling)] = [nodes[i - 1], nodes[i]];
        let is_pair = relu.op == Op::Relu && matches!(pooling.op, Op::MaxPool2d { .. });
        if is_pair && !options.observed.contains(&relu.name) {
            nodes.swap(i - 1, i);
        }
    }
    nodes
}
