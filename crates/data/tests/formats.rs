//! The format sweep: small files of every kind of every format against Pillow; `goldens/formats.py` wrote them and the truth. Each
//! is Pillow's byte for byte, refused by both, or listed here with the reason.

use std::{collections::BTreeMap, fmt::Write, io::Read};

use alexnet_data::decode::{ExifOrientation, Options, decode_bytes};
use flate2::{Crc, read::GzDecoder};
use image::RgbImage;
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

/// How the answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// The high byte of grey of more than 8 bits, not Pillow's white.
    HighByte,
    /// Other pixels.
    Pixels,
    /// Refused here, with these words.
    Refused(&'static str),
    /// Read here, refused by Pillow.
    Read,
}

use Difference::{HighByte, Pixels, Read as ReadHere, Refused};

/// Files, how they differ, and why.
const LISTED: &[(&[&str], Difference, &str)] = &[
    (&["*"], HighByte, "Pillow cuts grey of more than 8 bits off at 255, which leaves a white image"),
    // BMP
    (
        &["bmp/fields-888-low-*", "bmp/fields-rgbx-*"],
        ReadHere,
        "colours are whole bytes, in an order that Pillow does not know",
    ),
    (
        &["bmp/two-colors-of-eight-bits"],
        Pixels,
        "Pillow takes a palette of black and white for one bit a pixel, whatever the header says",
    ),
    // GIF
    (
        &["gif/ramp-over-colors"],
        Pixels,
        "Pillow takes the file's palette where the frame's own is a ramp of greys",
    ),
    (&["gif/two-controls"], Pixels, "Pillow keeps the transparent index of an earlier control block"),
    // JPEG
    (
        &["jpeg/*-grouped", "jpeg/restart-scans"],
        Refused("scans of some of its components"),
        "the decoder knows scans of one component and of all",
    ),
    (
        &["jpeg/sampling-11-2*", "jpeg/sampling-12-22*", "jpeg/sampling-21-12*"],
        Refused("finer resolution than brightness"),
        "the decoder knows no chroma finer than luma",
    ),
    (&["jpeg/restart-lost*"], Refused("a part is lost inside"), "the decoder does not resynchronize"),
    (&["jpeg/no-end"], ReadHere, "only the end marker is missing"),
    (&["jpeg/arithmetic-progressive-header"], ReadHere, "the decoder knows it"),
    // PNG
    (&["png/text-bad-crc"], ReadHere, "all pixels are there"),
    // PNM
    (
        &["pnm/pf-*", "pnm/p0cmyk", "pnm/pyrgba"],
        Refused("none of"),
        "no kinds of PNM but Pillow's own and PFM",
    ),
    // TIFF
    (&["tiff/big-*-be", "tiff/big-*-be-*"], ReadHere, "Pillow knows no big-endian BigTIFF"),
    (
        &[
            "tiff/*-fill2-none-*",
            "tiff/unsigned16-fill2-*",
            "tiff/unsigned16-white0-*-be",
            "tiff/unsigned12-*-be",
        ],
        ReadHere,
        "Pillow knows fewer combinations of depth, order of bytes and order of bits",
    ),
    (
        &["tiff/unsigned32-*-be", "tiff/float32-predictor2-be"],
        ReadHere,
        "Pillow knows no big-endian 32-bit grey",
    ),
    (&["tiff/photometric1-2x*"], ReadHere, "Pillow knows fewer kinds of grey with alpha"),
    (&["tiff/photometric*-planar2-*"], ReadHere, "Pillow knows fewer kinds with a plane a sample"),
    (&["tiff/photometric5-5x8-extra2-*"], ReadHere, "Pillow knows no inks with alpha"),
    (
        &["tiff/ycbcr-*-none-*"],
        ReadHere,
        "Pillow leaves the subsampling of uncompressed YCbCr out of account",
    ),
    (&["tiff/ycbcr-*-none-*"], Pixels, "Pillow leaves the subsampling of uncompressed YCbCr out of account"),
    (
        &["tiff/float32-*-be", "tiff/signed*-deflate-be"],
        Pixels,
        "Pillow swaps the bytes of compressed big-endian samples twice",
    ),
    (
        &["tiff/photometric*-4x*-planar2-*-be"],
        Pixels,
        "Pillow divides colours by a fourth sample of unknown meaning, if planes are compressed",
    ),
    (
        &["tiff/photometric*x16-*-planar2-none-le"],
        Pixels,
        "Pillow reads uncompressed planes of 16 bits as if they had 8",
    ),
    (&["tiff/photometric8-3x8-*"], Refused("CIELAB"), "colours need a profile's library"),
    (&["tiff/jpeg-strip-too-short"], Refused("cut off"), "rows are missing, which Pillow takes for black"),
    (&["tiff/old-jpeg"], Refused("JPEG compression of the old kind"), "no library knows it"),
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

fn crc(image: &RgbImage) -> u64 {
    let mut crc = Crc::new();
    crc.update(image.as_raw());
    crc.sum().into()
}

/// How our answer differs from Pillow's, and in what words it was refused.
fn difference(name: &str, file: &[u8], pillow: &Value) -> (Option<Difference>, String) {
    let [stored, upright] = [ExifOrientation::Ignore, ExifOrientation::Apply]
        .map(|orientation| decode_bytes(name, file, Options { orientation }).map(|decoded| decoded.image));
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
fn every_kind_of_file_is_pillows_or_listed() {
    let expected: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("goldens/formats/expected.json")).unwrap();
    let mut used = vec![false; LISTED.len()];
    let (mut silent, mut report, mut files) = (vec![], String::new(), 0);
    for (format, archive) in ARCHIVES {
        let [mut equal, mut both_refuse] = [0; 2];
        let mut listed: BTreeMap<String, usize> = BTreeMap::new();
        for entry in tar::Archive::new(GzDecoder::new(archive)).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = format!("{format}/{}", entry.path().unwrap().display());
            let mut file = vec![];
            entry.read_to_end(&mut file).unwrap();
            files += 1;
            let (difference, words) = difference(&name, &file, &expected[&name]);
            let Some(difference) = difference else {
                *if words.is_empty() { &mut equal } else { &mut both_refuse } += 1;
                continue;
            };
            let place = LISTED.iter().position(|(patterns, listed, _)| {
                patterns.iter().any(|pattern| matches(pattern, &name))
                    && match listed {
                        Refused(word) => matches!(difference, Refused(_)) && words.contains(word),
                        other => *other == difference,
                    }
            });
            match place {
                Some(place) => {
                    used[place] = true;
                    let (_, difference, reason) = LISTED[place];
                    *listed.entry(format!("{difference:?}: {reason}")).or_default() += 1;
                }
                None => silent.push(format!("{name}: {difference:?} {words}")),
            }
        }
        let total = equal + both_refuse + listed.values().sum::<usize>();
        writeln!(report, "{format}: {total} files, {equal} equal, {both_refuse} refused by both").unwrap();
        for (reason, count) in listed {
            writeln!(report, "    {count:3} {reason}").unwrap();
        }
    }
    println!("{report}");
    assert_eq!(files, expected.len());
    assert!(silent.is_empty(), "{} files differ and are not listed:\n{}", silent.len(), silent.join("\n"));
    for (used, (patterns, ..)) in used.into_iter().zip(LISTED) {
        assert!(used, "{patterns:?} is listed, and no file differs so");
    }
}

#[test]
fn patterns_match_names() {
    assert!(matches("a/b*", "a/bc") && matches("*-end", "a-end") && matches("a*b*c", "a1b2c"));
    assert!(!matches("a/b", "a/bc") && !matches("*-end", "a-ends") && !matches("a*b*c", "abd"));
}
