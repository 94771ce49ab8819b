//! Every input has exactly one outcome, as listed in `docs/predict.md`.

use std::{fs, io::Write, process::Stdio};

use image::{DynamicImage, ImageBuffer, Luma, Rgb, RgbImage};
use serde_json::Value;

use crate::{CLASSES, Ran, TestDir};

/// An image of 16×16 CMYK pixels, written in Python by
/// `Image.new("RGB", (16, 16), (200, 40, 60)).convert("CMYK").save("cmyk.jpg", quality=90)`.
const CMYK: &[u8] = include_bytes!("../files/cmyk.jpg");
const CMYK_COLOR: Rgb<u8> = Rgb([200, 40, 60]);

/// The inputs in order, each with the start of its error, which is empty for images that can be
/// read.
const INPUTS: [(&str, &str); 14] = [
    ("good.jpg", ""),
    ("missing.jpg", "cannot open missing.jpg"),
    ("empty.jpg", "empty.jpg is not a readable image: the file is empty"),
    ("text.jpg", "text.jpg is not a readable image: it is not a JPEG, PNG"),
    ("cut.jpg", "cut.jpg is not a readable image: "),
    ("cmyk.jpg", ""),
    ("gray.jpg", ""),
    ("rgba.png", ""),
    ("deep.png", ""),
    ("dot.png", ""),
    ("huge.png", "huge.png is not a readable image: it has 40000×40000 pixels"),
    ("none", "the folder has no image"),
    ("*.tiff", "the pattern matches no file"),
    ("[", "the pattern is not valid"),
];

/// Creates a folder with weights and all [`INPUTS`].
fn dir() -> TestDir {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("weights.safetensors");
    let image = image::open(dir.file("flowers/roses/roses_0001.jpg")).unwrap();
    let good = fs::read(dir.file("flowers/roses/roses_0001.jpg")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.file(name), bytes).unwrap();
    write("good.jpg", &good);
    write("empty.jpg", b"");
    write("text.jpg", b"These are words.\n");
    write("cut.jpg", &good[..good.len() / 2]);
    write("cmyk.jpg", CMYK);
    write("huge.png", &huge_png());
    image.to_luma8().save(dir.file("gray.jpg")).unwrap();
    image.to_rgba8().save(dir.file("rgba.png")).unwrap();
    let deep: ImageBuffer<Luma<u16>, _> = image.to_luma16();
    deep.save(dir.file("deep.png")).unwrap();
    RgbImage::from_pixel(1, 1, Rgb([255, 0, 0])).save(dir.file("dot.png")).unwrap();
    fs::create_dir(dir.file("none")).unwrap();
    dir
}

/// Returns a PNG of a few bytes whose header has the size 40,000×40,000.
fn huge_png() -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |data: &[u8]| {
        file.extend((data.len() as u32 - 4).to_be_bytes());
        file.extend(data);
        file.extend(crc32fast::hash(data).to_be_bytes());
    };
    chunk(b"IHDR\0\0\x9C\x40\0\0\x9C\x40\x08\x02\0\0\0");
    chunk(b"IDAT\x78\x9C\x63\0\0");
    chunk(b"IEND");
    file
}

fn predict(dir: &TestDir, format: &str, inputs: &[&str]) -> Ran {
    dir.run(
        &[&["predict", "--weights", "weights.safetensors", "--format", format], inputs].concat(),
    )
}

/// Asserts that the entry of a readable image has exactly the documented members, with classes by
/// descending probability.
fn assert_answered(answer: &Value, path: &str) {
    let members: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["class", "path", "probability", "top"], "{answer}");
    let top = answer["top"].as_array().unwrap();
    assert_eq!((&answer["path"], top.len()), (&Value::from(path), 5));
    assert_eq!(
        (&answer["class"], &answer["probability"]),
        (&top[0]["class"], &top[0]["probability"])
    );
    let probabilities: Vec<f64> = top.iter().map(|c| c["probability"].as_f64().unwrap()).collect();
    assert!(probabilities.is_sorted_by(|a, b| a >= b), "{answer}");
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{answer}");
    assert!(top.iter().all(|c| CLASSES.contains(&c["class"].as_str().unwrap())), "{answer}");
}

