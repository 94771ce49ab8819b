//! The seven operations as calls of libtorch, one per file. Tensors are `[N, C, H, W]` in
//! `channels_last` order, or `[N, features]`.

mod conv2d;
mod dropout;
mod flatten;
mod linear;
mod local_response_norm;
mod max_pool2d;
mod relu;

use tch::{Kind, TchError, Tensor};

pub use self::{
    conv2d::Conv2d, dropout::Dropout, flatten::Flatten, linear::Linear,
    local_response_norm::LocalResponseNorm, max_pool2d::MaxPool2d, relu::Relu,
};

/// Returns the operands of a convolution or linear layer with this type. An operand that has this
/// type already is not copied.
fn converted(operands: [&Tensor; 3], kind: Kind) -> Result<[Tensor; 3], TchError> {
    let [x, weight, bias] = operands;
    Ok([x.f_to_kind(kind)?, weight.f_to_kind(kind)?, bias.f_to_kind(kind)?])
}
