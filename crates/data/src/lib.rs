//! The photos: where they come from ([`fetch`], [`archive`], [`draw`]), which of them train and which validate
//! ([`folder`], [`split`]), what is wrong with them ([`check`], [`look`]), and how a file becomes the bytes of a batch
//! ([`decode`], [`augment`], [`jitter`], [`mix`], [`views`], [`resize`], [`loader`]).
#![forbid(unsafe_code)]

pub mod archive;
pub mod augment;
pub mod check;
pub mod decode;
pub mod draw;
pub mod erase;
pub mod error;
pub mod familiar;
pub mod fetch;
pub mod folder;
pub mod guard;
pub mod halves;
pub mod jitter;
pub mod listing;
pub mod loader;
pub mod look;
pub mod mix;
pub mod resize;
pub mod split;
mod staged;
pub mod views;

pub use error::{Error, Result};
