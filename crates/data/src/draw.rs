//! Drawn flowers: five classes to train on when there are no photos.
//!
//! A picture is a pure function of (seed, class, index). The classes differ in shape ([`flower`]); colours overlap, and
//! background, light and camera ([`scene`]) are the same for all, so a network has to look at structure.

mod canvas;
mod flower;
mod scene;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use alexnet_core::rng::{self, Purpose};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rand::{Rng, RngExt};
use rayon::prelude::*;
use tiny_skia::Transform;

use crate::{Error, Result, staged};
use canvas::Canvas;

/// The classes, sorted: those of the flower photos.
pub const CLASSES: [&str; 5] = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];

/// Pictures of each class that are worth ten epochs of three minutes in all.
pub const DEFAULT_PER_CLASS: usize = 220;

/// JPEG quality: fine threads survive it.
const QUALITY: u8 = 88;

/// Draws one picture, 200 to 500 pixels a side.
///
/// # Panics
/// When `class` is not an index of [`CLASSES`].
pub fn draw_flower(class: usize, index: usize, seed: u64) -> RgbImage {
    let mut rng = rng::generator(seed, Purpose::Draw, class as u64, index as u64);
    let rng = &mut rng;
    let (width, height) = (rng.random_range(200..=500), rng.random_range(200..=500));
    let mut canvas = scene::background(width, height, rng);
    let places = if class == 4 { standing(&canvas, rng) } else { scattered(&canvas, rng) };
    for place in places {
        match class {
            0 => flower::daisy(&mut canvas, place, rng),
            1 => flower::dandelion(&mut canvas, place, rng),
            2 => flower::rose(&mut canvas, place, rng),
            3 => flower::sunflower(&mut canvas, place, rng),
            4 => flower::tulip(&mut canvas, place, rng),
            _ => panic!("class {class} is not one of the {}", CLASSES.len()),
        }
    }
    scene::photograph(canvas, rng)
}

/// Where flowers seen from above lie: apart from each other, in any pose, together about as large as the picture.
fn scattered(canvas: &Canvas, rng: &mut impl Rng) -> Vec<Transform> {
    let (w, h) = (canvas.width(), canvas.height());
    let count: usize = rng.random_range(1..=6);
    let radius = (w * h * rng.random_range(1.1..1.7) / (count as f32 * std::f32::consts::PI)).sqrt();
    let mut centres: Vec<(f32, f32)> = Vec::new();
    for _ in 0..count {
        let candidates: Vec<(f32, f32)> =
            (0..12).map(|_| (rng.random_range(0.08..0.92) * w, rng.random_range(0.08..0.92) * h)).collect();
        let apart = |a: &(f32, f32)| centres.iter().map(|b| (a.0 - b.0).hypot(a.1 - b.1)).fold(w + h, f32::min);
        // The first of a picture goes near the middle, the others far from those that are there.
        let best = candidates.into_iter().max_by(|a, b| apart(a).total_cmp(&apart(b)));
        centres.extend(if count == 1 { Some((w * rng.random_range(0.4..0.6), h * rng.random_range(0.4..0.6))) } else { best });
    }
    centres
        .into_iter()
        .map(|(x, y)| {
            let radius = radius * rng.random_range(0.8..1.1);
            Transform::from_translate(x, y)
                .pre_concat(rotation(rng.random_range(0.0..std::f32::consts::TAU)))
                .pre_scale(radius, radius * rng.random_range(0.72..1.0))
                .pre_concat(rotation(rng.random_range(0.0..std::f32::consts::TAU)))
        })
        .collect()
}

/// Where flowers seen from the side stand: upright, those behind first.
fn standing(canvas: &Canvas, rng: &mut impl Rng) -> Vec<Transform> {
    let (w, h) = (canvas.width(), canvas.height());
    let count: usize = rng.random_range(2..=7);
    let radius = (w * h * rng.random_range(1.1..1.6) / (count as f32 * 4.0)).sqrt();
    let mut places: Vec<(f32, Transform)> = (0..count)
        .map(|k| {
            let x = (k as f32 + rng.random_range(0.1..0.9)) / count as f32 * w;
            let y = rng.random_range(0.1..0.75) * h;
            let radius = radius * rng.random_range(0.8..1.15);
            let place = Transform::from_translate(x, y)
                .pre_concat(rotation(rng.random_range(-0.3..0.3)))
                .pre_scale(radius * rng.random_range(0.85..1.1), radius);
            (y, place)
        })
        .collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.into_iter().map(|(_, place)| place).collect()
}

fn rotation(angle: f32) -> Transform {
    let (sin, cos) = angle.sin_cos();
    Transform::from_row(cos, sin, -sin, cos, 0.0, 0.0)
}

/// Writes `out/<class>/<class>_0001.jpg`, …: `per_class` pictures of each class.
///
/// `progress` is called with the pictures drawn so far and their number, from several threads. `out` appears when all are
/// written; what was drawn earlier with the same parameters is kept as it is.
///
/// # Errors
/// [`Error::Exists`] when `out` holds something else; [`Error::Io`].
pub fn synthesise(
    out: &Path,
    per_class: usize,
    seed: u64,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    let total = CLASSES.len() * per_class;
    let made_of = format!("drawn flowers 1: {per_class} per class, seed {seed}\n");
    staged::folder(out, Some(&made_of), |partial| {
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
                .map_err(|error| Error::Picture { path: path.clone(), reason: error.to_string() })?;
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
    #[ignore]
    fn make() {
        let out = std::env::var("OUT").unwrap();
        let n: usize = std::env::var("N").unwrap().parse().unwrap();
        let t = std::time::Instant::now();
        synthesise(Path::new(&out), n, 0, &|_, _| {}).unwrap();
        println!("{:?}", t.elapsed());
    }
}
// x
