//! Compares vertical flips and rotations with torchvision. `goldens/geometry.py` wrote the expected
//! results.

use alexnet_data::augment::{affine, crop_flip::flip_rows};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    vflip: Vec<u8>,
    /// Angles in degrees with the rotated images.
    rotated: Vec<(f64, Vec<u8>)>,
}

#[test]
fn flips_and_rotations_are_those_of_torchvision() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("goldens/geometry.json")).unwrap();
    assert_eq!(cases.len(), 5);
    for Case { width, height, pixels, vflip, rotated } in cases {
        let mut flipped = pixels.clone();
        flip_rows(&mut flipped, width);
        assert_eq!(flipped, vflip, "{width}×{height}");
        assert_eq!(rotated.len(), 12);
        for (degrees, expected) in rotated {
            let mut found = pixels.clone();
            affine::transform(&mut found, width, affine::rotation(degrees, [width, height]));
            assert_eq!(found, expected, "{width}×{height} by {degrees}°");
        }
    }
}