fn assert_outcomes<'a>(answers: impl IntoIterator<Item = &'a Value>) {
    let answers: Vec<_> = answers.into_iter().collect();
    assert_eq!(answers.len(), INPUTS.len());
    for (answer, (path, error)) in answers.into_iter().zip(INPUTS) {
        if error.is_empty() {
            assert_answered(answer, path);
            continue;
        }
        let members: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((members, &answer["path"]), (vec!["error", "path"], &Value::from(path)));
        let output = answer["error"].as_str().unwrap();
        assert!(output.starts_with(error), "{output}");
        assert!(output.matches("(os error").count() < 2, "repeated: {output}");
    }
}

#[test]
fn each_input_has_its_outcome_in_every_format() {
    let dir = dir();
    let inputs = INPUTS.map(|(path, _)| path);

    let json = predict(&dir, "json", &inputs);
    assert_eq!((json.code, json.err.as_str()), (Some(1), ""));
    let list: Vec<Value> = serde_json::from_str(&json.out).unwrap();
    assert_outcomes(&list);

    let jsonl = predict(&dir, "jsonl", &inputs);
    assert_eq!(jsonl.code, Some(1));
    let lines: Vec<Value> =
        jsonl.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, list);

    let csv = predict(&dir, "csv", &inputs);
    assert_eq!(csv.code, Some(1));
    let mut expected = vec![["path", "rank", "class", "probability", "error"].map(String::from)];
    for answer in &list {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let path = text(&answer["path"]);
        match answer["top"].as_array() {
            Some(top) => expected.extend((1..).zip(top).map(|(rank, c)| {
                let (rank, probability) = (format!("{rank}"), c["probability"].to_string());
                [path.clone(), rank, text(&c["class"]), probability, String::new()]
            })),
            None => expected.push([
                path,
                String::new(),
                String::new(),
                String::new(),
                text(&answer["error"]),
            ]),
        }
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(csv.out.as_bytes());
    let rows: Vec<Vec<String>> =
        reader.records().map(|row| row.unwrap().iter().map(String::from).collect()).collect();
    assert_eq!(rows, expected);

    let text = predict(&dir, "text", &inputs);
    assert_eq!(text.code, Some(1));
    let answered: Vec<&Value> = list.iter().filter(|answer| answer["top"].is_array()).collect();
    let lines = answered.iter().map(|answer| {
        let (path, class) = (answer["path"].as_str().unwrap(), answer["class"].as_str().unwrap());
        format!("{path}: {class} {:.3}\n", answer["probability"].as_f64().unwrap())
    });
    assert_eq!(text.out, lines.collect::<String>());
    let mut errors: Vec<&str> = text.err.lines().collect();
    let totals = errors.pop().unwrap();
    assert!(
        totals.starts_with("14 images: ") && totals.ends_with(", 8 without an answer"),
        "{totals}"
    );
    let two = predict(&dir, "text", &["good.jpg", "dot.png", "--topk", "2"]);
    assert!(
        two.out.lines().count() == 2 && two.out.lines().all(|line| line.contains(", ")),
        "{two:?}"
    );
    let mut expected = String::new();
    for c in answered[0]["top"].as_array().unwrap() {
        let (class, probability) =
            (c["class"].as_str().unwrap(), c["probability"].as_f64().unwrap());
        expected += &format!("class: {class:10}   prob: {probability:.3}\n");
    }
    assert_eq!(predict(&dir, "text", &["good.jpg"]).out, expected);
    let expected = INPUTS.iter().filter(|(_, error)| !error.is_empty());
    assert_eq!(errors.len(), expected.clone().count(), "{}", text.err);
    for (line, (path, _)) in errors.iter().zip(expected) {
        assert!(line.starts_with("error: ") && line.contains(path), "{line}");
    }

    folders_patterns_and_stdin(&dir);
    color_formats_are_decoded(&dir);
}

