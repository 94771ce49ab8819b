//! Decoding, resizing and augmentation against Pillow and torchvision; `goldens/make.py` wrote the truth.

use alexnet_core::rng::{Purpose, generator};
use alexnet_data::{
    augment::augmentation,
    decode::decode_bytes,
    resize::{Crop, resize},
};
use image::RgbImage;
use rand::RngExt;

/// Reads the golden files.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn numbers<const N: usize>(&mut self) -> [u32; N] {
        std::array::from_fn(|_| u32::from_le_bytes(self.bytes(4).try_into().unwrap()))
    }
}

fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn resizing_is_pillows() {
    let mut reader = Reader(include_bytes!("goldens/resize.bin"));
    let mut cases = 0;
    while !reader.0.is_empty() {
        let [width, height, left, top, w, h, to_width, to_height] = reader.numbers();
        let pixels = reader.bytes((width * height * 3) as usize).to_vec();
        let expected = reader.bytes((to_width * to_height * 3) as usize);
        let picture = RgbImage::from_raw(width, height, pixels).unwrap();
        let crop = Crop { left, top, width: w, height: h };
        let difference = largest_difference(&resize(&picture, crop, to_width, to_height), expected);
        assert!(difference <= 1, "{difference}: {crop:?} of {width}×{height} to {to_width}×{to_height}");
        cases += 1;
    }
    assert_eq!(cases, 12);
}

/// A file with Pillow's picture of it.
struct Decoded {
    name: &'static str,
    file: &'static [u8],
    size: (u32, u32),
    pixels: &'static [u8],
}

fn decoded() -> Vec<Decoded> {
    let mut reader = Reader(include_bytes!("goldens/decode.bin"));
    let mut cases = vec![];
    while !reader.0.is_empty() {
        let [name, file, width, height] = reader.numbers();
        let name = std::str::from_utf8(reader.bytes(name as usize)).unwrap();
        let file = reader.bytes(file as usize);
        let pixels = reader.bytes((width * height * 3) as usize);
        cases.push(Decoded { name, file, size: (width, height), pixels });
    }
    assert_eq!(cases.len(), 50);
    cases
}

/// How far a decoder may be from Pillow's. Lossless formats are exact. JPEG and lossy WebP leave the rounding of the
/// inverse transform and of the upsampling to the decoder; in a picture of one column, the chroma beyond it shows.
fn tolerance(name: &str) -> u8 {
    match name {
        "one_column.jpg" => 20,
        "lossy.webp" => 4,
        name if name.ends_with(".jpg") => 4,
        _ => 0,
    }
}

/// A palette is the one mode that the TIFF decoder refuses.
const REFUSED: &str = "palette.tif";

#[test]
fn decoding_is_pillows() {
    let mut failures = vec![];
    for Decoded { name, file, size, pixels } in decoded() {
        match decode_bytes(name, file) {
            Ok(picture) if picture.dimensions() != size => {
                failures.push(format!("{name}: {:?}, not {size:?}", picture.dimensions()));
            }
            Ok(picture) => {
                let difference = largest_difference(picture.as_raw(), pixels);
                if difference > tolerance(name) {
                    failures.push(format!("{name}: differs by {difference}"));
                }
            }
            Err(_) if name == REFUSED => {}
            Err(error) => failures.push(error.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Pillow's `image file is truncated`. Nothing may be filled in for the missing half.
#[test]
fn half_a_file_is_an_error() {
    for Decoded { name, file, .. } in decoded() {
        let error = decode_bytes(name, &file[..file.len() / 2]).map(|p| p.dimensions()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{name} is not a readable picture: ")), "{error}");
    }
}

/// Seeded: the same few thousand damaged files every time.
#[test]
fn damaged_files_do_not_panic() {
    let mut rng = generator(0, Purpose::Synthetic, 0, 0);
    for Decoded { name, file, .. } in decoded() {
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
            if let Ok(picture) = decode_bytes(name, &damaged) {
                assert!(picture.width() > 0 && picture.height() > 0);
            }
        }
    }
}

/// The largest distance between the distribution functions of torchvision's crops and ours (Kolmogorov and Smirnov), at the
/// percentiles that are stored.
#[test]
fn crops_are_distributed_as_torchvisions() {
    const DRAWS: usize = 20_000;
    let cases: serde_json::Value = serde_json::from_str(include_str!("goldens/augment.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let side = |name: &str| case[name].as_u64().unwrap() as u32;
        let (width, height) = (side("width"), side("height"));
        let crops: Vec<Crop> = (0..DRAWS).map(|item| augmentation(7, 3, item, width, height).crop).collect();
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
                // Values repeat, so the distribution function jumps: the percentile must lie within the jump.
                let (low, high) = (share(&|v| v < percentile - 1e-6), share(&|v| v <= percentile + 1e-6));
                assert!(
                    low - 0.015 < truth && truth < high + 0.015,
                    "{name} of {width}×{height}: {truth} of torchvision's are up to {percentile}, \
                     of ours {low} to {high}"
                );
            }
        }
    }
}
