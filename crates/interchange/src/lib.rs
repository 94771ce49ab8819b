//! Files that other tools write and read.
#![forbid(unsafe_code)]

pub mod onnx;
