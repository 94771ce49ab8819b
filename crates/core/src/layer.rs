//! The interface of a layer of an engine, generic over the engine's tensor type.

use crate::{
    Result,
    sum_order::{MicroBatch, images_per_part},
};

/// The purpose of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Training: dropout is on, with the masks of this step, and the tensors that the backward pass
    /// needs are stored.
    Train {
        /// The run's seed.
        seed: u64,
        /// The step, from 1.
        step: u64,
        /// Which images of the step the batch has; `None` if it has all of them.
        micro_batch: Option<MicroBatch>,
    },
    /// Derivatives without dropout: the tensors that the backward pass needs are stored.
    Differentiate,
    /// Evaluation: dropout is off, and nothing is stored.
    Evaluate,
}

impl Mode {
    /// Returns the index of the batch's first image among the images of the step.
    pub fn first_image(self) -> usize {
        match self {
            Self::Train { micro_batch: Some(MicroBatch { first, .. }), .. } => first,
            _ => 0,
        }
    }

    /// Returns the number of images of each partial sum over a batch of `n` images
    /// ([`crate::sum_order`]).
    pub fn images_per_part(self, n: usize) -> usize {
        match self {
            Self::Train { micro_batch: Some(MicroBatch { images_per_step, .. }), .. } => {
                images_per_part(images_per_step)
            }
            _ => images_per_part(n),
        }
    }
}

/// A layer of the network; `T` is the engine's tensor type.
pub trait Layer<T> {
    /// Returns the output `[N, …]` for the input `x`, `[N, …]`.
    ///
    /// # Errors
    /// Those of the engine's tensor library.
    fn forward(&mut self, x: T, mode: Mode) -> Result<T>;
}

/// A layer with an explicit backward pass, for engines without automatic differentiation.
pub trait Backward<T>: Layer<T> {
    /// Takes the gradient of the loss with respect to the output of the last [`Layer::forward`],
    /// and returns the gradient with respect to its input. The gradients of the layer's parameters
    /// are stored with the parameters.
    ///
    /// # Errors
    /// Those of the engine's tensor library.
    fn backward(&mut self, dy: T) -> Result<T>;
}
