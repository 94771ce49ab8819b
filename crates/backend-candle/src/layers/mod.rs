//! The seven operations, one per file. Images are `[N, H, W, C]`, features `[N, F]`.

mod conv2d;
mod dropout;
mod flatten;
#[cfg(any(feature = "cuda", feature = "metal", test))]
mod gpu;
mod linear;
mod local_response_norm;
mod max_pool2d;
mod relu;

use alexnet_core::Mode;
use candle_core::Tensor;

pub use self::{
    conv2d::Conv2d, dropout::Dropout, flatten::Flatten, linear::Linear,
    local_response_norm::LocalResponseNorm, max_pool2d::MaxPool2d, relu::Relu,
};

/// Returns a parameter for a pass in this mode. In evaluation it is detached from the graph, so
/// that nothing is saved for a backward pass.
fn for_mode(parameter: &Tensor, mode: Mode) -> Tensor {
    match mode {
        Mode::Evaluate => parameter.detach(),
        Mode::Train { .. } | Mode::Differentiate => parameter.clone(),
    }
}
