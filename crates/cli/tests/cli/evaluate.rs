//! `evaluate`: its report, its files, and test-time augmentation.

use std::fs;

use alexnet_core::{tensors, weights::Weights};
use alexnet_data::decode::decode;
use image::{DynamicImage, imageops::crop_imm};
use serde_json::Value;

use crate::{CLASSES, TestDir};

const PARTS: [&str; 2] = ["train", "val"];

/// Creates a folder with drawn flowers in `images/`, one of each class for training and one for
/// validation, and weights whose predictions differ between images.
fn dir() -> TestDir {
    let dir = TestDir::with_flowers(2);
    for class in CLASSES {
        for (image, part) in fs::read_dir(dir.file("flowers").join(class)).unwrap().zip(PARTS) {
            let image = image.unwrap();
            let folder = dir.file("images").join(part).join(class);
            fs::create_dir_all(&folder).unwrap();
            fs::rename(image.path(), folder.join(image.file_name())).unwrap();
        }
    }
    dir.save_fresh_weights("fresh.safetensors");
    let mut weights = Weights::load(dir.file("fresh.safetensors")).unwrap();
    let last = weights.parameters.get_mut("classifier.6.weight").unwrap();
    last.values.iter_mut().for_each(|weight| *weight *= 200.0);
    weights.save(dir.file("weights.safetensors")).unwrap();
    dir
}

const EVALUATE: [&str; 9] = [
    "evaluate",
    "--weights",
    "weights.safetensors",
    "--data",
    "images",
    "--split",
    "all",
    "--format",
    "json",
];

