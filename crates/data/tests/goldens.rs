//! Decoding, resizing and augmentation against Pillow and torchvision; `goldens/make.py` wrote the truth.

use alexnet_data::{
    augment::augmentation,
    decode::decode_bytes,
    resize::{Crop, resize},
};
use image::RgbImage;

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

/// How far a decoder may be from Pillow's. Lossless formats are exact. JPEG and lossy WebP leave the rounding of the
/// inverse transform and of the upsampling to the decoder.
fn tolerance(name: &str) -> u8 {
    if name.ends_with(".jpg") || name == "lossy.webp" { 4 } else { 0 }
}

#[test]
fn decoding_is_pillows() {
    let mut reader = Reader(include_bytes!("goldens/decode.bin"));
    let mut failures = vec![];
    let mut cases = 0;
    while !reader.0.is_empty() {
        let [name, file, width, height] = reader.numbers();
        let name = std::str::from_utf8(reader.bytes(name as usize)).unwrap();
        let file = reader.bytes(file as usize);
        let expected = reader.bytes((width * height * 3) as usize);
        cases += 1;
        match decode_bytes(name, file) {
            Ok(picture) if picture.dimensions() != (width, height) => {
                failures.push(format!("{name}: {:?}, not {:?}", picture.dimensions(), (width, height)));
            }
            Ok(picture) => {
                let difference = largest_difference(picture.as_raw(), expected);
                if difference > tolerance(name) {
                    failures.push(format!("{name}: differs by {difference}"));
                }
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(cases, 49);
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
        let quantities: [(&str, &dyn Fn(&Crop) -> f64); 4] = [
            ("area", &|c| f64::from(c.width * c.height) / f64::from(width * height)),
            ("ratio", &|c| f64::from(c.width) / f64::from(c.height)),
            ("left", &|c| f64::from(c.left)),
            ("top", &|c| f64::from(c.top)),
        ];
        for (name, quantity) in quantities {
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
