//! An HTTP server for a [`Classifier`]: predictions and explanations as JSON, a web page, metrics,
//! and the Open Inference Protocol (version 2, over REST).
//!
//! ```no_run
//! use alexnet::Classifier;
//! use alexnet_serve::{ServeConfig, Server};
//!
//! let classifier = Classifier::load("runs/train")?;
//! let server = Server::bind(classifier, ServeConfig::default())?;
//! println!("http://{}", server.address());
//! server.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A request passes these steps:
//!
//! 1. `server` accepts a connection, with limits on connections, headers and times.
//! 2. `observe` gives the request an id and later counts and logs it; `hosts` refuses foreign host
//!    names.
//! 3. `body` reads the images, with limits on bytes and time; `admission` takes a place in the
//!    queue for each image or refuses the request.
//! 4. Other threads decode and resize the images.
//! 5. `worker`, one thread that owns the classifier, computes everything that is queued as one
//!    batch, up to a limit. It never waits for a batch to fill.
//! 6. `routes` turn the result into a response.
//!
//! The server logs with [`tracing`]: one event per request, with the target `alexnet_serve`.
//!
//! [`Classifier`]: alexnet::Classifier
#![forbid(unsafe_code)]

mod admission;
mod app;
mod body;
pub mod config;
pub mod error;
mod hosts;
mod info;
mod metrics;
mod observe;
mod problem;
mod routes;
mod server;
mod worker;

pub use self::{
    config::ServeConfig,
    error::{Error, Result},
    routes::openapi,
    server::Server,
};
