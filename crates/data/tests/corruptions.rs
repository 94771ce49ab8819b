//! Compares corruptions with NumPy and Pillow. `goldens/corruptions.py` wrote the expected results.

use alexnet_data::corruption::{Corruption, Kind, SEVERITIES};

#[test]
fn corruptions_are_those_of_numpy_and_pillow() {
    let bytes = include_bytes!("goldens/corruptions.bin");
    let (size, bytes) = bytes.split_first_chunk().unwrap();
    let size = u32::from_le_bytes(*size) as usize;
    let (image, bytes) = bytes.split_at(size * size * 3);
    let mut expected =
        bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
    let kinds = [
        Kind::GaussianBlur,
        Kind::Brightness,
        Kind::Contrast,
        Kind::Jpeg,
        Kind::ScaleUp,
        Kind::ScaleDown,
    ];
    for kind in kinds {
        // JPEG and scales have the bytes of Pillow; the others are rounded.
        let tolerance = if matches!(kind, Kind::Jpeg | Kind::ScaleUp | Kind::ScaleDown) {
            0.0
        } else {
            0.5 + 1e-4
        };
        for severity in 0..SEVERITIES {
            let mut found = image.to_vec();
            Corruption { kind, severity }.apply(&mut found, size, 0).unwrap();
            for byte in found {
                let expected = expected.next().unwrap();
                assert!(
                    (f64::from(byte) - expected).abs() <= tolerance,
                    "{kind:?} {severity}: {byte}, {expected}"
                );
            }
        }
    }
    assert_eq!(expected.next(), None);
}
