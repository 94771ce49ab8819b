//! Lowers a topology to layers.

use alexnet_core::{
    Node, Op, Options, Result, State, Topology,
    autodiff::{BoxedLayer, Lowered, ParameterState},
};
use candle_core::Tensor;

use crate::{
    convolution::{Convolution, Window},
    layers::{Conv2d, Dropout, Flatten, Linear, LocalResponseNorm, MaxPool2d, Relu},
    model::Candle,
};

/// Returns the layers of `topology` and their parameters, with the values and moments of `state`,
/// which must fit the topology. A ReLU after a convolution or a linear layer is fused into that
/// layer, unless that layer is observed.
///
/// # Errors
/// [`alexnet_core::Error::Topology`] when the network is not valid; those of candle, when the
/// device is out of memory.
pub fn lower(
    topology: &Topology,
    state: &State,
    options: &Options,
    engine: &Candle,
) -> Result<Lowered<Tensor>> {
    let mut layers: Vec<BoxedLayer<Tensor>> = Vec::new();
    let mut parameters = Vec::new();
    let mut layers_after = Vec::new();
    let mut input = topology.input.to_vec();
    let mut nodes = topology.nodes.iter().zip(topology.shapes()?).enumerate().peekable();
    while let Some((index, (Node { name, op }, output))) = nodes.next() {
        let multiplies = matches!(op, Op::Conv2d { .. } | Op::Linear { .. });
        let fusible = multiplies && !options.observed.contains(name);
        let relu = fusible && nodes.next_if(|(_, (next, _))| next.op == Op::Relu).is_some();
        let mut load = |role: &str| {
            let parameter =
                ParameterState::load(&format!("{name}.{role}"), state, options, engine)?;
            // The clone shares the storage and the node in the graph.
            let values = parameter.values.clone();
            parameters.push(parameter);
            Ok::<_, alexnet_core::Error>(values)
        };
        let window = |kernel, stride, padding| Window {
            input: plane(&input),
            output: plane(&output),
            kernel,
            stride,
            padding,
        };
        layers.push(match *op {
            Op::Conv2d { kernel, stride, padding, groups, .. } => Box::new(Conv2d {
                weight: load("weight")?,
                bias: load("bias")?,
                groups,
                convolution: Convolution { window: window(kernel, stride, padding), relu },
            }),
            Op::Relu => Box::new(Relu),
            Op::MaxPool2d { kernel, stride } => {
                Box::new(MaxPool2d { window: window(kernel, stride, 0) })
            }
            Op::LocalResponseNorm { size, alpha, beta, k } => {
                Box::new(LocalResponseNorm { size, alpha, beta, k })
            }
            Op::Flatten => Box::new(Flatten),
            Op::Linear { .. } => {
                Box::new(Linear { weight: load("weight")?, bias: load("bias")?, relu })
            }
            Op::Dropout { p } => Box::new(Dropout { p, node: index }),
        });
        input = output;
        let nodes_done = nodes.peek().map_or(topology.nodes.len(), |(next, _)| *next);
        layers_after.resize(nodes_done, layers.len());
    }
    Ok(Lowered { layers, parameters, layers_after })
}

/// Returns height and width of a shape `[C, H, W]`. In a valid topology, the inputs of operations
/// on images have such a shape.
fn plane(shape: &[usize]) -> [usize; 2] {
    [shape[1], shape[2]]
}
