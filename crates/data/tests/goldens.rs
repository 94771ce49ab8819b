//! Compares decoding, resizing and augmentation with Pillow and torchvision. `goldens/make.py`
//! wrote the expected results.

mod reader;

use std::sync::Arc;

use alexnet_core::{
    Normalization,
    rng::{Purpose, generator, permutation},
    train::Batches,
};
use alexnet_data::{
    augment::{Augmentation, Variation, variation},
    dataset::{Dataset, Images},
    decode::{Decoded, ExifOrientation, Options, decode_bytes},
    framing::Framing,
    loader::{Loader, LoaderOptions, OnBadImage, Sampler, Shuffle},
    preprocess::evaluation_image,
    resize::{Crop, resize},
};
use image::RgbImage;
use rand::RngExt;

use self::reader::Reader;

fn floats(reader: &mut Reader, n: usize) -> Vec<f32> {
    (0..n).map(|_| f32::from_le_bytes(reader.bytes(4).try_into().unwrap())).collect()
}

fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn resizing_is_that_of_pillow() {
    let mut reader = Reader(include_bytes!("goldens/resize.bin"));
    let mut cases = 0;
    while !reader.0.is_empty() {
        let [width, height, left, top, w, h, to_width, to_height] = reader.numbers();
        let pixels = reader.bytes((width * height * 3) as usize).to_vec();
        let expected = reader.bytes((to_width * to_height * 3) as usize);
        let image = RgbImage::from_raw(width, height, pixels).unwrap();
        let crop = Crop { left, top, width: w, height: h };
        let difference = largest_difference(&resize(&image, crop, to_width, to_height), expected);
        assert!(
            difference == 0,
            "{difference}: {crop:?} of {width}×{height} to {to_width}×{to_height}"
        );
        cases += 1;
    }
    assert_eq!(cases, 14);
}

/// A file and the pixels that Pillow decodes it to.
struct Golden {
    name: &'static str,
    file: &'static [u8],
    size: (u32, u32),
    pixels: &'static [u8],
}

fn decoded() -> Vec<Golden> {
    let mut reader = Reader(include_bytes!("goldens/decode.bin"));
    let mut cases = vec![];
    while !reader.0.is_empty() {
        let [name, file, width, height] = reader.numbers();
        let name = std::str::from_utf8(reader.bytes(name as usize)).unwrap();
        let file = reader.bytes(file as usize);
        let pixels = reader.bytes((width * height * 3) as usize);
        cases.push(Golden { name, file, size: (width, height), pixels });
    }
    assert_eq!(cases.len(), 50);
    cases
}

