//! Export to ONNX, for example for ONNX Runtime, OpenCV or browsers.
//!
//! A file contains the network in evaluation mode, its parameters, and the metadata needed to use
//! it. IR version 8 and operator set 17 are those of ONNX 1.12 (June 2022). ONNX Runtime has read
//! them since version 1.13 of the same year, and it continues to read older versions. These
//! networks need no newer operators.

mod lower;
mod messages;

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use alexnet_core::{
    Array, Error, Normalization, Result, Topology,
    files::{each_block, write_atomically},
    weights::{Metadata, Weights},
};
use prost::Message;

use self::messages::{
    DataType, Dimension, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, key,
};
use crate::in_order;

const IR_VERSION: i64 = 8;
const OPERATOR_SET: i64 = 17;

const IMAGES: &str = "images";
const LOGITS: &str = "logits";
const PROBABILITIES: &str = "probabilities";

/// Writes weights and their network atomically as one ONNX file. Equal weights give equal bytes.
///
/// The input `images` is f32 `[batch, 3, H, W]`, normalized, with any batch size. The output is
/// `logits` `[batch, classes]`, or with `softmax` `probabilities` of the same shape. Initializers
/// have the names of PyTorch's parameters, nodes those of PyTorch's modules. The metadata are
/// `variant`, `classes` (a JSON list), `input_size`, `mean` and `std` (JSON lists), and `resize_crop`
/// and `exif_orientation` as in weights files.
///
/// # Errors
/// [`Error::Parameters`] when the parameters are not those of the variant, [`Error::Io`].
pub fn save(weights: &Weights, path: impl AsRef<Path>, softmax: bool) -> Result<()> {
    let path = path.as_ref();
    let metadata = &weights.metadata;
    let topology = metadata.variant.topology(metadata.classes.len());
    let initializers = in_order(weights)?;
    let graph = graph(metadata, &topology, softmax)?;
    let model = model(metadata).map_err(|error| Error::io("write", path)(error.into()))?;
    write_atomically(path, |file| {
        let mut out = BufWriter::new(file);
        write(&mut out, &model, &graph, &initializers)?;
        out.flush()
    })
}

/// Returns the model without its graph.
fn model(metadata: &Metadata) -> serde_json::Result<ModelProto> {
    let mut entries = metadata.to_text()?;
    // This entry is only for safetensors files.
    entries.remove("format");
    Ok(ModelProto {
        ir_version: IR_VERSION,
        producer_name: "alexnet".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: doc(metadata),
        graph: None,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }],
        metadata_props: entries
            .into_iter()
            .map(|(key, value)| StringStringEntryProto { key, value })
            .collect(),
    })
}

fn doc(metadata: &Metadata) -> String {
    let Metadata { variant, input_size: size, normalization: Normalization { mean, std }, .. } =
        metadata;
    format!(
        "AlexNet ({variant}). `{IMAGES}` is [batch, 3, {size}, {size}]: the whole image in RGB, resized to {size}×{size} \
         without keeping its ratio (bilinear with antialiasing, as Pillow's BILINEAR), then (pixel / 255 - mean) / std for \
         each channel, with mean {mean:?} and std {std:?}."
    )
}

/// Returns the graph without its initializers.
fn graph(metadata: &Metadata, topology: &Topology, softmax: bool) -> Result<GraphProto> {
    let mut nodes = Vec::new();
    let mut value = IMAGES.to_owned();
    for node in &topology.nodes {
        if let Some(lowered) = lower::lower(node, &value)? {
            value.clone_from(&node.name);
            nodes.push(lowered);
        }
    }
    if let Some(last) = nodes.last_mut() {
        last.output = vec![LOGITS.into()];
    }
    if softmax {
        nodes.push(lower::softmax(LOGITS, PROBABILITIES));
    }
    let output = if softmax { PROBABILITIES } else { LOGITS };
    Ok(GraphProto {
        node: nodes,
        name: metadata.variant.name().into(),
        initializer: vec![],
        input: vec![batch_of(IMAGES, &topology.input)],
        output: vec![batch_of(output, &[topology.classes()?])],
    })
}

/// Returns an f32 value of shape `[batch, …]`.
fn batch_of(name: &str, shape: &[usize]) -> ValueInfoProto {
    let batch = Dimension { dim_value: None, dim_param: Some("batch".into()) };
    let fixed =
        shape.iter().map(|extent| Dimension { dim_value: Some(*extent as i64), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(fixed).collect() };
    let tensor_type = TensorTypeProto { elem_type: DataType::Float.into(), shape: Some(shape) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// Writes the message of `model` with `graph` with `initializers`, without copying the numbers in
/// memory. Each nested message consists of its key, its length and its content.
fn write(
    out: &mut impl Write,
    model: &ModelProto,
    graph: &GraphProto,
    initializers: &[(&str, &Array)],
) -> io::Result<()> {
    let tensors = initializers.iter().map(|(name, array)| {
        let mut head = TensorProto {
            dims: array.shape.iter().map(|extent| *extent as i64).collect(),
            data_type: DataType::Float.into(),
            name: (*name).to_owned(),
            raw_data: vec![],
        }
        .encode_to_vec();
        let bytes = size_of_val(array.values.as_slice());
        head.extend(prefix(key::TENSOR_RAW_DATA, bytes)?);
        let mut start = prefix(key::GRAPH_INITIALIZER, head.len() + bytes)?;
        start.append(&mut head);
        Ok((start, array))
    });
    let tensors: Vec<(Vec<u8>, &&Array)> = tensors.collect::<io::Result<_>>()?;
    let graph = graph.encode_to_vec();
    let length: usize = tensors
        .iter()
        .map(|(start, array)| start.len() + size_of_val(array.values.as_slice()))
        .sum();

    out.write_all(&model.encode_to_vec())?;
    out.write_all(&prefix(key::MODEL_GRAPH, graph.len() + length)?)?;
    out.write_all(&graph)?;
    for (start, array) in tensors {
        out.write_all(&start)?;
        each_block(&array.values, |bytes| out.write_all(bytes))?;
    }
    Ok(())
}

/// Returns the key and the length that are written before the `length` bytes of a field.
fn prefix(key: u8, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![key];
    prost::encode_length_delimiter(length, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
