//! Lowers a topology to layers.

use alexnet_core::{Array, Node, Op, Options, Result, State, Topology, sum_order::Share};

use crate::{
    convolution::Geometry,
    hybrid::LinearRanks,
    kernels::Kernels,
    layers::{
        Constants, Conv2d, CpuLayer, Dropout, Flatten, Fused, Linear, LocalResponseNorm, MaxPool2d,
        Relu,
    },
    parameter::{Layout, ParameterState},
    tensor::Pool,
};

/// A lowered topology.
pub struct Lowered {
    /// The layers in order.
    pub layers: Vec<Box<dyn CpuLayer>>,
    /// For each node of the topology, the number of layers that compute the nodes up to it.
    pub layers_after: Vec<usize>,
}

/// Returns the layers of `topology`, with the parameters and moments of `state`, which must fit the
/// topology. A ReLU after a convolution or a linear layer is fused into that layer, and so is a max
/// pooling after a convolution (with or without a ReLU in between), but nothing is fused to an
/// observed node. The weights of linear layers are divided among `ranks`.
///
/// # Errors
/// [`alexnet_core::Error::Topology`] when the network is not valid.
pub fn lower(
    topology: &Topology,
    state: &State,
    options: &Options,
    kernels: Kernels,
    ranks: Option<&LinearRanks>,
    pool: &Pool,
) -> Result<Lowered> {
    let shapes = topology.shapes()?;
    let mut layers: Vec<Box<dyn CpuLayer>> = Vec::new();
    let mut layers_after = Vec::new();
    let mut needs_dx = !options.observed.is_empty();
    let Kernels { isa, exact } = kernels;
    let max_pool = |kernel, stride, input: &[usize], output: &[usize]| {
        MaxPool2d::new(kernel, stride, image_shape(input), image_shape(output), isa, pool.clone())
    };
    let mut nodes = topology.nodes.iter().enumerate().peekable();
    while let Some((index, Node { name, op })) = nodes.next() {
        let input: &[usize] = if index == 0 { &topology.input } else { &shapes[index - 1] };
        let multiplies = matches!(op, Op::Conv2d { .. } | Op::Linear { .. });
        // The name of the last node of the layer; an observed node ends a layer.
        let mut last = name;
        let is_observed = |name: &String| options.observed.contains(name);
        let relu = multiplies
            && !is_observed(last)
            && nodes.next_if(|(_, next)| next.op == Op::Relu).is_some_and(|(_, relu)| {
                last = &relu.name;
                true
            });
        let parameters = |layout: Layout, share: Share| {
            let load = |role, layout, share| {
                load_parameter(&format!("{name}.{role}"), layout, share, state, options)
            };
            [load("weight", layout, share), load("bias", Layout::Pytorch, Share::WHOLE)]
        };
        let pool = pool.clone();
        layers.push(match *op {
            Op::Conv2d { kernel, stride, padding, groups, .. } => {
                let geometry = Geometry {
                    input: image_shape(input),
                    output: image_shape(&shapes[index]),
                    kernel,
                    stride,
                    padding,
                    groups,
                };
                let next_pooling = nodes.next_if(|(_, next)| {
                    !is_observed(last) && matches!(next.op, Op::MaxPool2d { .. })
                });
                let pooling = next_pooling.map(|(at, next)| match next.op {
                    Op::MaxPool2d { kernel, stride } => {
                        max_pool(kernel, stride, &shapes[index], &shapes[at])
                    }
                    _ => unreachable!("`next_if` returns only a pooling"),
                });
                let fused = Fused { relu, pooling, needs_dx };
                let parameters = parameters(Layout::OutputsLast, Share::WHOLE);
                Box::new(Conv2d::new(geometry, parameters, fused, exact, isa, pool))
            }
            Op::Linear { .. } => {
                let share = ranks.map_or(Share::WHOLE, LinearRanks::share);
                let parameters = parameters(Layout::Pytorch, share);
                Box::new(Linear::new(parameters, ranks.cloned(), relu, needs_dx, isa, pool))
            }
            Op::Relu => Box::new(Relu::new(isa)),
            Op::MaxPool2d { kernel, stride } => {
                Box::new(max_pool(kernel, stride, input, &shapes[index]))
            }
            Op::LocalResponseNorm { size, alpha, beta, k } => {
                Box::new(LocalResponseNorm::new(Constants { size, alpha, beta, k }, isa, pool))
            }
            Op::Flatten => Box::new(Flatten { item: input.to_vec(), pool }),
            Op::Dropout { p } => Box::new(Dropout::new(p, index, pool)),
        });
        needs_dx |= layers.last().is_some_and(|layer| layer.is_trainable());
        let nodes_done = nodes.peek().map_or(topology.nodes.len(), |(next, _)| *next);
        layers_after.resize(nodes_done, layers.len());
    }
    Ok(Lowered { layers, layers_after })
}

/// Converts a shape that is known to be `[C, H, W]`, since the topology is valid.
fn image_shape(shape: &[usize]) -> [usize; 3] {
    shape.try_into().expect("in a valid topology, the input of this operation is an image")
}

fn load_parameter(
    name: &str,
    layout: Layout,
    share: Share,
    state: &State,
    options: &Options,
) -> ParameterState {
    let shape = state.parameters[name].shape.clone();
    let import = |Array { values, shape }: &Array| {
        let row = values.len() / shape[0];
        let rows = share.of(shape[0]);
        layout.import(shape, values[rows.start * row..rows.end * row].to_vec())
    };
    let values = import(&state.parameters[name]);
    let trainable = !options.frozen.contains(name);
    let moments = |moment: &&str| match state.moments.get(&format!("{name}.{moment}")) {
        Some(saved) => import(saved),
        None => vec![0.0; values.len()],
    };
    // The weight gradient of a linear layer is large and seldom needed, so it is allocated on first
    // use.
    let gradient = if shape.len() == 2 { Vec::new() } else { vec![0.0; values.len()] };
    let (gradient, moments) = if trainable {
        (gradient, options.optimizer.moments().iter().map(moments).collect())
    } else {
        Default::default()
    };
    let name = name.to_owned();
    ParameterState { name, shape, layout, share, values, trainable, gradient, moments }
}
