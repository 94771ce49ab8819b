//! Draws a synthetic data set with five classes of flowers, for training without photos.
//!
//! An image depends only on the seed, the class and the index. The classes differ in shape
//! (`flower`). Their colors overlap, and background, light and camera (`scene`) have the same
//! distribution for all classes, so that a network has to learn shapes.

mod canvas;
mod flower;
mod scene;

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use alexnet_core::rng::{self, Purpose};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rand::{Rng, RngExt};
use rayon::prelude::*;
use tiny_skia::Transform;

use self::canvas::Canvas;
use crate::{Error, Result, atomic_folder, progress::Progress};

/// The classes of the flower photos, sorted.
pub const CLASSES: [&str; 5] = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];

/// Default number of images of each class, including validation images: ten epochs then train on
/// fewer than 10,000 images.
pub const DEFAULT_PER_CLASS: usize = 200;

/// Range of width and height in pixels.
const SIDES: RangeInclusive<u32> = 240..=400;

/// JPEG quality, high enough to preserve thin lines.
const QUALITY: u8 = 88;

/// Draws one image. Width and height are 240 to 400 pixels.
///
/// # Panics
/// If `class` is not an index of [`CLASSES`].
pub fn draw_flower(class: usize, index: usize, seed: u64) -> RgbImage {
    let mut rng = rng::generator(seed, Purpose::Draw, class as u64, index as u64);
    let rng = &mut rng;
    let (width, height) = (rng.random_range(SIDES), rng.random_range(SIDES));
    paint(class, width, height, rng)
}

fn paint(class: usize, width: u32, height: u32, rng: &mut impl Rng) -> RgbImage {
    let mut canvas = scene::background(width, height, rng);
    let name = CLASSES[class];
    let places = if name == "tulips" { side_view(&canvas, rng) } else { top_view(&canvas, rng) };
    for place in places {
        match name {
            "daisy" => flower::daisy(&mut canvas, place, rng),
            "dandelion" => flower::dandelion(&mut canvas, place, rng),
            "roses" => flower::rose(&mut canvas, place, rng),
            "sunflowers" => flower::sunflower(&mut canvas, place, rng),
            _ => flower::tulip(&mut canvas, place, rng),
        }
    }
    scene::photograph(canvas, rng)
}

/// Returns the transforms of flowers seen from above: at a distance from each other, in any pose,
/// and so large that they cover most of the background and a crop shows a flower.
fn top_view(canvas: &Canvas, rng: &mut impl Rng) -> Vec<Transform> {
    let (w, h) = (canvas.width(), canvas.height());
    let count: usize = rng.random_range(2..=7);
    let radius =
        (w * h * rng.random_range(1.3..1.9) / (count as f32 * std::f32::consts::PI)).sqrt();
    let mut centers: Vec<(f32, f32)> = Vec::new();
    for _ in 0..count {
        let candidates: Vec<(f32, f32)> = (0..12)
            .map(|_| (rng.random_range(0.08..0.92) * w, rng.random_range(0.08..0.92) * h))
            .collect();
        let apart = |a: &(f32, f32)| {
            centers.iter().map(|b| (a.0 - b.0).hypot(a.1 - b.1)).fold(w + h, f32::min)
        };
        centers.extend(candidates.into_iter().max_by(|a, b| apart(a).total_cmp(&apart(b))));
    }
    centers
        .into_iter()
        .map(|(x, y)| {
            let radius = radius * rng.random_range(0.8..1.1);
            Transform::from_translate(x, y)
                .pre_concat(random_rotation(rng))
                .pre_scale(radius, radius * rng.random_range(0.72..1.0))
                .pre_concat(random_rotation(rng))
        })
        .collect()
}

/// Returns the transforms of flowers seen from the side: upright, those in the background first.
fn side_view(canvas: &Canvas, rng: &mut impl Rng) -> Vec<Transform> {
    let (w, h) = (canvas.width(), canvas.height());
    let count: usize = rng.random_range(3..=8);
    let radius = (w * h * rng.random_range(1.3..1.9) / (count as f32 * 4.0)).sqrt();
    let mut places: Vec<(f32, Transform)> = (0..count)
        .map(|k| {
            let x = (k as f32 + rng.random_range(0.1..0.9)) / count as f32 * w;
            let y = rng.random_range(0.1..0.75) * h;
            let radius = radius * rng.random_range(0.8..1.15);
            let place = Transform::from_translate(x, y)
                .pre_concat(Transform::from_rotate(rng.random_range(-17.0..17.0)))
                .pre_scale(radius * rng.random_range(0.85..1.1), radius);
            (y, place)
        })
        .collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.into_iter().map(|(_, place)| place).collect()
}

/// Returns a rotation by a random angle.
fn random_rotation(rng: &mut impl Rng) -> Transform {
    Transform::from_rotate(rng.random_range(0.0..360.0))
}

