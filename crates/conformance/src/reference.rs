//! A plain f64 engine: the truth that the engines are measured against.
//!
//! Written for the reader, not for the machine: nested loops over [`Tensor`]s, one file an operation, forward and backward
//! side by side. [`Network`] keeps everything in f64 and shows all it computes; [`Reference`] puts it behind
//! [`alexnet_core::Backend`] by rounding to f32 at the boundary, parameters and moments included.

mod convolution;
mod engine;
mod linear;
mod local_response_norm;
mod loss;
mod network;
mod operation;
pub(crate) mod pooling;
mod tensor;
mod update;

pub use engine::Reference;
pub use network::{Derivative, Network, Trace};
pub use tensor::Tensor;

pub(crate) use operation::{NodeView, backward, forward};
#[cfg(test)]
pub(crate) use {loss::cross_entropy, network::norm};

#[cfg(test)]
mod tests;
