//! From the topology to layers: one exhaustive `match`.

use alexnet_core::{Layer, Node, Op, Options, Result, State, Topology};
use candle_core::{Device, Tensor};

use crate::{
    convolve::Convolve,
    failed,
    layers::{Conv2d, Dropout, Flatten, Linear, LocalResponseNorm, MaxPool2d, Relu},
    parameter::Parameter,
    window::Window,
};

/// Layers in order, and the parameters that they share.
type Lowered = (Vec<Box<dyn Layer<Tensor> + Send>>, Vec<Parameter>);

/// The layers of `topology` with the parameters and moments of `state`, which fits. A ReLU that follows a convolution or
/// a linear layer becomes part of it.
///
/// # Errors
/// [`alexnet_core::Error::Topology`] when the network is not valid; candle's, when the device is full.
pub fn lower(topology: &Topology, state: &State, options: &Options, device: &Device) -> Result<Lowered> {
    let mut layers: Vec<Box<dyn Layer<Tensor> + Send>> = Vec::new();
    let mut parameters = Vec::new();
    let mut input = topology.input.to_vec();
    let mut nodes = topology.nodes.iter().zip(topology.shapes()?).enumerate().peekable();
    while let Some((index, (Node { name, op }, output))) = nodes.next() {
        let multiplies = matches!(op, Op::Conv2d { .. } | Op::Linear { .. });
        let relu = multiplies && nodes.next_if(|(_, (next, _))| next.op == Op::Relu).is_some();
        let mut load = |role: &str| {
            let parameter =
                Parameter::load(&format!("{name}.{role}"), state, options, device).map_err(failed)?;
            let tensor = parameter.tensor();
            parameters.push(parameter);
            Ok(tensor)
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
                convolve: Convolve { window: window(kernel, stride, padding), relu },
            }),
            Op::Relu => Box::new(Relu),
            Op::MaxPool2d { kernel, stride } => Box::new(MaxPool2d { window: window(kernel, stride, 0) }),
            Op::LocalResponseNorm { size, alpha, beta, k } => {
                Box::new(LocalResponseNorm { size, alpha, beta, k })
            }
            Op::Flatten => Box::new(Flatten),
            Op::Linear { .. } => Box::new(Linear { weight: load("weight")?, bias: load("bias")?, relu }),
            Op::Dropout { p } => Box::new(Dropout { p, node: index }),
        });
        input = output;
    }
    Ok((layers, parameters))
}

/// Height and width of a shape `[C, H, W]`, which a valid topology gives to operations on images.
fn plane(shape: &[usize]) -> [usize; 2] {
    [shape[1], shape[2]]
}
