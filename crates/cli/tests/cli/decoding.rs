//! Orientation metadata of images, and damaged images.

use std::fs;

use alexnet_core::weights::Weights;
use alexnet_data::decode::{ExifOrientation, Options, decode};
use image::{
    ImageEncoder, RgbImage,
    codecs::{jpeg::JpegEncoder, webp::WebPEncoder},
    imageops::rotate90,
};
use serde_json::Value;

use crate::TestDir;

/// EXIF data with orientation 6: the image is upright after a rotation by 90° clockwise.
const TURNED: &[u8] = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

/// Returns a JPEG with that orientation.
fn turned_jpeg(stored: &RgbImage) -> Vec<u8> {
    let mut bytes = vec![];
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(TURNED.to_vec()).unwrap();
    stored.write_with_encoder(encoder).unwrap();
    bytes
}

fn flower(dir: &TestDir, name: &str) -> RgbImage {
    image::open(dir.file("flowers").join(name)).unwrap().into_rgb8()
}

/// Returns a RIFF chunk of data of even length.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    [kind, &(data.len() as u32).to_le_bytes()[..], data].concat()
}

/// Returns an animated WebP whose header has a smaller width for the frame than the frame itself,
/// which makes the decoder panic.
fn odd_animation(frame: &RgbImage) -> Vec<u8> {
    let mut still = vec![];
    frame.write_with_encoder(WebPEncoder::new_lossless(&mut still)).unwrap();
    let three_bytes = |side: u32| side.to_le_bytes()[..3].to_vec();
    let sides = |width: u32| [three_bytes(width - 1), three_bytes(frame.height() - 1)].concat();
    let header = [&[0; 6], &sides(frame.width() - 4)[..], &[1, 0, 0, 0]].concat();
    let body = [
        &b"WEBP"[..],
        &chunk(b"VP8X", &[&[2, 0, 0, 0], &sides(frame.width())[..]].concat()),
        &chunk(b"ANIM", &[0; 6]),
        &chunk(b"ANMF", &[&header[..], &still[12..]].concat()),
    ]
    .concat();
    chunk(b"RIFF", &body)
}

#[test]
fn the_orientation_setting_is_stored_with_the_run_and_its_weights() {
    let dir = TestDir::with_flowers(2);
    let stored = flower(&dir, "roses/roses_0001.jpg");
    fs::write(dir.file("turned.jpg"), turned_jpeg(&stored)).unwrap();
    let as_is = Options { orientation: ExifOrientation::Ignore, ..Options::default() };
    let as_stored = decode(dir.file("turned.jpg"), as_is).unwrap().image.clone();
    as_stored.save(dir.file("stored.png")).unwrap();
    rotate90(&as_stored).save(dir.file("upright.png")).unwrap();

    let train = [
        "train",
        "--data",
        "flowers",
        "--val-fraction",
        "0.5",
        "--epochs",
        "1",
        "--batch-size",
        "2",
    ];
    dir.succeeds(&[&train[..], &["--exif-orientation", "ignore", "--run-dir", "run"]].concat());
    let options = fs::read_to_string(dir.file("run/args.toml")).unwrap();
    assert!(options.contains("exif-orientation = \"ignore\""), "{options}");

    let answer = |weights: &str, image: &str, more: &[&str]| {
        let ran = dir.run(
            &[&["predict", image, "--format", "json", "--topk", "1", "--weights", weights], more]
                .concat(),
        );
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let answers: Value = serde_json::from_str(&ran.out).unwrap();
        let output = ran
            .err
            .lines()
            .filter(|line| line.contains("orientation"))
            .collect::<Vec<_>>()
            .join("\n");
        (answers[0]["probability"].clone(), output)
    };
    let run = "run/weights/best.safetensors";
    let (stored, output) = answer(run, "turned.jpg", &[]);
    assert_eq!(stored, answer(run, "stored.png", &[]).0);
    assert_eq!(output, "the EXIF orientation of images is not applied, as in training");
    let (upright, output) = answer(run, "turned.jpg", &["--exif-orientation", "apply"]);
    assert_eq!(upright, answer(run, "upright.png", &[]).0);
    assert!(output.contains("trained with ignore"), "{output}");
    assert_ne!(stored, upright);

    // Runs that start from these weights.
    for (name, more, stored, note) in [
        ("as_trained", &[][..], "ignore", "--std 0.5,0.5,0.5 --exif-orientation ignore`"),
        ("otherwise", &["--exif-orientation", "apply"], "apply", "--std 0.5,0.5,0.5`"),
    ] {
        let ran = dir.run(&[&train[..], &["--weights", run, "--run-dir", name], more].concat());
        assert!(ran.code == Some(0) && ran.err.contains(note), "{ran:?}");
        let options = fs::read_to_string(dir.file(name).join("args.toml")).unwrap();
        assert!(options.contains(&format!("exif-orientation = \"{stored}\"")), "{options}");
        let weights = Weights::load(dir.file(name).join("weights/best.safetensors")).unwrap();
        assert_eq!(weights.metadata.exif_orientation.name(), stored);
    }

    // Weights without that setting.
    dir.save_fresh_weights("fresh.safetensors");
    let (upright, output) = answer("fresh.safetensors", "turned.jpg", &[]);
    assert_eq!(upright, answer("fresh.safetensors", "upright.png", &[]).0);
    assert_eq!(output, "");
    let ignored = ["--exif-orientation", "ignore"];
    let (stored, output) = answer("fresh.safetensors", "turned.jpg", &ignored);
    assert_eq!(stored, answer("fresh.safetensors", "stored.png", &[]).0);
    assert!(output.contains("trained with apply"), "{output}");
}

