//! Below the boundary: what a layer of an engine does, whatever the engine's tensor is.

use crate::Result;

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout is on, with the masks of this step; what backward needs is kept.
    Train {
        /// The run's seed.
        seed: u64,
        /// The step, from 1.
        step: u64,
        /// Where the batch's first image stands among those of the step.
        sample_offset: usize,
    },
    /// Dropout is off, but what backward needs is kept.
    Differentiate,
    /// Dropout is off and nothing is kept.
    Evaluate,
}

/// A step of the forward pass; `T` is the engine's own tensor.
pub trait Layer<T> {
    /// `[N, …]` to `[N, …]`.
    ///
    /// # Errors
    /// What the engine's tensor library refuses.
    fn forward(&mut self, x: T, mode: Mode) -> Result<T>;
}

/// A layer with a hand-written backward pass, for engines without automatic differentiation.
pub trait Backward<T>: Layer<T> {
    /// The gradient of the loss with respect to the output of the last [`Layer::forward`], to the gradient with respect to
    /// its input. Parameters keep their own gradients.
    ///
    /// # Errors
    /// What the engine's tensor library refuses.
    fn backward(&mut self, dy: T) -> Result<T>;
}
