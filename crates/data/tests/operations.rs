//! Compares the operations of automatic augmentation with torchvision. `goldens/operations.py`
//! wrote the expected results.

use alexnet_data::augment::{
    auto::AutoAugment,
    operation::{Kind, Operation},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    /// The CRC-32 of each image.
    images: Vec<u32>,
    cases: Vec<Case>,
}

/// Policy, operation, index of its magnitude, sign, magnitude, and the CRC-32 of each result.
#[derive(Deserialize)]
struct Case(String, String, u32, i8, f64, Vec<u32>);

/// Calculates an image of `size`×`size` pixels.
fn image(size: u32, pixel: impl Fn(u32, u32) -> [u32; 3]) -> (usize, Vec<u8>) {
    let at = |index: u32| pixel(index % size, index / size).map(|value| value as u8);
    (size as usize, (0..size * size).flat_map(at).collect())
}

/// Noise, a gradient with a pattern, and an image of few colors.
fn images() -> Vec<(usize, Vec<u8>)> {
    let noise = |x: u32, y: u32| {
        let hash = (x + 57 * y).wrapping_mul(2_654_435_761);
        [hash >> 8, hash >> 16, hash >> 24]
    };
    let mut images = vec![];
    for size in [224, 17] {
        images.push(image(size, noise));
        images.push(image(size, |x, y| {
            [40 + x * 150 / size, 200 - y * 99 / size, 90 + (x ^ y) % 16]
        }));
    }
    images.push(image(17, |x, y| [7, 10 * u32::from(x > 5), 255 * u32::from(y > 5)]));
    images
}

#[test]
fn operations_are_those_of_torchvision() {
    let goldens: Goldens = serde_json::from_str(include_str!("goldens/operations.json")).unwrap();
    let images = images();
    let checksums: Vec<u32> = images.iter().map(|(_, pixels)| crc32fast::hash(pixels)).collect();
    assert_eq!(checksums, goldens.images);
    assert_eq!(goldens.cases.len(), 2 * (3 + 9 * 62 + 2 * 31));
    for Case(policy, name, index, sign, magnitude, expected) in goldens.cases {
        let auto = match &*policy {
            "RandAugment" => AutoAugment::RandAugment,
            _ => AutoAugment::TrivialAugment,
        };
        let kind = Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == name).unwrap();
        assert_eq!(
            f64::from(sign) * auto.magnitude(kind, index, 224),
            magnitude,
            "{policy}: {name} {index}"
        );
        assert!(kind.is_signed() || sign == 1);
        for ((width, pixels), expected) in images.iter().zip(expected) {
            let mut found = pixels.clone();
            Operation { kind, magnitude }.apply(&mut found, *width);
            assert_eq!(
                crc32fast::hash(&found),
                expected,
                "{policy}: {name} {magnitude}, image of {width} columns"
            );
        }
    }
}
