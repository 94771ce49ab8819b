//! From the topology to layers: one exhaustive `match`.

use alexnet_core::{Array, Node, Op, Options, Result, State, Topology};

use crate::{
    layers::{Conv2d, CpuLayer, Dropout, Flatten, Geometry, Linear, LocalResponseNorm, MaxPool2d, Relu},
    parameter::Parameter,
    tensor::Pool,
};

/// The layers of `topology` in order, with the parameters and moments of `state`, which fits. A ReLU that follows a
/// convolution or a linear layer becomes part of it.
///
/// # Errors
/// [`alexnet_core::Error::Topology`] when the network is not valid.
pub fn lower(
    topology: &Topology,
    state: &State,
    options: &Options,
    pool: &Pool,
) -> Result<Vec<Box<dyn CpuLayer>>> {
    let shapes = topology.shapes()?;
    let mut layers: Vec<Box<dyn CpuLayer>> = Vec::new();
    let mut learns_before = false;
    let mut nodes = topology.nodes.iter().enumerate().peekable();
    while let Some((index, Node { name, op })) = nodes.next() {
        let input: &[usize] = if index == 0 { &topology.input } else { &shapes[index - 1] };
        let multiplies = matches!(op, Op::Conv2d { .. } | Op::Linear { .. });
        let relu = multiplies && nodes.next_if(|(_, next)| next.op == Op::Relu).is_some();
        let parameters =
            || ["weight", "bias"].map(|role| load_parameter(&format!("{name}.{role}"), state, options));
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
                Box::new(Conv2d::new(geometry, parameters(), relu, learns_before, pool))
            }
            Op::Linear { .. } => Box::new(Linear::new(parameters(), relu, learns_before, pool)),
            Op::Relu => Box::new(Relu::default()),
            Op::MaxPool2d { kernel, stride } => Box::new(MaxPool2d::new(
                kernel,
                stride,
                image_shape(input),
                image_shape(&shapes[index]),
                pool,
            )),
            Op::LocalResponseNorm { size, alpha, beta, k } => {
                Box::new(LocalResponseNorm::new(size, alpha, beta, k, pool))
            }
            Op::Flatten => Box::new(Flatten { item: input.to_vec() }),
            Op::Dropout { p } => Box::new(Dropout::new(p, index, pool)),
        });
        learns_before |= layers.last().is_some_and(|layer| layer.learns());
    }
    Ok(layers)
}

/// `[C, H, W]` of a shape that the topology has checked to be one.
fn image_shape(shape: &[usize]) -> [usize; 3] {
    shape.try_into().expect("a valid topology gives images to operations on images")
}

fn load_parameter(name: &str, state: &State, options: &Options) -> Parameter {
    let Array { shape, values } = state.parameters[name].clone();
    let learns = !options.frozen.contains(name);
    let moments = |moment: &&str| match state.moments.get(&format!("{name}.{moment}")) {
        Some(saved) => saved.values.clone(),
        None => vec![0.0; values.len()],
    };
    let (gradient, moments) = if learns {
        (vec![0.0; values.len()], options.optimizer.moments().iter().map(moments).collect())
    } else {
        Default::default()
    };
    Parameter { name: name.to_owned(), shape, values, learns, gradient, moments }
}
