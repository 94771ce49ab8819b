//! `data check` finds exactly the injected issues, and `data split` keeps duplicates together.

use std::{collections::BTreeSet, fs, path::Path};

use alexnet_data::{
    check::{Damage, Format, Group, Likeness, Oddity, Report, SplitBy, Subset},
    synthetic::draw_flower,
};
use image::{ImageFormat, RgbImage, codecs::jpeg::JpegEncoder, imageops};

use crate::TestDir;

const DRAWN: [&str; 3] = ["daisy", "dandelion", "roses"];

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn jpeg(image: &RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)).unwrap();
    bytes
}

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn half_size(image: &RgbImage) -> RgbImage {
    imageops::thumbnail(image, image.width() / 2, image.height() / 2)
}

/// Writes a data set without issues: `images/train` and `images/val` with 17 and 5 images of each
/// of three classes.
fn write_clean_dataset(dir: &TestDir) {
    for (class, name) in DRAWN.into_iter().enumerate() {
        for index in 0..22 {
            let subset = if index < 17 { "train" } else { "val" };
            let path = dir.file(&format!("images/{subset}/{name}/{index:02}.jpg"));
            write(&path, &jpeg(&draw_flower(class, index, 0), 88));
        }
    }
}

fn report(dir: &TestDir, args: &[&str]) -> Report {
    let args = [&["data", "check", "--format", "json"], args].concat();
    serde_json::from_str(&dir.succeeds(&args)).unwrap()
}

fn members(group: &Group) -> Vec<&str> {
    group.images.iter().map(|image| image.path.as_str()).collect()
}

#[test]
fn a_clean_dataset_has_no_issues() {
    let dir = TestDir::new();
    write_clean_dataset(&dir);
    let found = report(&dir, &["--data", "images", "--strict"]);
    assert_eq!((found.images, found.issues, found.imbalance), (66, 0, 1.0));
    assert_eq!(found.split, SplitBy::Folders);
    for class in &found.classes {
        assert_eq!((class.images, class.train, class.val, class.few), (22, 17, 5, false));
    }
    assert!(
        found.damaged.is_empty() && found.wrong_extension.is_empty() && found.not_images.is_empty()
    );
    assert!(found.duplicates.is_empty() && found.sizes.is_empty());
    let text =
        dir.succeeds(&["data", "check", "--data", "images", "--strict", "--gallery", "seen.png"]);
    assert!(text.ends_with("\nno issues\n"), "{text}");
    assert!(dir.file("seen.png").is_file());
}

