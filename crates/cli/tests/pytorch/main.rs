//! Compares the logits of the engine `cpu` with those of PyTorch and ONNX Runtime on the same
//! images, for each variant, including reading and writing of weights files. Needs these packages
//! in the Python that the environment variable `ALEXNET_PYTHON` names, or `python3`; skipped
//! otherwise.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use alexnet::{Engine, NeighborSearch};
use alexnet_core::{Images, Logits, Options, State, metrics::argmax, weights::Weights};
use alexnet_data::{decode::decode, framing::Framing, preprocess::evaluation_image};
use serde_json::{Value, json};

/// Returns a Python that has the packages.
fn python(packages: &str) -> Option<PathBuf> {
    let python = env::var_os("ALEXNET_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let import = format!("import {packages}");
    let imports = Command::new(&python).args(["-c", &import]).stderr(Stdio::null()).status();
    imports.is_ok_and(|status| status.success()).then_some(python)
}

fn succeeds(command: &mut Command, input: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn alexnet(folder: &Path, arguments: &[&str]) {
    succeeds(Command::new(env!("CARGO_BIN_EXE_alexnet")).args(arguments).current_dir(folder), "");
}

/// Returns this share of the flower photos, if `ALEXNET_FLOWER_PHOTOS` names their archive, or drawn
/// flowers.
fn images(folder: &Path, share: &str) -> Vec<PathBuf> {
    let data = match env::var("ALEXNET_FLOWER_PHOTOS") {
        Ok(archive) => {
            let split = ["data", "split", "--data", &archive, "--copy", "split"];
            alexnet(folder, &[&split[..], &["--val-fraction", share]].concat());
            folder.join("split/val")
        }
        Err(_) => {
            alexnet(folder, &["data", "synth", "--out", "flowers", "--per-class", "4"]);
            folder.join("flowers")
        }
    };
    let classes =
        fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut images: Vec<PathBuf> = classes
        .flat_map(|class| fs::read_dir(class).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    images.sort();
    images
}

/// Returns the normalized pixels, in the layout NCHW, and the logits of the engine `cpu`, for
/// batches of 32 images.
fn evaluate(weights: Weights, images: &[PathBuf]) -> (Vec<f32>, Logits) {
    let Weights { metadata, parameters } = weights;
    let topology = metadata.variant.topology(metadata.classes.len());
    let state = State::from(parameters);
    let mut model =
        Engine::Cpu.backend().unwrap().compile(&topology, state, &Options::default()).unwrap();
    let side = metadata.input_size;
    let table = metadata.normalization.table();
    let mut planes = vec![];
    let mut logits = Logits { values: vec![], classes: metadata.classes.len() };
    for images in images.chunks(32) {
        let inputs = images.iter().map(|image| {
            let image = decode(image, Default::default()).unwrap().image;
            evaluation_image(&image, Framing::whole(side))
        });
        let inputs: Vec<Vec<u8>> = inputs.collect();
        for pixels in &inputs {
            for (channel, table) in table.iter().enumerate() {
                planes
                    .extend(pixels.chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]));
            }
        }
        let pixels = inputs.concat();
        let images =
            Images { pixels, height: side, width: side, normalization: metadata.normalization };
        logits.values.extend(model.logits(&images).unwrap().values);
    }
    (planes, logits)
}

fn write_f32(path: &Path, values: &[f32]) {
    fs::write(path, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
        .unwrap();
}

fn read_f32(path: &Path) -> Vec<f32> {
    fs::read(path).unwrap().as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

#[test]
fn pytorch_and_onnx_runtime_give_the_same_logits() {
    let Some(python) = python("numpy, onnx, onnxruntime, PIL, torch, torchvision") else {
        eprintln!("skipped: no PyTorch");
        return;
    };
    let script = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let images = images(folder, "0.1");
    let listed: String = images.iter().map(|image| format!("{}\n", image.display())).collect();
    for (variant, classes) in [("tutorial", "5"), ("original", "7"), ("torchvision", "10")] {
        let networks = |arguments: &[&str]| {
            let mut command = Command::new(&python);
            succeeds(
                command
                    .arg(script("tests/pytorch/networks.py"))
                    .args(arguments)
                    .current_dir(folder),
                &listed,
            )
        };
        networks(&["make", variant, classes, "."]);
        let loaded = alexnet_interchange::load(folder.join("theirs.pth")).unwrap();
        assert_eq!(loaded.weights.metadata.variant.name(), variant);

        let (planes, logits) = evaluate(loaded.weights, &images);
        let theirs =
            Logits { values: read_f32(&folder.join("theirs.f32")), classes: logits.classes };
        assert_eq!(logits.values.len(), theirs.values.len());
        let largest = theirs.values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let pairs = logits.values.iter().zip(&theirs.values);
        let difference =
            pairs.fold(0f32, |largest, (ours, theirs)| largest.max((ours - theirs).abs()));
        let same_class =
            logits.rows().zip(theirs.rows()).filter(|(a, b)| argmax(a) == argmax(b)).count();
        println!(
            "{variant}: {} images, largest logit {largest}, PyTorch: largest difference {difference:e}, same class {same_class}",
            images.len()
        );
        assert!(
            largest > 1.0 && difference <= 1e-5 * largest,
            "{variant}: {difference} of {largest}"
        );
        assert_eq!(same_class, images.len());

        alexnet(folder, &["convert", "theirs.pth", "ours.pth"]);
        networks(&["same", "theirs.pth", "ours.pth"]);

        alexnet(folder, &["export", "--weights", "ours.pth", "ours.onnx"]);
        write_f32(&folder.join("images.f32"), &planes);
        write_f32(&folder.join("ours.f32"), &logits.values);
        let mut command = Command::new(&python);
        command.arg(script("../interchange/tests/onnx.py")).args([
            "ours.onnx",
            "images.f32",
            "ours.f32",
        ]);
        let output = succeeds(command.current_dir(folder), "");
        println!("{variant}: ONNX Runtime: {}", output.trim());
        let report: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
        assert_eq!(report["top1_equal"], images.len());
        assert!(report["largest_difference"].as_f64().unwrap() <= f64::from(1e-5 * largest));
    }
}

/// Compares the maps of each method with captum's in f64, for random weights of torchvision's
/// network and some images.
#[test]
fn captum_gives_the_same_explanations() {
    let Some(python) = python("captum, numpy, PIL, torch, torchvision") else {
        eprintln!("skipped: no captum");
        return;
    };
    let script =
        |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch").join(name);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let images = images(folder, "0.1");
    let images: Vec<&str> =
        images.iter().step_by(images.len() / 20).take(20).map(|i| i.to_str().unwrap()).collect();
    let make = ["make", "torchvision", "10", "."];
    succeeds(
        Command::new(&python).arg(script("networks.py")).args(make).current_dir(folder),
        images[0],
    );
    for engine in Engine::compiled().iter().map(|engine| engine.name()) {
        for method in ["gradcam", "guided", "guided-gradcam", "occlusion"] {
            let explain =
                ["explain", "--weights", "theirs.pth", "--format", "json", "--out", "out"];
            let program = if engine == "tch" { "alexnet-tch" } else { "alexnet" };
            let rows = succeeds(
                Command::new(PathBuf::from(env!("CARGO_BIN_EXE_alexnet")).with_file_name(program))
                    .args(explain)
                    .args(["--backend", engine, "--method", method])
                    .args(&images)
                    .current_dir(folder),
                "",
            );
            let mut compare = Command::new(&python);
            compare.arg(script("explanations.py")).arg("theirs.pth").current_dir(folder);
            let differences = succeeds(&mut compare, &rows);
            let numbers = |line: &str| line.split(' ').map(|n| n.parse().unwrap()).collect();
            let rows: Vec<Vec<f64>> = differences.lines().map(numbers).collect();
            assert_eq!(rows.len(), images.len());
            // A unit at a kink (of a ReLU or a pooling) makes the gradient jump, and rounding
            // decides to which side. This also separates captum's own maps in f32 and f64.
            let [ours, theirs] = [0, 1].map(|column| {
                let mut of: Vec<f64> = rows.iter().map(|row| row[column]).collect();
                of.sort_by(f64::total_cmp);
                of
            });
            let within = |of: &[f64]| of.iter().filter(|difference| **difference <= 1e-4).count();
            println!(
                "{engine}, {method}: median {:e}; within 1e-4: {} of {}, captum in f32 {}",
                ours[ours.len() / 2],
                within(&ours),
                ours.len(),
                within(&theirs)
            );
            assert!(ours[ours.len() / 2] <= 1e-5, "{ours:?}");
            assert!(within(&ours) * 10 >= ours.len() * 8, "{ours:?}");
        }
    }
}

/// Compares the six neighbors of each image with those that NumPy finds, for random weights of
/// torchvision's network.
#[test]
fn numpy_finds_the_same_neighbors() {
    let Some(python) = python("numpy, PIL, torch, torchvision") else {
        eprintln!("skipped: no PyTorch");
        return;
    };
    let script =
        |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch").join(name);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // 500 of the flower photos.
    let images = images(folder, "0.137");
    let make = ["make", "torchvision", "10", "."];
    let mut command = Command::new(&python);
    let image = images[0].to_str().unwrap();
    succeeds(command.arg(script("networks.py")).args(make).current_dir(folder), image);

    let search = NeighborSearch {
        weights: Some(folder.join("theirs.pth")),
        data: images[0].parent().and_then(Path::parent).unwrap().into(),
        ..NeighborSearch::default()
    };
    let mut neighbors = search.open(&mut ()).unwrap();
    let images: Vec<PathBuf> = neighbors.images().collect();
    let row = |image: &PathBuf| {
        let found = neighbors.nearest(image, 6, &mut ()).unwrap();
        let found = found.iter().map(|n| json!({ "path": n.path, "distance": n.distance }));
        json!({ "path": image, "neighbors": found.collect::<Vec<_>>() })
    };
    let rows: Vec<Value> = images.iter().map(row).collect();
    let mut compare = Command::new(&python);
    compare.arg(script("neighbors.py")).arg("theirs.pth").arg(neighbors.index());
    let found = succeeds(compare.current_dir(folder), &Value::from(rows).to_string());
    for (line, features) in found.lines().zip(["of PyTorch", "of the index"]) {
        println!("{} images, features {features}: {line}", images.len());
        let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers[0], images.len() as f64);
        assert!(numbers[1] <= 1e-5 && numbers[2] <= 1e-5, "{line}");
    }
}