/// Writes `per_class` images of each class to `out/<class>/<class>_0001.jpg`, ….
///
/// `progress` is called with the number of images drawn so far and the number of all images. `out`
/// is created after all images are written. A folder that was drawn earlier with the same
/// parameters is left unchanged.
///
/// # Errors
/// [`Error::Exists`] if `out` holds something else; [`Error::Io`].
pub fn generate(out: &Path, per_class: usize, seed: u64, progress: &Progress) -> Result<()> {
    let total = CLASSES.len() * per_class;
    let source = format!("drawn flowers 1: {per_class} per class, seed {seed}\n");
    atomic_folder::create(out, Some(&source), |partial| {
        for class in CLASSES {
            let folder = partial.join(class);
            fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
        }
        let done = AtomicUsize::new(0);
        (0..total).into_par_iter().try_for_each(|k| {
            let (class, index) = (k / per_class, k % per_class);
            let name = CLASSES[class];
            let path = partial.join(name).join(format!("{name}_{:04}.jpg", index + 1));
            let mut jpeg = Vec::new();
            JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
                .encode_image(&draw_flower(class, index, seed))
                .map_err(|error| Error::Image { path: path.clone(), reason: error.to_string() })?;
            fs::write(&path, jpeg).map_err(Error::io("write", &path))?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_depends_on_seed_class_and_index() {
        let image = draw_flower(1, 2, 3);
        assert_eq!(image, draw_flower(1, 2, 3));
        assert!(SIDES.contains(&image.width()) && SIDES.contains(&image.height()));
        for other in [draw_flower(0, 2, 3), draw_flower(1, 0, 3), draw_flower(1, 2, 0)] {
            assert_ne!(image, other);
        }
    }

    #[test]
    fn a_data_set_is_written_once() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("drawn");
        let calls = AtomicUsize::new(0);
        let count = |done: usize, total: usize| {
            assert!(done <= total && total == 10);
            calls.fetch_add(1, Ordering::Relaxed);
        };
        generate(&out, 2, 7, &count).unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 10);
        let listing = crate::dataset::listing::Listing::read(&out).unwrap();
        assert_eq!(listing.classes, CLASSES);
        let sixth = listing.train[5];
        assert_eq!(listing.images.path(sixth), "roses/roses_0002.jpg");
        let image = image::open(listing.images.file(sixth)).unwrap().into_rgb8();
        let drawn = draw_flower(2, 1, 7);
        assert_eq!(image.dimensions(), drawn.dimensions());
        let difference: f64 =
            image.iter().zip(drawn.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        assert!(
            difference / (drawn.len() as f64) < 6.0,
            "too large for JPEG compression: {difference}"
        );

        generate(&out, 2, 7, &count).unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 10);
        assert!(matches!(generate(&out, 2, 8, &count), Err(Error::Exists { .. })));
    }

    /// Returns the mean colors, 0 to 1, of images drawn at a fifth of the size, which hardly
    /// changes their mean colors.
    fn mean_colors(class: usize, indices: std::ops::Range<usize>) -> Vec<[f64; 3]> {
        indices
            .into_par_iter()
            .map(|index| {
                let mut rng = rng::generator(0, Purpose::Draw, class as u64, index as u64);
                let (width, height) = (rng.random_range(SIDES) / 5, rng.random_range(SIDES) / 5);
                let image = paint(class, width, height, &mut rng);
                let mut sums = [0.0; 3];
                for pixel in image.pixels() {
                    sums.iter_mut()
                        .zip(pixel.0)
                        .for_each(|(sum, byte)| *sum += f64::from(byte) / 255.0);
                }
                sums.map(|sum| sum / f64::from(width * height))
            })
            .collect()
    }

    /// The color must not be sufficient to classify the images. A linear classifier of mean colors
    /// (multinomial logistic regression, trained on 100 images of each class) has an accuracy below
    /// 70 % on 100 other images of each class. An accuracy above 40 %, better than chance, shows
    /// that the classifier was trained.
    #[test]
    fn mean_colors_do_not_determine_the_class() {
        let training: Vec<_> = (0..5).map(|class| mean_colors(class, 0..100)).collect();
        let mut weights = [[0.0; 4]; 5];
        let logits = |weights: &[[f64; 4]; 5], [r, g, b]: [f64; 3]| {
            let x = [r - 0.4, g - 0.4, b - 0.4].map(|value| value * 5.0);
            let x = [x[0], x[1], x[2], 1.0];
            (x, weights.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()))
        };
        for _ in 0..2000 {
            let mut gradient = [[0.0; 4]; 5];
            for (class, colors) in training.iter().enumerate() {
                for color in colors {
                    let (x, logits) = logits(&weights, *color);
                    let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
                    for (k, row) in gradient.iter_mut().enumerate() {
                        let error = logits[k].exp() / total - f64::from(u8::from(k == class));
                        row.iter_mut().zip(x).for_each(|(g, x)| *g += error * x / 500.0);
                    }
                }
            }
            for (row, gradient) in weights.iter_mut().zip(gradient) {
                row.iter_mut().zip(gradient).for_each(|(w, g)| *w -= g);
            }
        }
        let mut correct = 0;
        for class in 0..5 {
            for color in mean_colors(class, 100..200) {
                let (_, logits) = logits(&weights, color);
                correct += usize::from((0..5).all(|k| logits[k] <= logits[class]));
            }
        }
        assert!((200..350).contains(&correct), "{correct} of 500");
    }
}
