//! What the benchmarks share: the engines, and the layers of a network one by one.
#![forbid(unsafe_code)]

use alexnet_backend_candle::CandleBackend;
use alexnet_backend_cpu::CpuBackend;
use alexnet_core::{Backend, Node, Op, Result, Topology};

/// The engines, listed once.
pub fn engines() -> Vec<Box<dyn Backend>> {
    vec![
        Box::new(CpuBackend::default()),
        Box::new(CandleBackend),
        #[cfg(feature = "tch")]
        Box::new(alexnet_backend_tch::TchBackend),
    ]
}

/// Each convolution, pooling, normalization and linear layer of `topology` as a network of its own, by its name. An engine takes
/// images alone, so a 1×1 convolution in front makes as many channels as the layer needs; it is small beside the layer.
///
/// # Errors
/// [`alexnet_core::Error::Topology`] when the network is not valid.
pub fn layers(topology: &Topology) -> Result<Vec<(String, Topology)>> {
    let mut layers = Vec::new();
    let mut input = topology.input.to_vec();
    for (Node { name, op }, output) in topology.nodes.iter().zip(topology.shapes()?) {
        if matches!(
            op,
            Op::Conv2d { .. } | Op::MaxPool2d { .. } | Op::LocalResponseNorm { .. } | Op::Linear { .. }
        ) {
            layers.push((name.clone(), alone(op, &input)));
        }
        input = output;
    }
    Ok(layers)
}

/// One operation on `input`, `[C, H, W]` or `[features]`.
fn alone(op: &Op, input: &[usize]) -> Topology {
    let [channels, height, width] = match *input {
        [channels, height, width] => [channels, height, width],
        _ => [input.iter().product(), 1, 1],
    };
    let mut ops = vec![op.clone()];
    // The network must end in features, and a linear layer begins with them.
    let flatten = if matches!(op, Op::Linear { .. }) { 0 } else { 1 };
    ops.insert(flatten, Op::Flatten);
    if channels != 3 {
        ops.insert(
            0,
            Op::Conv2d { inputs: 3, outputs: channels, kernel: 1, stride: 1, padding: 0, groups: 1 },
        );
    }
    let nodes = ops.into_iter().enumerate().map(|(i, op)| Node { name: format!("layer.{i}"), op });
    Topology { input: [3, height, width], nodes: nodes.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alexnet_core::alexnet::Variant;

    #[test]
    fn each_layer_stands_alone_with_the_shape_it_has_in_the_network() {
        let topology = Variant::Original.topology(5);
        let layers = layers(&topology).unwrap();
        // Five convolutions, three poolings, two normalizations, three linear layers.
        assert_eq!(layers.len(), 13);
        let shapes = topology.shapes().unwrap();
        for (name, alone) in layers {
            let place = topology.nodes.iter().position(|node| node.name == name).unwrap();
            assert_eq!(alone.classes().unwrap(), shapes[place].iter().product::<usize>(), "{name}");
        }
    }
}