fn report(dir: &TestDir, more: &[&str]) -> Value {
    serde_json::from_str(&dir.succeeds(&[&EVALUATE[..], more].concat())).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn the_report_is_printed_and_written() {
    let dir = dir();
    let printed = report(&dir, &["--out", "deep/out"]);
    let written = fs::read(dir.file("deep/out/report.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), printed);

    assert_eq!((&printed["images"], &printed["views"]), (&10.into(), &1.into()));
    let [low, high] = [0, 1].map(|i| number(&printed["interval95"][i]));
    assert!(low < number(&printed["top1"]) && number(&printed["top1"]) < high);
    assert_eq!(printed["macro_avg"]["support"], 10);
    for row in printed["confusion_normalized"].as_array().unwrap() {
        let sum: f64 = row.as_array().unwrap().iter().map(number).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{row}");
    }
    let mistakes = printed["mistakes"].as_array().unwrap();
    assert!(!mistakes.is_empty());
    assert_eq!(mistakes.len() as f64, (10.0 * (1.0 - number(&printed["top1"]))).round());
    assert!(mistakes.is_sorted_by(|a, b| number(&a["probability"]) >= number(&b["probability"])));

    let mut names: Vec<_> = fs::read_dir(dir.file("deep/out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "calibration.png",
        "confusion_matrix.png",
        "confusion_matrix_normalized.png",
        "misclassified.csv",
        "misclassified.jpg",
        "report.json",
    ];
    assert_eq!(names, expected);
    let mut table = csv::Reader::from_path(dir.file("deep/out/misclassified.csv")).unwrap();
    let columns = ["path", "truth", "predicted", "probability", "probability_of_truth"];
    for (row, mistake) in table.records().zip(mistakes) {
        for (column, cell) in columns.iter().zip(&row.unwrap()) {
            let value =
                mistake[column].as_str().map_or_else(|| mistake[column].to_string(), String::from);
            assert_eq!(cell, value, "{column}");
        }
    }

    // `predict` gives the same answer for the same image.
    let worst = &mistakes[0];
    let path = worst["path"].as_str().unwrap();
    let answer =
        dir.succeeds(&["predict", path, "--weights", "weights.safetensors", "--format", "jsonl"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["class"], worst["predicted"]);
    assert!((number(&answer["probability"]) - number(&worst["probability"])).abs() < 1e-6);
    assert!(
        path.contains(worst["truth"].as_str().unwrap()) && worst["truth"] != worst["predicted"]
    );
}

#[test]
fn the_maps_of_mistakes_are_beside_their_images_on_request() {
    let dir = dir();
    let gallery = |out: &str, more: &[&str]| {
        let printed = report(&dir, &[&["--out", out], more].concat());
        let figure = image::open(dir.file(out).join("misclassified.jpg")).unwrap().into_rgb8();
        (printed, figure)
    };
    let (plain, images) = gallery("plain", &[]);
    let (explained, with_maps) = gallery("explained", &["--gradcam"]);
    assert_eq!(plain, explained);
    let mistakes = plain["mistakes"].as_array().unwrap().len() as u32;
    assert!((6..=10).contains(&mistakes), "{mistakes}");
    assert_eq!(images.width(), with_maps.width());
    let tile = (images.height() - 10) / mistakes.div_ceil(6);
    assert_eq!(with_maps.height() - 10, (2 * mistakes).div_ceil(6) * tile);
    // The second tile is the first image in the colors of the map.
    let (across, side) = ((images.width() - 10) / 6, (images.width() - 70) / 6);
    let mean = |image: &image::RgbImage, tile: u32| {
        let patch = crop_imm(image, 10 + tile * across, 10, side, side).to_image();
        patch.pixels().map(|pixel| pixel.0.iter().map(|v| u32::from(*v)).sum::<u32>()).sum::<u32>()
            / (side * side)
    };
    assert_eq!(mean(&images, 0), mean(&with_maps, 0));
    assert!(mean(&with_maps, 0).abs_diff(mean(&with_maps, 1)) > 10);

    let ran = dir.run(&[&EVALUATE[..], &["--gradcam"]].concat());
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("--out <DIR>"), "{ran:?}");
}

/// Compares with the mean of the answers of `predict` to the views, which the crate `image` crops
/// and mirrors.
#[test]
fn views_are_averaged() {
    let dir = dir();
    fs::create_dir(dir.file("views")).unwrap();
    let shown: Vec<(&str, &str)> =
        PARTS.iter().flat_map(|part| CLASSES.map(|class| (*part, class))).collect();
    for (part, class) in &shown {
        let image =
            fs::read_dir(dir.file("images").join(part).join(class)).unwrap().next().unwrap();
        let image = decode(image.unwrap().path(), Default::default()).unwrap().image;
        let (width, height) = image.dimensions();
        let [w, h] = [width, height].map(|extent| (f64::from(extent) * 0.875).round() as u32);
        let (right, bottom) = (width - w, height - h);
        let patches = [(0, 0), (right, 0), (0, bottom), (right, bottom), (right / 2, bottom / 2)];
        let patches = patches.map(|(x, y)| crop_imm(&image, x, y, w, h).to_image());
        let save = |name: &str, image: &DynamicImage| {
            image.save(dir.file("views").join(format!("{part}-{class}-{name}.png"))).unwrap();
            image
                .fliph()
                .save(dir.file("views").join(format!("{part}-{class}-{name}-mirrored.png")))
                .unwrap();
        };
        save("full", &image.clone().into());
        for (index, patch) in patches.into_iter().enumerate() {
            save(&format!("patch{index}"), &patch.into());
        }
    }
    let output = dir.succeeds(&[
        "predict",
        "views",
        "--weights",
        "weights.safetensors",
        "--format",
        "jsonl",
    ]);
    let answers: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), shown.len() * 12);
    // Returns the probability of the true class, averaged over the views of an image whose name is
    // `wanted`.
    let mean = |(part, class): &(&str, &str), wanted: &dyn Fn(&str) -> bool| {
        let of_truth = answers.iter().filter_map(|answer| {
            let name = answer["path"].as_str().unwrap().split_once("views/").unwrap().1;
            let top = answer["top"].as_array().unwrap();
            let truth = top.iter().find(|c| c["class"] == *class).unwrap();
            (name.starts_with(&format!("{part}-{class}-")) && wanted(name))
                .then(|| number(&truth["probability"]))
        });
        let of_truth: Vec<f64> = of_truth.collect();
        of_truth.iter().sum::<f64>() / of_truth.len() as f64
    };
    let mut losses = vec![];
    for (more, wanted) in [
        (&[][..], &(|name: &str| name.ends_with("full.png")) as &dyn Fn(&str) -> bool),
        (&["--tta"], &|name: &str| name.contains("full")),
        (&["--tta", "flip"], &|name: &str| name.contains("full")),
        (&["--tta", "ten-crop"], &|name: &str| name.contains("patch")),
    ] {
        let loss: f64 =
            shown.iter().map(|image| -mean(image, wanted).ln() / shown.len() as f64).sum();
        let found = number(&report(&dir, more)["loss"]);
        assert!((found - loss).abs() < 1e-9, "{more:?}: {found}, {loss}");
        losses.push(found);
    }
    assert_eq!(losses[1], losses[2]);
    for (a, b) in [(0, 1), (0, 3), (1, 3)] {
        assert!(
            (losses[a] - losses[b]).abs() > 1e-5,
            "the views do not change the loss: {losses:?}"
        );
    }
}

#[test]
fn corruptions_lower_the_accuracy_in_the_same_way_each_time() {
    let dir = dir();
    let clean = report(&dir, &[]);
    assert_eq!(clean.get("corruptions"), None);
    let first = report(&dir, &["--corruptions"]);
    assert_eq!(first, report(&dir, &["--corruptions", "--workers", "1", "-b", "3"]));
    assert_eq!(first["loss"], clean["loss"]);
    let Value::Array(rows) = &first["corruptions"]["corruptions"] else { panic!("{first}") };
    let mean = |values: &mut dyn Iterator<Item = f64>, n: f64| values.sum::<f64>() / n;
    assert_eq!(rows.len(), 8);
    for row in rows {
        let severities = row["severities"].as_array().unwrap();
        assert_eq!(severities.len(), 3);
        let expected = mean(&mut severities.iter().map(number), 3.0);
        assert!((number(&row["top1"]) - expected).abs() < 1e-12, "{row}");
    }
    let expected = mean(&mut rows.iter().map(|row| number(&row["top1"])), 8.0);
    assert!((number(&first["corruptions"]["top1"]) - expected).abs() < 1e-12);

    let text = dir.succeeds(&[&EVALUATE[..7], &["--corruptions"]].concat());
    let from = text.find("top1 corrupted").unwrap();
    let table: Vec<&str> = text[from..].lines().take(10).collect();
    assert!(table[1].starts_with("gaussian-noise  ") && table[8].starts_with("shift  "), "{text}");
    assert!(table[9].starts_with("mean  ") && table[9].len() == table[0].len(), "{text}");
    assert_eq!(dir.run(&[&EVALUATE[..], &["--corruptions", "--tta"]].concat()).code, Some(2));
}

#[test]
fn the_report_is_printed_as_text() {
    let dir = dir();
    let text = dir.succeeds(&EVALUATE[..7]);
    for message in [
        "images 10  loss ",
        "95 % interval",
        "macro avg",
        "weighted avg",
        "expected calibration error",
        "misclassified: ",
    ] {
        assert!(text.contains(message), "{message}: {text}");
    }
}

#[test]
fn weights_without_a_finite_answer_are_refused() {
    let dir = dir();
    let mut weights = Weights::load(dir.file("fresh.safetensors")).unwrap();
    weights.parameters.get_mut("classifier.6.bias").unwrap().values[0] = f32::NAN;
    weights.save(dir.file("weights.safetensors")).unwrap();
    let ran = dir.run(&EVALUATE);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("logits that are not finite"), "{ran:?}");
}

/// Six classes: the accuracy among five appears while training, in its files, and when evaluated.
#[test]
fn the_accuracy_among_five_is_shown_for_more_than_five_classes() {
    let dir = TestDir::with_flowers(4);
    let copied = dir.file("flowers/violets");
    fs::create_dir(&copied).unwrap();
    for k in 1..=4 {
        let from = dir.file("flowers/tulips").join(format!("tulips_000{k}.jpg"));
        fs::copy(from, copied.join(format!("{k}.jpg"))).unwrap();
    }
    let train =
        ["train", "--data", "flowers", "--val-fraction", "0.5", "-b", "12", "--epochs", "1"];
    let printed = dir.succeeds(&[&train[..], &["--run-dir", "run"]].concat());
    let line = printed.lines().nth(1).unwrap();
    let shown = line.split_once("  val_top5: ").unwrap().1;
    let results = fs::read_to_string(dir.file("run/results.csv")).unwrap();
    let rows: Vec<&str> = results.lines().collect();
    assert!(rows[0].contains(",metrics/accuracy_top1,metrics/accuracy_top5,lr"), "{}", rows[0]);
    let top5: f64 = rows[1].split(',').nth(5).unwrap().parse().unwrap();
    assert!(shown.starts_with(&format!("{top5:.3}  val_loss")), "{line}: {top5}");
    let report = |json: &str| serde_json::from_str::<Value>(json).unwrap();
    let written = report(&fs::read_to_string(dir.file("run/report.json")).unwrap());
    assert!((number(&written["top5"]) - top5).abs() < 1e-6 && top5 > number(&written["top1"]));
    let evaluate = ["evaluate", "--weights", "run"];
    let printed = report(&dir.succeeds(&[&evaluate[..], &["--format", "json"]].concat()));
    assert_eq!(printed["top5"], written["top5"]);
    let text = dir.succeeds(&evaluate);
    assert!(text.lines().next().unwrap().ends_with(&format!("  top5 {top5:.4}")), "{text}");
}

/// The layout of ImageNet: class folders named by identifiers, weights without names of classes.
#[test]
fn classes_get_names_from_a_file() {
    let dir = dir();
    let folders = ["n01", "n02", "n03", "n04", "n05"];
    for part in PARTS {
        for (class, folder) in CLASSES.iter().zip(folders) {
            let place = dir.file("images").join(part);
            fs::rename(place.join(class), place.join(folder)).unwrap();
        }
    }
    let weights = Weights::load(dir.file("weights.safetensors")).unwrap();
    let tensors: Vec<tensors::Named> =
        weights.parameters.iter().map(|(name, array)| (name.clone(), array)).collect();
    tensors::write(&dir.file("unnamed.safetensors"), &tensors::Metadata::new(), &tensors).unwrap();
    let words_of = |name: &dyn Fn(&str) -> String| -> String {
        folders.iter().zip(CLASSES).map(|(f, c)| format!("{f} {}\n", name(c))).collect()
    };
    fs::write(dir.file("words.txt"), words_of(&|class| format!("{class}, a flower"))).unwrap();
    let evaluate = |more: &[&str]| {
        let line = ["evaluate", "--data", "images", "--format", "json", "--weights"];
        dir.run(&[&line[..], more].concat())
    };
    let plain = evaluate(&["unnamed.safetensors"]);
    let named = evaluate(&["unnamed.safetensors", "--class-names", "words.txt"]);
    assert_eq!((plain.code, named.code), (Some(0), Some(0)), "{plain:?} {named:?}");
    let [plain, named] = [plain, named].map(|ran| serde_json::from_str::<Value>(&ran.out).unwrap());
    assert_eq!((&plain["images"], &plain["confusion"]), (&5.into(), &named["confusion"]));
    assert_eq!(plain["per_class"][1]["class"], "n02");
    assert_eq!(named["per_class"][1]["class"], "dandelion, a flower");
    // Weights with these names fit too, others not.
    let ran = evaluate(&["weights.safetensors", "--class-names", "words.txt"]);
    assert!(ran.code == Some(1) && ran.err.contains("but the weights"), "{ran:?}");
    fs::write(dir.file("exact.txt"), words_of(&str::to_owned)).unwrap();
    let ran = evaluate(&["weights.safetensors", "--class-names", "exact.txt"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    fs::write(dir.file("other.txt"), "x y\n").unwrap();
    let ran = evaluate(&["unnamed.safetensors", "--class-names", "other.txt"]);
    let unmatched = "other.txt has no name for a folder of ";
    assert!(ran.code == Some(1) && ran.err.contains(unmatched), "{ran:?}");
    assert!(ran.err.contains("`--class-names`, or leave it out"), "{ran:?}");
    // Longer than the largest width of Rust's formatting.
    let long = words_of(&|class| format!("{class} {}", "y".repeat(70_000)));
    fs::write(dir.file("long.txt"), long).unwrap();
    let line = ["evaluate", "--data", "images", "--weights", "unnamed.safetensors"];
    dir.succeeds(&[&line[..], &["--class-names", "long.txt"]].concat());
    fs::write(dir.file("other.txt"), "x\n").unwrap();
    let ran = evaluate(&["unnamed.safetensors", "--class-names", "other.txt"]);
    assert!(
        ran.code == Some(1) && ran.err.contains("other.txt is not a file of class names"),
        "{ran:?}"
    );
}

/// Without `--data`, the images are those of the run.
#[test]
fn results_are_not_written_among_the_images_of_the_run() {
    let dir = TestDir::with_flowers(4);
    let train = ["train", "--data", "flowers", "--val-fraction", "0.25", "--epochs", "1"];
    dir.succeeds(&[&train[..], &["--run-dir", "run"]].concat());
    let ran = dir.run(&["evaluate", "--weights", "run", "--out", "flowers/lilies"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("because the images are in "), "{ran:?}");
    assert!(!dir.file("flowers/lilies").exists());
}
