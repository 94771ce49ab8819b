//! Compares color jitter, mixing and label smoothing with Pillow, torchvision and PyTorch.
//! `goldens/variation.py` wrote the expected results.

use std::collections::BTreeMap;

use alexnet_core::{Batch, Images, Logits, Normalization, loss::cross_entropy};
use alexnet_data::{
    augment::{
        jitter::{Adjustment, ColorJitter},
        mix::{Mix, smooth_labels},
    },
    resize::Crop,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    #[serde(rename = "colours")]
    colors: Vec<Colors>,
    mixed: Vec<Mixed>,
}

#[derive(Deserialize)]
struct Colors {
    pixels: Vec<u8>,
    adjustments: [(String, f32); 3],
    result: Vec<u8>,
}

#[derive(Deserialize)]
struct Mixed {
    size: usize,
    classes: usize,
    /// The share of the image itself in mixup.
    share: Option<f64>,
    /// Left, top, right and bottom of the rectangle of cutmix.
    #[serde(rename = "box")]
    area: Option<[u32; 4]>,
    smoothing: f64,
    pixels: Vec<u8>,
    labels: Vec<usize>,
    mixed: Vec<f64>,
    targets: Vec<f32>,
    logits: Vec<f32>,
    loss: f64,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("goldens/variation.json")).unwrap()
}

#[test]
fn color_adjustments_are_those_of_pillow() {
    let kinds = BTreeMap::from([
        ("brightness", Adjustment::Brightness),
        ("contrast", Adjustment::Contrast),
        ("saturation", Adjustment::Saturation),
    ]);
    let goldens = goldens().colors;
    assert_eq!(goldens.len(), 45);
    for Colors { mut pixels, adjustments, result } in goldens {
        let jitter = ColorJitter {
            adjustments: adjustments.clone().map(|(name, factor)| (kinds[&*name], factor)),
        };
        jitter.apply(&mut pixels);
        assert_eq!(pixels, result, "{adjustments:?}");
    }
}

#[test]
fn mixed_batches_and_their_losses_are_those_of_pytorch() {
    for golden in goldens().mixed {
        let Mixed {
            size,
            classes,
            share,
            area,
            smoothing,
            pixels,
            labels,
            mixed,
            targets,
            logits,
            loss,
        } = golden;
        let images =
            Images { pixels, height: size, width: size, normalization: Normalization::HALF };
        let mut batch = Batch { images, targets: vec![0.0; labels.len() * classes] };
        for (row, label) in batch.targets.chunks_exact_mut(classes).zip(labels) {
            row[label] = 1.0;
        }
        let unsmoothed = batch.targets.clone();
        smooth_labels(&mut batch.targets, classes, smoothing);
        assert!(smoothing > 0.0 || batch.targets == unsmoothed);
        let mix = match (share, area) {
            (Some(share), _) => Mix::Mixup(share),
            (_, Some([left, top, right, bottom])) => {
                Mix::Cutmix(Crop { left, top, width: right - left, height: bottom - top })
            }
            _ => panic!("neither mixup nor cutmix"),
        };
        mix.apply(&mut batch);
        for (found, expected) in batch.images.pixels.iter().zip(&mixed) {
            assert!(
                (f64::from(*found) - expected).abs() <= 0.5 + 1e-9,
                "{mix:?}: {found}, {expected}"
            );
        }
        if smoothing == 0.0 {
            for (found, expected) in batch.targets.iter().zip(&targets) {
                assert!((found - expected).abs() < 1e-6, "{mix:?}: {found}, {expected}");
            }
        }
        let found = cross_entropy(&Logits { values: logits, classes }, &batch.targets, None).0;
        assert!((found - loss).abs() < 1e-6, "{mix:?}, {smoothing}: {found}, {loss}");
    }
}

#[test]
fn a_batch_of_one_image_is_not_mixed() {
    let mut batch = Batch::random(1, 8, 3);
    let before = batch.clone();
    Mix::Mixup(0.5).apply(&mut batch);
    Mix::Cutmix(Crop { left: 0, top: 0, width: 4, height: 4 }).apply(&mut batch);
    assert_eq!(batch, before);
}