#[test]
fn all_injected_issues_are_found() {
    let dir = TestDir::new();
    write_clean_dataset(&dir);
    let inject = |path: &str, bytes: &[u8]| write(&dir.file("images").join(path), bytes);
    let read = |path: &str| fs::read(dir.file("images").join(path)).unwrap();
    let (another, one_more) = (draw_flower(0, 40, 0), draw_flower(2, 41, 0));

    inject("train/daisy/words.jpg", b"These are words, not pixels.");
    inject("train/daisy/nothing.jpg", b"");
    let [complete_jpeg, complete_png] = [jpeg(&another, 90), encoded(&another, ImageFormat::Png)];
    inject("train/daisy/cut.jpg", &complete_jpeg[..complete_jpeg.len() / 2]);
    inject("train/daisy/cut.png", &complete_png[..complete_png.len() / 2]);
    let endless = jpeg(&draw_flower(0, 43, 0), 90);
    inject("val/daisy/endless.jpg", &endless[..endless.len() - 2]);
    inject("train/roses/a_jpeg.png", &jpeg(&one_more, 90));
    inject("train/roses/notes.txt", b"BM is not only how a BMP begins");
    inject("train/roses/image.jfif", &complete_jpeg);
    inject("train/roses/.hidden", b"");
    inject("train/dandelion/again.jpg", &read("train/dandelion/03.jpg"));
    inject("train/daisy/smaller.jpg", &jpeg(&half_size(&draw_flower(0, 2, 0)), 60));
    inject("train/roses/conflict.jpg", &read("train/dandelion/05.jpg"));
    inject("val/roses/leak.jpg", &jpeg(&imageops::flip_horizontal(&draw_flower(2, 4, 0)), 75));
    inject("val/roses/conflict_and_leak.png", &encoded(&draw_flower(0, 6, 0), ImageFormat::Png));
    inject(
        "train/dandelion/tiny.png",
        &encoded(&imageops::thumbnail(&draw_flower(1, 42, 0), 50, 40), ImageFormat::Png),
    );
    let strip = imageops::crop_imm(&draw_flower(1, 44, 0), 0, 90, 240, 70).to_image();
    inject("train/dandelion/strip.jpg", &jpeg(&strip, 90));
    for index in 0..4 {
        let subset = if index < 3 { "train" } else { "val" };
        inject(&format!("{subset}/zinnia/{index}.jpg"), &jpeg(&draw_flower(3, index, 0), 88));
    }

    let args = ["--data", "images", "--gallery", "seen.jpg"];
    let found = report(&dir, &args);
    let damaged: Vec<_> = found
        .damaged
        .iter()
        .map(|image| (image.path.as_str(), image.kind, image.decodes))
        .collect();
    assert_eq!(
        damaged,
        [
            ("train/daisy/cut.jpg", Damage::Truncated, false),
            ("train/daisy/cut.png", Damage::Truncated, false),
            ("train/daisy/nothing.jpg", Damage::Empty, false),
            ("train/daisy/words.jpg", Damage::Undecodable, false),
            ("val/daisy/endless.jpg", Damage::Truncated, true),
        ]
    );
    let named: Vec<_> =
        found.wrong_extension.iter().map(|image| (image.path.as_str(), image.content)).collect();
    assert_eq!(named, [("train/roses/a_jpeg.png", Format::Jpeg)]);
    let not_images: Vec<_> =
        found.not_images.iter().map(|file| (file.path.as_str(), file.content)).collect();
    assert_eq!(
        not_images,
        [("train/roses/image.jfif", Some(Format::Jpeg)), ("train/roses/notes.txt", None)]
    );
    let groups: Vec<_> = found
        .duplicates
        .iter()
        .map(|group| (members(group), group.across_classes, group.across_split))
        .collect();
    assert_eq!(
        groups,
        [
            (vec!["train/daisy/06.jpg", "val/roses/conflict_and_leak.png"], true, true),
            (vec!["train/dandelion/05.jpg", "train/roses/conflict.jpg"], true, false),
            (vec!["train/roses/04.jpg", "val/roses/leak.jpg"], false, true),
            (vec!["train/daisy/02.jpg", "train/daisy/smaller.jpg"], false, false),
            (vec!["train/dandelion/03.jpg", "train/dandelion/again.jpg"], false, false),
        ]
    );
    let how = |group: usize| found.duplicates[group].links[0].likeness;
    assert_eq!([how(1), how(4)], [Likeness::Bytes; 2]);
    assert!(matches!(how(2), Likeness::Near { mirrored: true, .. }));
    assert!(matches!(how(3), Likeness::Near { mirrored: false, .. }));
    assert_eq!(found.duplicates[2].images[1].subset, Subset::Val);
    let sizes: Vec<_> =
        found.sizes.iter().map(|image| (image.path.as_str(), image.oddity)).collect();
    assert_eq!(
        sizes,
        [
            ("train/dandelion/strip.jpg", Oddity::Extreme),
            ("train/dandelion/tiny.png", Oddity::Tiny)
        ]
    );
    let few: Vec<&str> =
        found.classes.iter().filter(|class| class.few).map(|class| class.name.as_str()).collect();
    assert_eq!(few, ["zinnia"]);
    assert_eq!(found.issues, 5 + 1 + 1 + 5);
    assert_eq!(found, report(&dir, &["--data", "images", "-j", "1"]));

    let gallery = image::open(dir.file("seen.jpg")).unwrap();
    assert!(gallery.width() > 1000 && gallery.height() > 1000);
    let text = dir.succeeds(&["data", "check", "--data", "images"]);
    for output in [
        "train/daisy/cut.png: truncated",
        "label conflict, leak",
        "the same bytes",
        "issues: 12",
        "few",
    ] {
        assert!(text.contains(output), "{output}: {text}");
    }
    let strict = dir.run(&["data", "check", "--data", "images", "--strict"]);
    assert_eq!((strict.code, strict.out), (Some(1), text));
}

