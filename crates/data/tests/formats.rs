//! Compares the decoding of small files of all formats and their variants with Pillow.
//! `goldens/formats.py` wrote the files and the expected results. For each file, the pixels are
//! those of Pillow byte for byte, or both refuse it, or it is listed here with the reason of the
//! difference.

use std::{collections::BTreeMap, fmt::Write, io::Read};

use alexnet_data::{
    decode::{ExifOrientation, Options, decode_bytes, decode_bytes_crop},
    resize::Crop,
};
use flate2::{Crc, read::GzDecoder};
use image::{RgbImage, imageops::crop_imm};
use serde_json::Value;

const ARCHIVES: [(&str, &[u8]); 7] = [
    ("bmp", include_bytes!("goldens/formats/bmp.tar.gz")),
    ("gif", include_bytes!("goldens/formats/gif.tar.gz")),
    ("jpeg", include_bytes!("goldens/formats/jpeg.tar.gz")),
    ("png", include_bytes!("goldens/formats/png.tar.gz")),
    ("pnm", include_bytes!("goldens/formats/pnm.tar.gz")),
    ("tiff", include_bytes!("goldens/formats/tiff.tar.gz")),
    ("webp", include_bytes!("goldens/formats/webp.tar.gz")),
];

/// How the results differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// Gray of more than 8 bits: the high byte, not Pillow's clipped values.
    HighByte,
    /// Different pixels.
    Pixels,
    /// Refused by this crate with an error that contains this text.
    Refused(&'static str),
    /// Read by this crate, refused by Pillow.
    Read,
}

use Difference::{HighByte, Pixels, Read as ReadHere, Refused};

/// Patterns of file names, the difference, and the reason.
const LISTED: &[(&[&str], Difference, &str)] = &[
    (&["*"], HighByte, "Pillow clips gray of more than 8 bits at 255, which gives a white image"),
    // BMP
    (
        &["bmp/fields-888-low-*", "bmp/fields-rgbx-*"],
        ReadHere,
        "colors are whole bytes, in an order that Pillow does not support",
    ),
    (
        &["bmp/two-colors-of-eight-bits"],
        Pixels,
        "Pillow reads one bit per pixel if the palette is black and white, regardless of the header",
    ),
    // GIF
    (
        &["gif/ramp-over-colors"],
        Pixels,
        "Pillow uses the global palette if the palette of the frame is a ramp of grays",
    ),
    (
        &["gif/two-controls"],
        Pixels,
        "Pillow keeps the transparent index of an earlier control block",
    ),
    // JPEG
    (
        &["jpeg/*-grouped", "jpeg/restart-scans"],
        Refused("scans of several but not all components"),
        "the decoder supports only scans of one or of all components",
    ),
    (
        &["jpeg/sampling-11-2*", "jpeg/sampling-12-22*", "jpeg/sampling-21-12*"],
        Refused("higher resolution than luma"),
        "the decoder does not support chroma of higher resolution than luma",
    ),
    (
        &["jpeg/restart-lost*"],
        Refused("data inside are missing"),
        "the decoder does not resynchronize",
    ),
    (
        &["jpeg/cmyk-sampling-12*", "jpeg/cmyk-sampling-21-21-11"],
        Refused("CMYK whose second and third channels differ in resolution, or"),
        "the decoder fails or returns other pixels",
    ),
    (
        &["jpeg/table-again-other"],
        Refused("quantization tables that change between its scans"),
        "the decoder would use the last table for all scans",
    ),
    (&["jpeg/no-end"], ReadHere, "only the end marker is missing"),
    (&["jpeg/arithmetic-progressive-header"], ReadHere, "the decoder supports it"),
    // PNG
    (&["png/text-bad-crc"], ReadHere, "all pixels can be read"),
    // PNM
    (
        &["pnm/pf-*", "pnm/p0cmyk", "pnm/pyrgba"],
        Refused("not a JPEG"),
        "PFM and Pillow's own variants of PNM are not supported",
    ),
    // TIFF
    (&["tiff/big-*-be", "tiff/big-*-be-*"], ReadHere, "Pillow does not support big-endian BigTIFF"),
    (
        &[
            "tiff/*-fill2-none-*",
            "tiff/unsigned16-fill2-*",
            "tiff/unsigned16-white0-*-be",
            "tiff/unsigned12-*-be",
        ],
        ReadHere,
        "Pillow supports fewer combinations of bit depth, byte order and bit order",
    ),
    (
        &["tiff/unsigned32-*-be", "tiff/float32-predictor2-be"],
        ReadHere,
        "Pillow does not support big-endian 32-bit gray",
    ),
    (&["tiff/photometric1-2x*"], ReadHere, "Pillow supports fewer variants of gray with alpha"),
    (
        &["tiff/photometric*-planar2-*"],
        ReadHere,
        "Pillow supports fewer variants with one plane per sample",
    ),
    (&["tiff/photometric5-5x8-extra2-*"], ReadHere, "Pillow does not support CMYK with alpha"),
    (&["tiff/ycbcr-*-none-*"], ReadHere, "Pillow ignores the subsampling of uncompressed YCbCr"),
    (&["tiff/ycbcr-*-none-*"], Pixels, "Pillow ignores the subsampling of uncompressed YCbCr"),
    (
        &["tiff/float32-*-be", "tiff/signed*-deflate-be"],
        Pixels,
        "Pillow swaps the bytes of compressed big-endian samples twice",
    ),
    (
        &["tiff/photometric*-4x*-planar2-*-be"],
        Pixels,
        "Pillow divides colors by a fourth sample without declared meaning if planes are compressed",
    ),
    (
        &["tiff/photometric*x16-*-planar2-none-le"],
        Pixels,
        "Pillow reads uncompressed planes of 16 bits as planes of 8 bits",
    ),
    (
        &["tiff/photometric8-3x8-*"],
        Refused("CIELAB"),
        "the conversion needs a color management library",
    ),
    (
        &["tiff/jpeg-strip-too-short"],
        Refused("truncated"),
        "rows are missing, which Pillow fills with black",
    ),
    (&["tiff/old-jpeg"], Refused("old-style JPEG compression"), "no library supports it"),
];

fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (index, part) in parts.iter().enumerate() {
        if index + 1 == parts.len() {
            return rest.ends_with(part);
        }
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.is_empty()
}

/// Returns the name and the content of each file of an archive.
fn files_of(format: &str, archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = format!("{format}/{}", entry.path().unwrap().display());
        let mut file = vec![];
        entry.read_to_end(&mut file).unwrap();
        (name, file)
    });
    files.collect()
}

fn crc(image: &RgbImage) -> u64 {
    let mut crc = Crc::new();
    crc.update(image.as_raw());
    crc.sum().into()
}

/// Returns how the result differs from Pillow's, and the error if the file was refused.
fn difference(name: &str, file: &[u8], pillow: &Value) -> (Option<Difference>, String) {
    let [stored, upright] = [ExifOrientation::Ignore, ExifOrientation::Apply].map(|orientation| {
        decode_bytes(name, file, Options { orientation, ..Options::default() })
            .map(|decoded| decoded.image)
    });
    let refused = pillow.get("refused").is_some();
    match (stored, upright) {
        (Err(error), Err(_)) if refused => (None, error.to_string()),
        (Err(error), Err(_)) => (Some(Refused("")), error.to_string()),
        (Ok(_), Ok(_)) if refused => (Some(ReadHere), String::new()),
        (Ok(stored), Ok(upright)) => {
            let is = |key: &str, image: &RgbImage| pillow[key] == crc(image);
            let size = pillow["size"] == serde_json::json!([stored.width(), stored.height()]);
            if size && is("stored", &stored) && is("upright", &upright) {
                (None, String::new())
            } else if size && is("high", &stored) {
                (Some(HighByte), String::new())
            } else {
                (Some(Pixels), String::new())
            }
        }
        (stored, upright) => panic!("{name}: {:?}, {:?}", stored.err(), upright.err()),
    }
}

#[test]
fn files_decode_as_by_pillow_or_are_listed() {
    let expected: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("goldens/formats/expected.json")).unwrap();
    let mut used = vec![false; LISTED.len()];
    let (mut unlisted, mut report, mut files) = (vec![], String::new(), 0);
    for (format, archive) in ARCHIVES {
        let [mut equal, mut both_refuse] = [0; 2];
        let mut listed: BTreeMap<String, usize> = BTreeMap::new();
        for (name, file) in files_of(format, archive) {
            files += 1;
            let (difference, error) = difference(&name, &file, &expected[&name]);
            let Some(difference) = difference else {
                *if error.is_empty() { &mut equal } else { &mut both_refuse } += 1;
                continue;
            };
            let place = LISTED.iter().position(|(patterns, listed, _)| {
                patterns.iter().any(|pattern| matches(pattern, &name))
                    && match listed {
                        Refused(text) => matches!(difference, Refused(_)) && error.contains(text),
                        other => *other == difference,
                    }
            });
            match place {
                Some(place) => {
                    used[place] = true;
                    let (_, difference, reason) = LISTED[place];
                    *listed.entry(format!("{difference:?}: {reason}")).or_default() += 1;
                }
                None => unlisted.push(format!("{name}: {difference:?} {error}")),
            }
        }
        let total = equal + both_refuse + listed.values().sum::<usize>();
        writeln!(report, "{format}: {total} files, {equal} equal, {both_refuse} refused by both")
            .unwrap();
        for (reason, count) in listed {
            writeln!(report, "    {count:3} {reason}").unwrap();
        }
    }
    println!("{report}");
    assert_eq!(files, expected.len());
    assert!(
        unlisted.is_empty(),
        "{} files differ and are not listed:\n{}",
        unlisted.len(),
        unlisted.join("\n")
    );
    for (used, (patterns, ..)) in used.into_iter().zip(LISTED) {
        assert!(used, "{patterns:?} is listed, but no file has this difference");
    }
}

#[test]
fn crops_have_the_pixels_of_the_whole_image() {
    let mut crops = 0;
    for (name, mut file) in ARCHIVES.iter().flat_map(|(format, archive)| files_of(format, archive))
    {
        let Ok(whole) = decode_bytes(&name, &file, Options::default()) else { continue };
        let whole = whole.image;
        let (width, height) = whole.dimensions();
        for crop in [
            Crop {
                left: width / 3,
                top: height / 3,
                width: width.div_ceil(3),
                height: height.div_ceil(3),
            },
            Crop { left: 0, top: 0, width, height: 1 },
            Crop { left: width - 1, top: 0, width: 1, height },
        ] {
            let Crop { left, top, width, height } = crop;
            let found = decode_bytes_crop(&name, &mut file, Options::default(), |_, _| crop);
            let (found, place) = found.unwrap();
            let found = crop_imm(&found.image, place.left, place.top, width, height).to_image();
            assert!(
                found == crop_imm(&whole, left, top, width, height).to_image(),
                "{name} {crop:?}"
            );
            crops += 1;
        }
    }
    assert!(crops > 5000, "{crops}");
}

#[test]
fn patterns_match_names() {
    assert!(matches("a/b*", "a/bc") && matches("*-end", "a-end") && matches("a*b*c", "a1b2c"));
    assert!(!matches("a/b", "a/bc") && !matches("*-end", "a-ends") && !matches("a*b*c", "abd"));
}
