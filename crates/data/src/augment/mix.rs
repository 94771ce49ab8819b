//! Mixes the images of a batch and their targets: `torchvision.transforms.v2.MixUp` and `CutMix`,
//! on bytes. The partner of an image is the previous image in the batch; the partner of the first
//! image is the last one. An image that has no target, or whose partner has none, is not mixed.

use alexnet_core::Batch;
use rand::RngExt;
use rand_distr::{Beta, Distribution};

use crate::resize::Crop;

/// How the images of a batch are mixed with their partners.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// `λ·image + (1-λ)·partner` with this λ (Zhang et al. 2018).
    Mixup(f64),
    /// This rectangle is replaced by that of the partner (Yun et al. 2019).
    Cutmix(Crop),
}

impl Mix {
    /// Draws how a batch of images of `size`×`size` pixels is mixed, with λ from `Beta(α, α)`.
    /// `mixup` and `cutmix` are the values of α; 0 disables the method. If both are enabled, each
    /// is used with probability 0.5.
    pub fn random(mixup: f64, cutmix: f64, size: u32, rng: &mut impl RngExt) -> Option<Self> {
        let cuts = cutmix > 0.0 && (mixup <= 0.0 || rng.random_bool(0.5));
        let beta = if cuts { cutmix } else { mixup };
        let lambda = Beta::new(beta, beta).ok()?.sample(rng);
        if !cuts {
            return Some(Self::Mixup(lambda));
        }
        let half = (0.5 * (1.0 - lambda).sqrt() * f64::from(size)) as u32;
        let mut span = || {
            let center = rng.random_range(0..size);
            let (from, to) = (center.saturating_sub(half), (center + half).min(size));
            (from, to - from)
        };
        let ((left, width), (top, height)) = (span(), span());
        Some(Self::Cutmix(Crop { left, top, width, height }))
    }

    /// Mixes the images and targets of a batch. A batch of one image is not changed.
    pub fn apply(self, batch: &mut Batch) {
        let n = batch.len();
        if n < 2 {
            return;
        }
        let (width, item) = (batch.images.width, batch.images.pixels.len() / n);
        let classes = batch.targets.len() / n;
        let has_target = |row: &[f32]| row.iter().any(|target| *target != 0.0);
        let labeled: Vec<bool> = batch.targets.chunks_exact(classes).map(has_target).collect();
        let own = match self {
            Self::Mixup(lambda) => {
                let mixed = |a: u8, b: u8| {
                    (lambda * f64::from(a) + (1.0 - lambda) * f64::from(b)).round_ties_even() as u8
                };
                with_partner(&mut batch.images.pixels, item, &labeled, |own, partner| {
                    own.iter_mut().zip(partner).for_each(|(a, b)| *a = mixed(*a, *b));
                });
                lambda
            }
            Self::Cutmix(Crop { left, top, width: w, height: h }) => {
                let row = |y: u32| 3 * (y as usize * width + left as usize)..;
                with_partner(&mut batch.images.pixels, item, &labeled, |own, partner| {
                    for y in top..top + h {
                        let bytes = 3 * w as usize;
                        own[row(y)][..bytes].copy_from_slice(&partner[row(y)][..bytes]);
                    }
                });
                1.0 - f64::from(w * h) / (item / 3) as f64
            }
        };
        with_partner(&mut batch.targets, classes, &labeled, |targets, partner| {
            let mixed = |a: f32, b: f32| (own * f64::from(a) + (1.0 - own) * f64::from(b)) as f32;
            targets.iter_mut().zip(partner).for_each(|(a, b)| *a = mixed(*a, *b));
        });
    }
}

/// Calls `change` with each item and the original value of its previous item, if both are labeled.
fn with_partner<T: Copy>(
    values: &mut [T],
    item: usize,
    labeled: &[bool],
    change: impl Fn(&mut [T], &[T]),
) {
    let last = values[values.len() - item..].to_vec();
    for at in (1..labeled.len()).rev().filter(|at| labeled[*at] && labeled[at - 1]) {
        let (before, from) = values.split_at_mut(at * item);
        change(&mut from[..item], &before[(at - 1) * item..]);
    }
    if labeled[0] && labeled[labeled.len() - 1] {
        change(&mut values[..item], &last);
    }
}

/// Smooths targets to `(1-ε)·t + ε/C` (`label_smoothing` of `torch.nn.CrossEntropyLoss`). An image
/// without a target stays without.
pub fn smooth_labels(targets: &mut [f32], classes: usize, smoothing: f64) {
    let share = smoothing / classes as f64;
    let has_target = |row: &&mut [f32]| row.iter().any(|target| *target != 0.0);
    for row in targets.chunks_exact_mut(classes).filter(has_target) {
        row.iter_mut().for_each(|t| *t = ((1.0 - smoothing) * f64::from(*t) + share) as f32);
    }
}