#[test]
fn data_check_counts_turned_images_and_detects_wrong_checksums() {
    let dir = TestDir::with_flowers(2);
    let image = flower(&dir, "tulips/tulips_0002.jpg");
    fs::write(dir.file("flowers/tulips/tulips_0002.jpg"), turned_jpeg(&image)).unwrap();
    image.save(dir.file("flowers/tulips/odd.png")).unwrap();
    let mut odd = fs::read(dir.file("flowers/tulips/odd.png")).unwrap();
    // The last byte of the checksum before the chunk IEND, which has twelve bytes.
    let at = odd.len() - 13;
    odd[at] ^= 1;
    fs::write(dir.file("flowers/tulips/odd.png"), odd).unwrap();

    let check = ["data", "check", "--data", "flowers", "--val-fraction", "0.4"];
    let report: Value =
        serde_json::from_str(&dir.succeeds(&[&check[..], &["--format", "json"]].concat())).unwrap();
    assert_eq!(report["turned"], 1);
    let damaged = &report["damaged"];
    assert_eq!(damaged.as_array().unwrap().len(), 1);
    assert_eq!(
        (&damaged[0]["path"], &damaged[0]["kind"], &damaged[0]["decodes"]),
        (&"tulips/odd.png".into(), &"checksum".into(), &true.into())
    );
    let text = dir.succeeds(&check);
    assert!(text.contains("\nturned by their EXIF orientation: 1\n"), "{text}");
    let text = dir.succeeds(&[&check[..], &["--exif-orientation", "ignore"]].concat());
    assert!(text.contains("\nnot turned although they have an EXIF orientation: 1\n"), "{text}");

    dir.save_fresh_weights("fresh.safetensors");
    let ran = dir.run(&["predict", "flowers/tulips/odd.png", "--weights", "fresh.safetensors"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let note = "damaged, but read: flowers/tulips/odd.png: the checksum of its image data is wrong";
    assert!(ran.err.lines().any(|line| line == note), "{ran:?}");
    // The note is printed once, not in each epoch.
    let args = [
        "train",
        "--data",
        "flowers",
        "--val-fraction",
        "0.4",
        "--epochs",
        "2",
        "--run-dir",
        "run",
    ];
    let ran = dir.run(&args);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        ran.err.lines().filter(|line| line.starts_with("damaged, but read: ")).count(),
        1,
        "{ran:?}"
    );
}

/// The other images are answered, and the panic is not printed.
#[test]
fn a_panic_in_a_decoder_is_an_error_of_its_image() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("fresh.safetensors");
    let image = flower(&dir, "roses/roses_0001.jpg");
    fs::write(dir.file("odd.webp"), odd_animation(&image)).unwrap();
    let rose = "flowers/roses/roses_0001.jpg";
    let ran = dir.run(&[
        "predict",
        rose,
        "odd.webp",
        rose,
        "--format",
        "jsonl",
        "--weights",
        "fresh.safetensors",
    ]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let answers: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 3);
    assert!(answers[0]["class"].is_string() && answers[0] == answers[2]);
    let error = answers[1]["error"].as_str().unwrap();
    assert!(error.starts_with("odd.webp is not a readable image: "), "{error}");
    assert!(!ran.err.contains("panicked"), "{ran:?}");
}
