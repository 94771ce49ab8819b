//! Lowers a topology to layers.

use alexnet_core::{
    Array, Node, Op, Options, Result, State, Topology,
    sum_order::Share,
    towers::{Part, tower, whole},
};

use crate::{
    convolution::Geometry,
    division::{Division, LayerRanks},
    kernels::Kernels,
    layers::{
        Constants, Conv2d, CpuLayer, Dropout, ExchangeChannels, Flatten, Fused, Linear,
        LocalResponseNorm, MaxPool2d, OutputDivision, Relu, TowerNorm,
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
/// topology; their memory is reused. A ReLU after a convolution or a linear layer is fused into that
/// layer, and so is a max pooling after a convolution (with or without a ReLU in between), but
/// nothing is fused to an observed node. The outputs of layers are divided among ranks as `division`
/// says.
///
/// # Errors
/// [`alexnet_core::Error::Topology`] when the network is not valid; those of [`tower`].
pub fn lower(
    topology: &Topology,
    mut state: State,
    options: &Options,
    kernels: Kernels,
    division: Option<&Division>,
    pool: &Pool,
) -> Result<Lowered> {
    let ranks = division.and_then(Division::ranks);
    let towers = ranks.as_ref().filter(|_| division.is_some_and(Division::has_towers));
    let parts = match towers {
        Some(ranks) => tower(topology, ranks.share().ranks)?,
        None => whole(topology)?,
    };
    let mut layers: Vec<Box<dyn CpuLayer>> = Vec::new();
    let mut layers_after = Vec::new();
    let mut needs_dx = !options.observed.is_empty();
    let mut linear_layers = 0;
    let isa = kernels.isa;
    let max_pool = |kernel, stride, input: &[usize], output: &[usize]| {
        MaxPool2d::new(kernel, stride, image_shape(input), image_shape(output), isa, pool.clone())
    };
    let mut nodes = topology.nodes.iter().enumerate().peekable();
    while let Some((index, Node { name, op })) = nodes.next() {
        let Part { input, output, exchange, divided, groups } = &parts[index];
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
        let mut load = |role, layout, share| {
            load_parameter(&format!("{name}.{role}"), layout, share, &mut state, options)
        };
        let pool = pool.clone();
        if let Some(ranks) = towers.filter(|_| *exchange) {
            layers.push(Box::new(ExchangeChannels { ranks: ranks.clone(), pool: pool.clone() }));
        }
        layers.push(match *op {
            Op::Conv2d { kernel, stride, padding, .. } => {
                let geometry = Geometry {
                    input: image_shape(input),
                    output: image_shape(output),
                    kernel,
                    stride,
                    padding,
                    groups: *groups,
                };
                let next_pooling = nodes.next_if(|(_, next)| {
                    !is_observed(last) && matches!(next.op, Op::MaxPool2d { .. })
                });
                let pooling = next_pooling.map(|(at, next)| match next.op {
                    Op::MaxPool2d { kernel, stride } => {
                        max_pool(kernel, stride, output, &parts[at].output)
                    }
                    _ => unreachable!("`next_if` returns only a pooling"),
                });
                let fused = Fused { relu, pooling, needs_dx };
                let share = towers.map_or(Share::WHOLE, LayerRanks::share);
                let weight = load("weight", Layout::OutputsLast, share);
                let parameters = [weight, load("bias", Layout::Pytorch, share)];
                Box::new(Conv2d::new(geometry, parameters, fused, kernels, pool))
            }
            Op::Linear { .. } => {
                let share = ranks.as_ref().map_or(Share::WHOLE, LayerRanks::share);
                let weight = load("weight", Layout::Pytorch, share);
                let parameters = [weight, load("bias", Layout::Pytorch, Share::WHOLE)];
                // The gradients of the first linear layer's input are not needed for all images, or
                // not for all channels.
                let sums_dx = linear_layers > 0;
                linear_layers += 1;
                let division = ranks.clone().map(|ranks| OutputDivision { ranks, sums_dx });
                Box::new(Linear::new(parameters, division, relu, needs_dx, kernels, pool))
            }
            Op::Relu => Box::new(Relu::new(isa)),
            Op::MaxPool2d { kernel, stride } => Box::new(max_pool(kernel, stride, input, output)),
            Op::LocalResponseNorm { size, alpha, beta, k } => {
                let constants = Constants { size, alpha, beta, k };
                let norm = LocalResponseNorm::new(constants, isa, pool.clone());
                match towers.filter(|_| *divided && size > 1) {
                    Some(ranks) => Box::new(TowerNorm::new(norm, size, ranks.clone(), pool)),
                    None => Box::new(norm),
                }
            }
            Op::Flatten => Box::new(Flatten { item: input.clone(), pool }),
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
    state: &mut State,
    options: &Options,
) -> ParameterState {
    let parameter = state.parameters.remove(name).expect("the state fits the topology");
    let shape = parameter.shape.clone();
    let rows = share.of(shape[0]);
    let own_shape = [&[rows.len()], &shape[1..]].concat();
    let import = |Array { mut values, shape }: Array| {
        if share != Share::WHOLE {
            let row = values.len() / shape[0];
            values = values[rows.start * row..rows.end * row].to_vec();
        }
        layout.import(&own_shape, values)
    };
    let values = import(parameter);
    let trainable = !options.frozen.contains(name);
    let moments = |moment: &&str| match state.moments.remove(&format!("{name}.{moment}")) {
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