/// The same image gives the same answer as a file, from a folder, by a pattern, and from standard
/// input.
fn folders_patterns_and_stdin(dir: &TestDir) {
    let top = |ran: &Ran| {
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let list: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
        list.into_iter().map(|answer| answer["top"].clone()).collect::<Vec<_>>()
    };
    let good = top(&predict(dir, "json", &["good.jpg"]));
    assert_eq!(top(&predict(dir, "json", &["flowers/roses"])), good);
    let all = top(&predict(dir, "json", &["flowers"]));
    assert_eq!(all.len(), CLASSES.len());
    assert_eq!(top(&predict(dir, "json", &["flowers/*"])), all);
    assert_eq!(top(&predict(dir, "json", &["flowers/*/*.jpg"])), all);

    let mut command =
        dir.command(&["predict", "-", "--weights", "weights.safetensors", "--format", "json"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(dir.file("good.jpg")).unwrap()).unwrap();
    assert_eq!(top(&Ran::from(child.wait_with_output().unwrap(), &["predict", "-"])), good);

    let nothing = predict(dir, "jsonl", &["-"]);
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.out.contains("the file is empty"), "{}", nothing.out);

    // Other files in a folder are counted.
    fs::write(dir.file("flowers/roses/a.heic"), b"").unwrap();
    fs::write(dir.file("flowers/roses/a.txt"), b"").unwrap();
    let ran = predict(dir, "json", &["flowers/roses"]);
    assert_eq!(top(&ran), good);
    assert!(
        ran.err.contains("flowers/roses: 2 files were skipped: 1 HEIC, 1 txt; HEIC and AVIF"),
        "{}",
        ran.err
    );
    fs::remove_file(dir.file("flowers/roses/a.heic")).unwrap();
    fs::remove_file(dir.file("flowers/roses/a.txt")).unwrap();

    // A dangling link gives an error for that file only.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", dir.file("flowers/roses/a.jpg")).unwrap();
        let ran = predict(dir, "jsonl", &["flowers/roses"]);
        assert_eq!((ran.code, ran.out.lines().count()), (Some(1), 2));
        assert!(
            ran.out.lines().last().unwrap().contains("roses_0001.jpg\",\"class\""),
            "{}",
            ran.out
        );
        fs::remove_file(dir.file("flowers/roses/a.jpg")).unwrap();
    }
}

/// CMYK, gray, alpha and 16 bit images give nearly the answer of the same image in RGB. The
/// tolerance is relative to the answer for the inverted image.
fn color_formats_are_decoded(dir: &TestDir) {
    let image = image::open(dir.file("good.jpg")).unwrap();
    let square = |color: Rgb<u8>| DynamicImage::from(RgbImage::from_pixel(16, 16, color));
    let inverted = |mut image: DynamicImage| {
        image.invert();
        image
    };
    let cases = [
        ("cmyk.jpg", square(CMYK_COLOR)),
        ("gray.jpg", DynamicImage::from(image.to_luma8())),
        ("deep.png", DynamicImage::from(image.to_luma8())),
        ("rgba.png", image),
    ];
    let mut inputs = Vec::new();
    for (name, right) in cases {
        let [right_name, wrong_name] = ["right", "wrong"].map(|kind| format!("{kind}-{name}.png"));
        right.to_rgb8().save(dir.file(&right_name)).unwrap();
        inverted(right).to_rgb8().save(dir.file(&wrong_name)).unwrap();
        inputs.extend([name.to_owned(), right_name, wrong_name]);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let ran = predict(dir, "jsonl", &inputs);
    let answers: Vec<Vec<f64>> = ran.out.lines().map(probabilities_by_class).collect();
    for (name, answers) in inputs.chunks(3).zip(answers.chunks(3)) {
        let distance = |other: &[f64]| -> f64 {
            answers[0].iter().zip(other).map(|(a, b)| (a - b).abs()).sum()
        };
        let (right, wrong) = (distance(&answers[1]), distance(&answers[2]));
        assert!(right < 0.1 * wrong, "{}: {right} from right, {wrong} from wrong", name[0]);
    }
}

fn probabilities_by_class(line: &str) -> Vec<f64> {
    let answer: Value = serde_json::from_str(line).unwrap();
    let top = answer["top"].as_array().unwrap();
    let of = |class: &str| {
        top.iter().find(|c| c["class"] == class).unwrap()["probability"].as_f64().unwrap()
    };
    CLASSES.map(of).to_vec()
}

/// Names that are not UTF-8, and names of the maximum length.
#[cfg(target_os = "linux")]
#[test]
fn names_of_any_kind_are_answered_and_annotated() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("weights.safetensors");
    let image = dir.file("flowers/roses/roses_0001.jpg");
    for folder in ["in/a", "in/b/.hidden"] {
        fs::create_dir_all(dir.file(folder)).unwrap();
    }
    let long = "x".repeat(251) + ".jpg";
    for name in [
        OsStr::from_bytes(b"caf\xe9.jpg"),
        OsStr::new(&long),
        OsStr::new("a/1.jpg"),
        OsStr::new("b/1.jpg"),
    ] {
        fs::copy(&image, dir.file("in").join(name)).unwrap();
    }
    fs::copy(&image, dir.file("in/b/.hidden/2.jpg")).unwrap();
    let ran = predict(&dir, "text", &["in/*.jpg"]);
    assert!(ran.code == Some(0) && ran.out.contains(r"in/caf\xE9.jpg: "), "{ran:?}");
    let ran = predict(&dir, "jsonl", &["in", "--annotate", "out"]);
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 4), "{ran:?}");
    for name in ["a/1.jpg", "b/1.jpg", "caf\u{fffd}.jpg", &long] {
        assert!(dir.file("out").join(name).is_file(), "{name}");
    }
}

