//! Lowers nodes of the network to nodes of ONNX.

use alexnet_core::{Error, Node, Op, Result};

use super::messages::{AttributeProto, AttributeType, NodeProto};

/// Returns the ONNX node for `node` in evaluation mode, with the input value `input`. Its output
/// has the name of the node. Returns `None` for a node that does nothing in evaluation mode.
///
/// # Errors
/// [`Error::Topology`] when ONNX has no equivalent operation.
pub fn lower(node: &Node, input: &str) -> Result<Option<NodeProto>> {
    let Node { name, op } = node;
    let with_parameters =
        || vec![input.to_owned(), format!("{name}.weight"), format!("{name}.bias")];
    let (op_type, input, attribute) = match *op {
        Op::Conv2d { inputs: _, outputs: _, kernel, stride, padding, groups } => (
            "Conv",
            with_parameters(),
            vec![
                ints("kernel_shape", &[kernel; 2]),
                ints("strides", &[stride; 2]),
                ints("pads", &[padding; 4]),
                int("group", groups),
            ],
        ),
        Op::Relu => ("Relu", vec![input.into()], vec![]),
        Op::MaxPool2d { kernel, stride } => (
            "MaxPool",
            vec![input.into()],
            vec![ints("kernel_shape", &[kernel; 2]), ints("strides", &[stride; 2])],
        ),
        Op::LocalResponseNorm { size, .. } if size.is_multiple_of(2) => {
            let reason = format!(
                "a window of {size} channels has one more channel before its center here, and after its center in ONNX; \
                 only odd sizes can be exported"
            );
            return Err(Error::Topology { node: name.clone(), reason });
        }
        Op::LocalResponseNorm { size, alpha, beta, k } => (
            "LRN",
            vec![input.into()],
            vec![
                int("size", size),
                // ONNX divides it by the size.
                float("alpha", alpha * size as f32),
                float("beta", beta),
                float("bias", k),
            ],
        ),
        Op::Flatten => ("Flatten", vec![input.into()], vec![int("axis", 1)]),
        Op::Linear { inputs: _, outputs: _ } => ("Gemm", with_parameters(), vec![int("transB", 1)]),
        Op::Dropout { p: _ } => return Ok(None),
    };
    Ok(Some(NodeProto {
        input,
        output: vec![name.clone()],
        name: name.clone(),
        op_type: op_type.into(),
        attribute,
    }))
}

/// Returns the node that computes probabilities from logits.
pub fn softmax(input: &str, output: &str) -> NodeProto {
    NodeProto {
        input: vec![input.into()],
        output: vec![output.into()],
        name: "softmax".into(),
        op_type: "Softmax".into(),
        attribute: vec![int("axis", 1)],
    }
}

fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto { i: Some(value as i64), ..attribute(name, AttributeType::Int) }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|value| *value as i64).collect();
    AttributeProto { ints, ..attribute(name, AttributeType::Ints) }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind.into(), ..AttributeProto::default() }
}