/// Odd sizes, few images and other files are reported but are not issues.
#[test]
fn notes_do_not_fail_the_strict_check() {
    let dir = TestDir::new();
    write_clean_dataset(&dir);
    write(
        &dir.file("images/train/zinnia/tiny.png"),
        &encoded(&imageops::thumbnail(&draw_flower(3, 0, 0), 40, 40), ImageFormat::Png),
    );
    write(&dir.file("images/val/zinnia/1.jpg"), &jpeg(&draw_flower(3, 1, 0), 90));
    write(&dir.file("images/val/zinnia/notes.txt"), b"found in the garden");
    let found = report(&dir, &["--data", "images", "--strict"]);
    assert_eq!((found.issues, found.sizes.len(), found.not_images.len()), (0, 1, 1));
}

/// Various names, formats and sizes, and a class of one image.
#[test]
fn other_datasets_are_checked_and_split() {
    let dir = TestDir::new();
    let formats =
        [("jpeg", ImageFormat::Jpeg), ("PNG", ImageFormat::Png), ("webp", ImageFormat::WebP)];
    for (class, (name, count)) in
        [("common daisy", 21), ("Löwenzahn", 12), ("薔薇", 1)].into_iter().enumerate()
    {
        for index in 0..count {
            let image = draw_flower(class, index, 0);
            let image = if index % 2 == 0 { image } else { half_size(&image) };
            let (extension, format) = formats[index % 3];
            let path = dir.file(&format!("mine/{name}/image {index}.{extension}"));
            write(&path, &encoded(&image, format));
        }
    }
    let found = report(&dir, &["--data", "mine", "--strict"]);
    assert_eq!(found.split, SplitBy::Seed { seed: 0, val_fraction: 0.1 });
    let counts: Vec<_> =
        found.classes.iter().map(|class| (class.name.as_str(), class.train, class.val)).collect();
    assert_eq!(counts, [("Löwenzahn", 11, 1), ("common daisy", 19, 2), ("薔薇", 1, 0)]);
    assert_eq!((found.imbalance, found.issues), (21.0, 0));

    let output = dir.succeeds(&["data", "split", "--data", "mine", "--copy", "split"]);
    assert!(
        output.starts_with("31 images for training, 3 images for validation in split\n"),
        "{output}"
    );
    let again = report(&dir, &["--data", "split"]);
    assert_eq!((again.split, again.images), (SplitBy::Folders, 34));
    assert_eq!(again.classes, found.classes);
}

#[test]
fn a_split_keeps_duplicates_together() {
    let dir = TestDir::new();
    for (class, name) in DRAWN.into_iter().enumerate() {
        for index in 0..12 {
            write(
                &dir.file(&format!("mine/{name}/{index:02}.jpg")),
                &jpeg(&draw_flower(class, index, 0), 88),
            );
        }
    }
    // Images that cannot be decoded are not duplicates of each other.
    for name in ["daisy/empty.jpg", "roses/empty.jpg"] {
        write(&dir.file("mine").join(name), b"");
    }
    write(&dir.file("mine/daisy/smaller.jpg"), &jpeg(&half_size(&draw_flower(0, 3, 0)), 70));
    write(&dir.file("mine/roses/conflict.jpg"), &jpeg(&draw_flower(1, 5, 0), 70));
    let mut leaks = [0, 0];
    for seed in ["0", "1", "2", "3", "4", "5"] {
        for (index, duplicates) in ["together", "ignore"].into_iter().enumerate() {
            let out = format!("{duplicates}{seed}");
            let split =
                ["data", "split", "--data", "mine", "--val-fraction", "0.25", "--seed", seed];
            let output =
                dir.succeeds(&[&split[..], &["--copy", &out, "--duplicates", duplicates]].concat());
            assert!(
                output.starts_with("31 images for training, 9 images for validation"),
                "{output}"
            );
            let found = report(&dir, &["--data", &out]);
            let copies: BTreeSet<_> =
                found.duplicates.iter().map(|group| group.images.len()).collect();
            assert_eq!((found.duplicates.len(), copies), (2, BTreeSet::from([2])));
            leaks[index] += found.duplicates.iter().filter(|group| group.across_split).count();
        }
    }
    assert_eq!(leaks[0], 0);
    assert!(leaks[1] > 0);
}
