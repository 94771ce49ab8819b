//! The part of `onnx.proto` (ONNX 1.12) that these networks need, with the same names and tags.
//!
//! The schema is proto2, in which writing a scalar of value 0 is optional. It is written for the
//! fields that are `Option` here, since ONNX's checker requires the value of an attribute. Lists of
//! numbers are not packed, as in proto2.

use prost::{Enumeration, Message};

/// The keys of the fields that are written without their message: field number, and the wire type
/// of bytes (2).
pub mod key {
    /// [`super::ModelProto::graph`]
    pub const MODEL_GRAPH: u8 = 7 << 3 | 2;
    /// [`super::GraphProto::initializer`]
    pub const GRAPH_INITIALIZER: u8 = 5 << 3 | 2;
    /// [`super::TensorProto::raw_data`]
    pub const TENSOR_RAW_DATA: u8 = 9 << 3 | 2;
}

/// The content of a file.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    #[prost(int64, tag = 1)]
    pub ir_version: i64,
    #[prost(string, tag = 2)]
    pub producer_name: String,
    #[prost(string, tag = 3)]
    pub producer_version: String,
    #[prost(string, tag = 6)]
    pub doc_string: String,
    #[prost(message, optional, tag = 7)]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = 8)]
    pub opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = 14)]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// An operator set. The empty domain is that of ONNX.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    #[prost(string, tag = 1)]
    pub domain: String,
    #[prost(int64, tag = 2)]
    pub version: i64,
}

/// An entry of the metadata.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    #[prost(string, tag = 1)]
    pub key: String,
    #[prost(string, tag = 2)]
    pub value: String,
}

/// A network. The nodes are in topological order.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = 1)]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = 2)]
    pub name: String,
    #[prost(message, repeated, tag = 5)]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = 11)]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = 12)]
    pub output: Vec<ValueInfoProto>,
}

/// An operation on named values.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    #[prost(string, repeated, tag = 1)]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = 2)]
    pub output: Vec<String>,
    #[prost(string, tag = 3)]
    pub name: String,
    #[prost(string, tag = 4)]
    pub op_type: String,
    #[prost(message, repeated, tag = 5)]
    pub attribute: Vec<AttributeProto>,
}

/// An attribute of a node. `type` says which field contains the value.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    #[prost(string, tag = 1)]
    pub name: String,
    #[prost(float, optional, tag = 2)]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = 3)]
    pub i: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = 8)]
    pub ints: Vec<i64>,
    #[prost(enumeration = "AttributeType", tag = 20)]
    pub r#type: i32,
}

/// `AttributeProto.AttributeType`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Enumeration)]
#[repr(i32)]
pub enum AttributeType {
    Undefined = 0,
    Float = 1,
    Int = 2,
    Ints = 7,
}

/// A tensor with little-endian numbers.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = 1)]
    pub dims: Vec<i64>,
    #[prost(enumeration = "DataType", tag = 2)]
    pub data_type: i32,
    #[prost(string, tag = 8)]
    pub name: String,
    #[prost(bytes = "vec", tag = 9)]
    pub raw_data: Vec<u8>,
}

/// `TensorProto.DataType`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Enumeration)]
#[repr(i32)]
pub enum DataType {
    Undefined = 0,
    Float = 1,
}

/// An input or output of the graph.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    #[prost(string, tag = 1)]
    pub name: String,
    #[prost(message, optional, tag = 2)]
    pub r#type: Option<TypeProto>,
}

/// The type of a value. Only tensors are needed.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    #[prost(message, optional, tag = 1)]
    pub tensor_type: Option<TensorTypeProto>,
}

/// `TypeProto.Tensor`
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    #[prost(enumeration = "DataType", tag = 1)]
    pub elem_type: i32,
    #[prost(message, optional, tag = 2)]
    pub shape: Option<TensorShapeProto>,
}

/// The shape of a value.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    #[prost(message, repeated, tag = 1)]
    pub dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`: a number, or a name for any number.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(int64, optional, tag = 1)]
    pub dim_value: Option<i64>,
    #[prost(string, optional, tag = 2)]
    pub dim_param: Option<String>,
}
