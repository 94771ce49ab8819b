//! ONNX, for whatever runs it.
