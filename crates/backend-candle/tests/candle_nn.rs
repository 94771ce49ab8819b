//! Loads a weights file into a network that is written only with candle-nn, to test that other
//! programs can read the files of this project and get the same logits.

use std::fs;

use alexnet_backend_candle::CandleBackend;
use alexnet_core::{
    Backend, Batch, ExifOrientation, Images, Options,
    alexnet::Variant,
    init::{Init, initialize},
    weights::{Metadata, Weights},
};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Conv2dConfig, ModuleT, Sequential, VarBuilder, conv2d, linear, seq};

/// Returns the tutorial's network, with the layers in PyTorch's order.
fn network(vb: &VarBuilder, classes: usize) -> Result<Sequential> {
    let features = vb.pp("features");
    let conv = |index: usize, inputs, outputs, kernel, stride, padding| {
        let config = Conv2dConfig { stride, padding, ..Conv2dConfig::default() };
        conv2d(inputs, outputs, kernel, config, features.pp(index))
    };
    let max_pool = |x: &Tensor| x.max_pool2d_with_stride(3, 2);
    let classifier = vb.pp("classifier");
    let full = |index: usize, inputs, outputs| linear(inputs, outputs, classifier.pp(index));
    Ok(seq()
        .add(conv(0, 3, 48, 11, 4, 2)?)
        .add_fn(Tensor::relu)
        .add_fn(max_pool)
        .add(conv(3, 48, 128, 5, 1, 2)?)
        .add_fn(Tensor::relu)
        .add_fn(max_pool)
        .add(conv(6, 128, 192, 3, 1, 1)?)
        .add_fn(Tensor::relu)
        .add(conv(8, 192, 192, 3, 1, 1)?)
        .add_fn(Tensor::relu)
        .add(conv(10, 192, 128, 3, 1, 1)?)
        .add_fn(Tensor::relu)
        .add_fn(max_pool)
        .add_fn(|x| x.flatten_from(1))
        .add(full(1, 128 * 6 * 6, 2048)?)
        .add_fn(Tensor::relu)
        .add(full(4, 2048, 2048)?)
        .add_fn(Tensor::relu)
        .add(full(6, 2048, classes)?))
}

/// Returns normalized images `[N, 3, H, W]`: `(byte / 255 - mean) / std`.
fn normalized(images: &Images) -> Result<Tensor> {
    let size = (images.len(), images.height, images.width, 3);
    let x = Tensor::from_slice(&images.pixels, size, &Device::Cpu)?.to_dtype(DType::F32)?;
    let constant = |values: [f32; 3]| Tensor::new(&values, &Device::Cpu);
    let x = (x / 255.0)?.broadcast_sub(&constant(images.normalization.mean)?)?;
    x.broadcast_div(&constant(images.normalization.std)?)?.permute((0, 3, 1, 2))?.contiguous()
}

#[test]
fn a_candle_nn_network_with_a_weights_file_has_the_same_logits() {
    const CLASSES: usize = 5;
    let topology = Variant::Tutorial.topology(CLASSES);
    let images = Batch::random(2, 224, CLASSES).images;
    let state = initialize(&topology, Init::Pytorch, 3).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let metadata = Metadata {
        variant: Variant::Tutorial,
        classes: (0..CLASSES).map(|class| format!("class {class}")).collect(),
        input_size: 224,
        resize_crop: None,
        normalization: images.normalization,
        exif_orientation: ExifOrientation::Apply,
        precision: Default::default(),
    };
    Weights { metadata, parameters: state.parameters.clone() }.save(&path).unwrap();

    let vb =
        VarBuilder::from_buffered_safetensors(fs::read(&path).unwrap(), DType::F32, &Device::Cpu)
            .unwrap();
    let theirs =
        network(&vb, CLASSES).unwrap().forward_t(&normalized(&images).unwrap(), false).unwrap();
    let theirs: Vec<Vec<f32>> = theirs.to_vec2().unwrap();

    let mut model = CandleBackend.compile(&topology, state, &Options::default()).unwrap();
    let ours = model.logits(&images).unwrap();
    // The tolerance between engines: rtol 1e-4, atol 1e-5 of the largest logit.
    let largest = ours.values.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
    assert!(largest > 1e-3 && theirs[0] != theirs[1], "the logits depend on the images");
    for (ours, theirs) in ours.rows().zip(&theirs) {
        for (ours, theirs) in ours.iter().zip(theirs) {
            let tolerance = 1e-4 * theirs.abs() + 1e-5 * largest;
            assert!((ours - theirs).abs() <= tolerance, "{ours} and {theirs}");
        }
    }
}
