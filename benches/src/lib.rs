//! Code that the benchmarks share: the engines, and the single layers of a network.
#![forbid(unsafe_code)]

use alexnet_backend_candle::CandleBackend;
use alexnet_backend_cpu::{CpuBackend, Isa, Kernels};
use alexnet_core::{Backend, Node, Op, Precision, Result, Topology};

/// Returns all engines.
pub fn engines() -> Vec<Box<dyn Backend>> {
    vec![
        Box::new(CpuBackend::default()),
        Box::new(CandleBackend),
        #[cfg(feature = "tch")]
        Box::new(alexnet_backend_tch::TchBackend::default()),
    ]
}

/// Returns all engines with their names, and the engine `cpu` with its other vector instructions and
/// in bf16. A change can slow down one of them only.
pub fn variants() -> Vec<(String, Box<dyn Backend>)> {
    let with = |kernels| Box::new(CpuBackend { kernels, division: None }) as Box<dyn Backend>;
    let of_isa = |isa: Isa| (format!("cpu-{isa}"), with(Kernels { isa, ..Kernels::default() }));
    let bf16 = Kernels { precision: Precision::Bf16, ..Kernels::default() };
    let engines = engines().into_iter().map(|engine| (engine.name().into(), engine));
    let others = Isa::available().filter(|isa| *isa != Isa::best() && *isa != Isa::Portable);
    engines.chain(others.map(of_isa)).chain([("cpu-bf16".into(), with(bf16))]).collect()
}

/// Returns each convolution, pooling, normalization and linear layer of `topology` as a separate
/// network, with its name. Since the input of an engine is images, a 1×1 convolution before the
/// layer creates the channels that the layer needs. Its cost is small compared with that of the
/// layer.
///
/// # Errors
/// [`alexnet_core::Error::Topology`] when the network is not valid.
pub fn layers(topology: &Topology) -> Result<Vec<(String, Topology)>> {
    let mut layers = Vec::new();
    let mut input = topology.input.to_vec();
    for (Node { name, op }, output) in topology.nodes.iter().zip(topology.shapes()?) {
        if matches!(
            op,
            Op::Conv2d { .. }
                | Op::MaxPool2d { .. }
                | Op::LocalResponseNorm { .. }
                | Op::Linear { .. }
        ) {
            layers.push((name.clone(), single_operation(op, &input)));
        }
        input = output;
    }
    Ok(layers)
}

/// Returns a network of one operation on `input`, `[C, H, W]` or `[features]`.
fn single_operation(op: &Op, input: &[usize]) -> Topology {
    let [channels, height, width] = match *input {
        [channels, height, width] => [channels, height, width],
        _ => [input.iter().product(), 1, 1],
    };
    let mut ops = vec![op.clone()];
    // The output of the network must be features, and so must the input of a linear layer.
    let flatten = if matches!(op, Op::Linear { .. }) { 0 } else { 1 };
    ops.insert(flatten, Op::Flatten);
    if channels != 3 {
        ops.insert(
            0,
            Op::Conv2d {
                inputs: 3,
                outputs: channels,
                kernel: 1,
                stride: 1,
                padding: 0,
                groups: 1,
            },
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
    fn single_layers_have_the_shapes_of_the_network() {
        let topology = Variant::Original.topology(5);
        let layers = layers(&topology).unwrap();
        // Five convolutions, three poolings, two normalizations, three linear layers.
        assert_eq!(layers.len(), 13);
        let shapes = topology.shapes().unwrap();
        for (name, single) in layers {
            let index = topology.nodes.iter().position(|node| node.name == name).unwrap();
            assert_eq!(
                single.classes().unwrap(),
                shapes[index].iter().product::<usize>(),
                "{name}"
            );
        }
    }
}
