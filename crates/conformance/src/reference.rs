//! A plain f64 engine, which is the reference for the other engines.
//!
//! It is written to be readable, not fast: nested loops over [`Tensor`]s, one file per operation
//! with its forward and backward pass. [`Network`] computes in f64 and exposes all results.
//! [`Reference`] implements [`alexnet_core::Backend`] with it; all results, also parameters and
//! moments, are rounded to f32.

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
pub(crate) use engine::inspection;
pub use network::{Derivative, Network, Trace};
pub use tensor::Tensor;

pub(crate) use operation::{NodeView, backward, forward};
#[cfg(test)]
pub(crate) use {loss::cross_entropy, network::norm};

#[cfg(test)]
mod tests;