#[test]
fn annotated_images_replace_no_file() {
    let dir = TestDir::with_flowers(2);
    dir.save_fresh_weights("weights.safetensors");
    let folder = dir.file("flowers/roses");
    let content = || -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let before = content();
    let ran = predict(&dir, "text", &["flowers/roses/*.jpg", "--annotate", "flowers/roses"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let after = content();
    assert!(before.iter().all(|file| after.contains(file)));
    let names: Vec<&str> = after.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["roses_0001-2.jpg", "roses_0001.jpg", "roses_0002-2.jpg", "roses_0002.jpg"];
    assert_eq!(names, expected);
}

#[test]
fn missing_and_invalid_weights_are_named() {
    let dir = TestDir::new();
    fs::write(dir.file("text.safetensors"), "words").unwrap();
    for (args, cause, step) in [
        (&["predict", "a.jpg"][..], "there are no weights yet", "run `train`"),
        (
            &["predict", "a.jpg", "--weights", "none"],
            "none is not a weights file: there is no such",
            "or name",
        ),
        (
            &["evaluate", "--weights", "text.safetensors"],
            "text.safetensors is not a weights file",
            "or name",
        ),
    ] {
        let ran = dir.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
        assert!(
            ran.err.contains(cause) && ran.err.contains(step) && ran.err.lines().count() == 1,
            "{ran:?}"
        );
    }
}

/// Returns the paths of all files in a folder, relative to it.
fn files_in(dir: &TestDir, folder: &str) -> Vec<String> {
    let root = dir.file(folder);
    let files = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter();
    let files = files.map(Result::unwrap).filter(|entry| !entry.file_type().is_dir());
    let name = |path: &std::path::Path| path.strip_prefix(&root).unwrap().display().to_string();
    files.map(|entry| name(entry.path())).collect()
}

#[test]
fn answers_are_written_to_a_file_and_images_sorted() {
    let dir = TestDir::with_flowers(2);
    dir.save_fresh_weights("weights.safetensors");
    let predict = |more: &[&str]| {
        dir.run(&[&["predict", "--weights", "weights.safetensors", "flowers"], more].concat())
    };
    for format in ["csv", "json", "jsonl"] {
        let printed = predict(&["--format", format]);
        let file = format!("answers.{format}");
        let written = predict(&["--out", &file]);
        assert_eq!((written.code, written.out.as_str()), (Some(0), ""), "{written:?}");
        assert_eq!(fs::read_to_string(dir.file(&file)).unwrap(), printed.out);
        assert!(written.err.starts_with("10 images: "), "{written:?}");
    }
    let ran = predict(&["--out", "answers.txt"]);
    assert!(ran.err.contains("answers.txt must end in .csv, .json or .jsonl"), "{ran:?}");
    let ran = predict(&["--out", "none/answers.csv"]);
    assert!(ran.code == Some(1) && ran.err.contains("none/answers.csv: No such file"), "{ran:?}");
    assert_eq!(predict(&["--out", "a.csv", "--format", "json"]).code, Some(2));
    // After an error, the file is as before.
    let before = fs::read(dir.file("answers.csv")).unwrap();
    let ran = dir.run(&["predict", "--weights", "none.pth", "flowers", "--out", "answers.csv"]);
    assert!(ran.code == Some(1) && ran.err.contains("none.pth"), "{ran:?}");
    assert_eq!(fs::read(dir.file("answers.csv")).unwrap(), before);
    assert!(dir.names().iter().all(|name| !name.contains("tmp")), "{:?}", dir.names());

    let answers: Vec<Value> =
        serde_json::from_slice(&fs::read(dir.file("answers.json")).unwrap()).unwrap();
    let mut expected: Vec<String> = answers
        .iter()
        .map(|answer| {
            let path = answer["path"].as_str().unwrap();
            format!("{}/{}", answer["class"].as_str().unwrap(), path.rsplit('/').next().unwrap())
        })
        .collect();
    expected.sort();
    assert_eq!(predict(&["--sort-into", "sorted"]).code, Some(0));
    assert_eq!(files_in(&dir, "sorted"), expected);
    let ran = predict(&["--sort-into", "sorted"]);
    assert!(ran.code == Some(1) && ran.err.contains("sorted is not empty; name a new"), "{ran:?}");
    assert_eq!(predict(&["--sort-into", "linked", "--link"]).code, Some(0));
    assert_eq!(files_in(&dir, "linked"), expected);
    let (copy, link) =
        (dir.file("sorted").join(&expected[0]), dir.file("linked").join(&expected[0]));
    assert_eq!(fs::read(copy).unwrap(), fs::read(&link).unwrap());
    #[cfg(unix)]
    assert!(fs::symlink_metadata(link).unwrap().is_symlink());
    let ran = predict(&["-", "--sort-into", "other"]);
    assert!(ran.code == Some(1) && ran.err.contains("standard input is not a file"), "{ran:?}");
    assert_eq!(predict(&["--link"]).code, Some(2));
}

#[test]
fn an_image_below_the_threshold_is_none_of_the_classes() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("weights.safetensors");
    // Probabilities of initial weights are near 0.2.
    let predict =
        |more: &[&str]| dir.run(&[&["predict", "--weights", "weights.safetensors"], more].concat());
    let above = predict(&["flowers", "--threshold", "0.1", "--format", "json"]);
    assert_eq!(above.out, predict(&["flowers", "--format", "json"]).out);
    let below = predict(&["flowers", "--threshold", "0.9", "--sort-into", "sorted"]);
    assert_eq!(below.code, Some(0), "{below:?}");
    assert_eq!(below.err, "5 images: 5 none of these\n");
    assert!(below.out.lines().all(|line| line.contains(".jpg: none of these (")), "{below:?}");
    assert!(files_in(&dir, "sorted").iter().all(|file| file.starts_with("none of these/")));
    let one = predict(&["flowers/roses/roses_0001.jpg", "--threshold", "0.9"]);
    assert!(one.out.starts_with("none of these: no class has a probability of 0.9\nclass: "));
    let json = predict(&["flowers/roses/roses_0001.jpg", "--threshold", "0.9", "--format", "json"]);
    let answers: Vec<Value> = serde_json::from_str(&json.out).unwrap();
    assert!(answers[0]["class"].is_null() && answers[0]["probability"].as_f64().unwrap() < 0.9);
    assert_eq!(answers[0]["top"].as_array().unwrap().len(), 5);
    let csv = predict(&["flowers/roses", "--threshold", "0.9", "--format", "csv"]);
    let row = csv.out.lines().nth(1).unwrap();
    assert!(row.starts_with("flowers/roses/roses_0001.jpg,,none of these,0."), "{row}");
    assert_eq!(csv.out.lines().count(), 2);
    assert_eq!(predict(&["flowers", "--threshold", "1.5"]).code, Some(2));
}

/// The probabilities over several views are those of `evaluate`.
#[test]
fn views_are_averaged_as_in_evaluate() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("weights.safetensors");
    let mut seen = vec![];
    for tta in ["flip", "ten-crop"] {
        let json = |command: &[&str]| -> Value {
            let more = ["--weights", "weights.safetensors", "--format", "json", "--tta", tta];
            serde_json::from_str(&dir.succeeds(&[command, &more].concat())).unwrap()
        };
        let predicted = json(&["predict", "flowers"]);
        let evaluated = json(&["evaluate", "--data", "flowers", "--split", "all"]);
        let mistakes = evaluated["mistakes"].as_array().unwrap();
        assert!(!mistakes.is_empty());
        for mistake in mistakes {
            let all = predicted.as_array().unwrap().iter();
            let path = |value: &Value| value["path"].as_str().unwrap().to_owned();
            let answer = all.clone().find(|answer| path(mistake).ends_with(&path(answer))).unwrap();
            assert_eq!(answer["class"], mistake["predicted"]);
            let probability = |value: &Value| value["probability"].as_f64().unwrap();
            // The batches differ, and with them the order of sums.
            assert!((probability(answer) - probability(mistake)).abs() < 1e-6, "{answer}");
        }
        seen.push(predicted);
    }
    assert_ne!(seen[0], seen[1]);
}