#[test]
fn decoding_is_that_of_pillow() {
    // The goldens are not rotated.
    let options = Options { orientation: ExifOrientation::Ignore, ..Options::default() };
    let mut failures = vec![];
    for Golden { name, file, size, pixels } in decoded() {
        match decode_bytes(name, file, options).map(|decoded| decoded.image) {
            Ok(image) if image.dimensions() != size => {
                failures.push(format!("{name}: {:?}, not {size:?}", image.dimensions()));
            }
            Ok(image) => {
                let largest = largest_difference(image.as_raw(), pixels);
                if largest > 0 {
                    failures.push(format!("{name}: differs by {largest}"));
                }
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Pillow reports `image file is truncated`. Missing pixels must not be filled in.
#[test]
fn a_truncated_file_is_an_error() {
    for Golden { name, file, .. } in decoded() {
        let truncated = &file[..file.len() / 2];
        let error = decode_bytes(name, truncated, Options::default()).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("{name} is not a readable image: ")),
            "{error}"
        );
    }
}

/// The seed is fixed, so that the same 3,000 damaged files are tested each time.
#[test]
fn damaged_files_do_not_panic() {
    let mut rng = generator(0, Purpose::Synthetic, 0, 0);
    for Golden { name, file, .. } in decoded() {
        for round in 0..60 {
            let mut damaged = file.to_vec();
            match round % 3 {
                0 => damaged.truncate(rng.random_range(0..file.len())),
                1 => {
                    let bit = rng.random_range(0..file.len() * 8);
                    damaged[bit / 8] ^= 1 << (bit % 8);
                }
                _ => {
                    for _ in 0..8 {
                        damaged[rng.random_range(0..file.len())] = rng.random();
                    }
                }
            }
            if let Ok(Decoded { image, .. }) = decode_bytes(name, &damaged, Options::default()) {
                assert!(image.width() > 0 && image.height() > 0);
            }
        }
    }
}

/// Computes the Kolmogorov–Smirnov distance (the largest distance between two distribution
/// functions) of torchvision's crops and ours, at the stored percentiles. It must be below 0.015.
/// With 20,000 draws here and torchvision's 100,000, the distance of equal distributions is larger
/// in one of a thousand cases (1.95·√(1/20,000 + 1/100,000)); the seed is fixed. If the ratio were
/// drawn uniformly, not log-uniformly, the distance would be 0.07.
#[test]
fn crops_have_the_distribution_of_torchvision() {
    const DRAWS: usize = 20_000;
    const MAX_DISTANCE: f64 = 0.015;
    let cases: serde_json::Value =
        serde_json::from_str(include_str!("goldens/augment.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let side = |name: &str| case[name].as_u64().unwrap() as u32;
        let (width, height) = (side("width"), side("height"));
        let crops: Vec<Crop> = (0..DRAWS)
            .map(|item| variation(&Augmentation::TUTORIAL, (7, 3, item), (width, height), 224).crop)
            .collect();
        for name in ["area", "ratio", "left", "top"] {
            let quantity = |c: &Crop| match name {
                "area" => f64::from(c.width * c.height) / f64::from(width * height),
                "ratio" => f64::from(c.width) / f64::from(c.height),
                "left" => f64::from(c.left),
                _ => f64::from(c.top),
            };
            let values: Vec<f64> = crops.iter().map(quantity).collect();
            let share = |below: &dyn Fn(f64) -> bool| {
                values.iter().filter(|v| below(**v)).count() as f64 / DRAWS as f64
            };
            for (i, percentile) in case[name].as_array().unwrap().iter().enumerate() {
                let (percentile, truth) = (percentile.as_f64().unwrap(), (i + 1) as f64 / 100.0);
                // The distribution function has steps because values repeat. The percentile must be
                // within the step.
                let (low, high) =
                    (share(&|v| v < percentile - 1e-6), share(&|v| v <= percentile + 1e-6));
                assert!(
                    low - MAX_DISTANCE < truth && truth < high + MAX_DISTANCE,
                    "{name} of {width}×{height}: a share of {truth} of torchvision's values is at most {percentile}, \
                     here {low} to {high}"
                );
            }
        }
    }
}

#[test]
fn normalized_bytes_are_those_of_torchvision_bit_for_bit() {
    let mut reader = Reader(include_bytes!("goldens/normalize.bin"));
    for normalization in [Normalization::HALF, Normalization::IMAGENET] {
        assert_eq!(floats(&mut reader, 6), [normalization.mean, normalization.std].concat());
        for (channel, numbers) in normalization.table().iter().enumerate() {
            for (byte, (found, expected)) in
                numbers.iter().zip(floats(&mut reader, 256)).enumerate()
            {
                assert_eq!(
                    found.to_bits(),
                    expected.to_bits(),
                    "{byte} in channel {channel}: {found}, {expected}"
                );
            }
        }
    }
    assert!(reader.0.is_empty());
}

/// An image and torchvision's tensors of it for training and evaluation, `[3, size, size]` each.
struct Prepared {
    image: RgbImage,
    augmentation: Variation,
    size: usize,
    training: Vec<f32>,
    evaluation: Vec<f32>,
}

fn prepared() -> Vec<Prepared> {
    let mut reader = Reader(include_bytes!("goldens/pipeline.bin"));
    let mut cases = vec![];
    while !reader.0.is_empty() {
        let [width, height, left, top, w, h, flip, size] = reader.numbers();
        let size = size as usize;
        let pixels = reader.bytes((width * height * 3) as usize).to_vec();
        cases.push(Prepared {
            image: RgbImage::from_raw(width, height, pixels).unwrap(),
            augmentation: Variation {
                crop: Crop { left, top, width: w, height: h },
                flip: flip == 1,
                ..Variation::none(width, height)
            },
            size,
            training: floats(&mut reader, 3 * size * size),
            evaluation: floats(&mut reader, 3 * size * size),
        });
    }
    assert_eq!(cases.len(), 4);
    cases
}

const NORMALIZATION: Normalization = Normalization::IMAGENET;

/// Asserts that the `[size, size, 3]` bytes, normalized, equal `expected`, `[3, size, size]`, bit
/// for bit.
fn assert_same(pixels: &[u8], expected: &[f32]) {
    assert_eq!(pixels.len(), expected.len());
    let table = NORMALIZATION.table();
    for (channel, plane) in expected.chunks(expected.len() / 3).enumerate() {
        for (pixel, expected) in pixels.chunks(3).zip(plane) {
            let found = table[channel][usize::from(pixel[channel])];
            assert_eq!(
                found.to_bits(),
                expected.to_bits(),
                "{found}, {expected}, in channel {channel}"
            );
        }
    }
}

/// Loads files and normalizes them. torchvision's functions are `resized_crop`, `hflip`,
/// `to_tensor` and `normalize` for training, and `resize`, `to_tensor` and `normalize` for
/// evaluation.
#[test]
fn loaded_images_are_the_tensors_of_torchvision() {
    const SEED: u64 = 0;
    const EPOCH: u64 = 1;
    let cases = prepared();
    let folder = tempfile::tempdir().unwrap();
    let names = (0..cases.len()).map(|i| (format!("{i}.png"), 0));
    let (images, items) = Images::of_files(folder.path(), names).unwrap();
    for (item, Prepared { image, augmentation: expected, .. }) in cases.iter().enumerate() {
        image.save(images.file(items[item])).unwrap();
        let found =
            variation(&Augmentation::TUTORIAL, (SEED, EPOCH, item), image.dimensions(), 224);
        assert_eq!(found, *expected, "the draws changed: copy them to make.py and run it");
    }
    // One flipped crop must be off center, so that the test fails if the image is flipped before it
    // is cropped.
    assert!(cases.iter().any(
        |Prepared { image, augmentation: Variation { crop, flip, .. }, .. }| {
            *flip && (image.width() - crop.width).abs_diff(2 * crop.left) > 10
        }
    ));
    assert!(cases.iter().any(|case| !case.augmentation.flip));

    let loader = Loader::new(
        Dataset {
            images: Arc::new(images),
            classes: vec!["it".into()],
            train: items.clone(),
            val: items.clone(),
            test: vec![],
        },
        LoaderOptions {
            accumulate: 1,
            batch_size: cases.len(),
            seed: SEED,
            shuffle: Shuffle::Full,
            sampler: Sampler::Uniform,
            size: cases[0].size,
            resize_crop: None,
            normalization: NORMALIZATION,
            augmentation: Augmentation::TUTORIAL,
            cache_bytes: 0,
            on_bad_image: OnBadImage::Error,
            exif_orientation: ExifOrientation::Apply,
        },
    )
    .unwrap();
    let row = 3 * cases[0].size * cases[0].size;
    let training = loader.whole_steps(EPOCH).next().unwrap().unwrap().images;
    assert_eq!(training.normalization, NORMALIZATION);
    let order = permutation(SEED, Purpose::Shuffle, EPOCH, 0, cases.len());
    for (pixels, item) in training.pixels.chunks(row).zip(order) {
        assert_same(pixels, &cases[item].training);
    }
    let (positions, evaluation) = loader.evaluation(&items).next().unwrap().unwrap();
    assert_eq!(positions, [0, 1, 2, 3]);
    for (pixels, case) in evaluation.images.pixels.chunks(row).zip(&cases) {
        assert_same(pixels, &case.evaluation);
        assert_eq!(pixels, evaluation_image(&case.image, Framing::whole(case.size)));
    }
    for images in [training, evaluation.images] {
        assert_eq!(images.len(), cases.len());
    }
}
