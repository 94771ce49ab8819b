//! The seven operations as calls of libtorch, one per file. Tensors are `[N, C, H, W]` in
//! `channels_last` order, or `[N, features]`.

mod conv2d;
mod dropout;
mod flatten;
mod linear;
mod local_response_norm;
mod max_pool2d;
mod relu;

pub use self::{
    conv2d::Conv2d, dropout::Dropout, flatten::Flatten, linear::Linear,
    local_response_norm::LocalResponseNorm, max_pool2d::MaxPool2d, relu::Relu,
};
