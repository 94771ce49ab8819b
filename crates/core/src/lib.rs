//! The parts of AlexNet that do not need a tensor library.
//!
//! This crate describes the network ([`topology`], [`alexnet`]), initializes it ([`init`]), defines
//! the interface that an engine implements ([`backend`], [`layer`]), contains the code that engines
//! with automatic differentiation share ([`autodiff`]), trains through that interface ([`train`]),
//! on one process or several ([`collective`]), computes losses and metrics ([`loss`], [`metrics`])
//! and reads and writes the files of a run ([`weights`], [`checkpoint`]). All tensor arithmetic is
//! done by the engines.
#![deny(unsafe_code)]

pub mod alexnet;
pub mod autodiff;
pub mod backend;
pub mod batch;
pub mod checkpoint;
pub mod collective;
pub mod ema;
pub mod error;
pub mod files;
pub mod init;
pub mod inspection;
pub mod layer;
pub mod lock;
pub mod loss;
pub mod lr_find;
#[allow(unsafe_code, reason = "calls madvise of the C library")]
pub mod memory;
pub mod metrics;
pub mod optimizer;
pub mod rng;
pub mod schedule;
pub mod state;
pub mod sum_order;
pub mod tensors;
pub mod text;
pub mod topology;
pub mod towers;
pub mod traffic;
pub mod train;
pub mod weights;

pub use backend::{Backend, Device, Model, Options, Precision, Step, StepReport};
pub use batch::{Batch, ExifOrientation, Images, Logits, Normalization};
pub use collective::{Alone, Collective};
pub use error::{Error, FileKind, Result};
pub use inspection::{Inspection, ReluRule};
pub use layer::{Backward, Layer, Mode};
pub use optimizer::Optimizer;
pub use state::{Array, Parameters, State};
pub use topology::{Node, Op, Topology};
pub use train::Progress;
