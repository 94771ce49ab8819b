//! Compares the preprocessing of the paper with torchvision and NumPy. `goldens/paper.py` wrote the
//! expected results.

mod reader;

use alexnet_data::{
    augment::{Variation, pca, views::Views},
    framing::{Framing, Window},
    preprocess::{evaluation_image, evaluation_views},
    resize::Crop,
};
use image::RgbImage;

use self::reader::Reader;

fn floats<const N: usize>(reader: &mut Reader) -> [f64; N] {
    reader.numbers().map(|bits| f64::from(f32::from_bits(bits)))
}

#[test]
fn crops_views_and_color_noise_are_those_of_the_paper() {
    let mut reader = Reader(include_bytes!("goldens/paper.bin"));
    let mut cases = [0; 2];
    while !reader.0.is_empty() {
        let [kind, width, height] = reader.numbers();
        let pixels = (width * height * 3) as usize;
        cases[kind as usize] += 1;
        match kind {
            0 => resized(&mut reader, width, height),
            _ => {
                let alpha = floats(&mut reader);
                let mut found = reader.bytes(pixels).to_vec();
                pca::add(pca::shift(alpha), &mut found);
                for byte in found {
                    // Half a level for rounding, and the precision of f32.
                    let [expected] = floats(&mut reader);
                    assert!((f64::from(byte) - expected).abs() < 0.5 + 1e-4, "{alpha:?}");
                }
            }
        }
    }
    assert_eq!(cases, [9, 6]);
}

fn resized(reader: &mut Reader, width: u32, height: u32) {
    let [short, side, left, top] = reader.numbers();
    let bytes = (side * side * 3) as usize;
    let pixels = reader.bytes((width * height * 3) as usize).to_vec();
    let image = RgbImage::from_raw(width, height, pixels).unwrap();
    let case = format!("{width}×{height} to {short}, {side}");
    let framing = Framing { size: side as usize, resize_crop: Some(short) };
    assert_eq!(evaluation_image(&image, framing), reader.bytes(bytes), "center of {case}");

    let window = Window::center([width, height], short, short).square([left, top], side);
    let mut found = vec![0; bytes];
    let whole = Variation::none(width, height);
    let view = Variation { window: Some(window), ..whole };
    view.resize(&image, Crop::whole(width, height), side as usize, &mut found);
    assert_eq!(found, reader.bytes(bytes), "part of {case}");

    let mut views = vec![0; 10 * bytes];
    evaluation_views(&image, Views::TenCrop, framing, &mut views);
    assert_eq!(views, reader.bytes(10 * bytes), "views of {case}");
}
