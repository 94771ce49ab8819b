//! Sound files to begin with: goldens of other crates, what a few lines write, and what once made a fault.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Cursor, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use alexnet_core::{
    Array, ExifOrientation, Normalization, Progress, State,
    alexnet::Variant,
    checkpoint,
    train::EpochRow,
    weights::{self, Metadata, Weights},
};
use alexnet_data::dataset::{Dataset, Item};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;

use crate::repair;

/// A file of this repository, by its path from the crate.
fn ours(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files of a folder whose names are wanted, in their order.
fn files(folder: &str, wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let folder = ours(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| wanted(&name.to_string_lossy())));
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a committed file")).collect()
}

/// Images of one format: the goldens of the crate `data`, and what once made a fault.
pub fn images(format: &str) -> Vec<Vec<u8>> {
    let archive = ours(&format!("../data/tests/goldens/formats/{format}.tar.gz"));
    let archive = File::open(&archive).unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let mut images: Vec<Vec<u8>> = archive
        .entries()
        .expect("a sound archive")
        .map(|entry| {
            let mut bytes = Vec::new();
            entry.and_then(|mut entry| entry.read_to_end(&mut bytes)).expect("a sound archive");
            bytes
        })
        .collect();
    images.extend(files("found", |name| name.starts_with(format)));
    images
}

/// Files that PyTorch wrote.
pub fn pth() -> Vec<Vec<u8>> {
    files("../interchange/tests/goldens", |name| name.ends_with(".pth"))
}

/// As many storages has a file of the goldens at most.
pub const STORAGES: usize = 10;

/// The pickles in those that are zip archives, each after the sizes of the storages beside it.
pub fn pickles() -> Vec<Vec<u8>> {
    let with_sizes = |file: Vec<u8>| {
        let mut bytes: Vec<u8> = (0..STORAGES)
            .map(|index| entry(&file, &format!("/data/{index}")).map_or(0, |storage| storage.len() as u8))
            .collect();
        bytes.extend(entry(&file, "/data.pkl")?);
        Some(bytes)
    };
    pth().into_iter().filter_map(with_sizes).collect()
}

/// The entry of a zip archive whose name ends so.
fn entry(file: &[u8], end: &str) -> Option<Vec<u8>> {
    let mut zip = zip::ZipArchive::new(Cursor::new(file)).ok()?;
    let name = zip.file_names().flatten().find(|name| name.ends_with(end))?.into_owned();
    let mut bytes = Vec::new();
    zip.by_name(&name).ok()?.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A `.pth` around a pickle, with storages of these sizes.
pub fn pth_around(pickle: &[u8], sizes: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut entry = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("x/{name}"), options)
            .and_then(|()| Ok(zip.write_all(bytes)?))
            .expect("memory");
    };
    entry("data.pkl", pickle);
    entry("byteorder", b"little");
    for (index, size) in sizes.iter().enumerate() {
        entry(&format!("data/{index}"), &vec![63; usize::from(*size)]);
    }
    zip.finish().expect("memory").into_inner()
}

/// The pickle of a whole weights file of ours.
pub fn whole_pickles() -> Vec<Vec<u8>> {
    let parameters = Variant::Tutorial.topology(2).parameters().expect("a sound network");
    let zeros = parameters.iter().map(|p| (p.name.clone(), Array::filled(&p.shape, 0.0)));
    let weights = Weights { metadata: metadata(), parameters: zeros.collect() };
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("x.pth");
    alexnet_interchange::save(&weights, &path).expect("a temporary folder");
    vec![entry(&fs::read(path).expect("it was written"), "/data.pkl").expect("it has one")]
}

/// Writes a `.pth` around a pickle, with the storages of a whole weights file. What is at `path` must be nothing, or written so.
///
/// # Errors
/// When the disk refuses.
pub fn whole_pth_around(pickle: &[u8], path: &Path) -> zip::result::ZipResult<()> {
    // The storages come first and stay: writing them takes longer than all else.
    let end = path.with_extension("end");
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    if !path.exists() {
        let mut zip = zip::ZipWriter::new(File::create(path)?);
        let topology = Variant::Tutorial.topology(2);
        for (index, parameter) in topology.parameters().expect("a sound network").iter().enumerate() {
            zip.start_file(format!("x/data/{index}"), options)?;
            zip.write_all(&vec![0; 4 * parameter.elements()])?;
        }
        let file = zip.finish()?;
        let start = zip::ZipArchive::new(File::open(path)?)?.central_directory_start();
        let mut directory = Vec::new();
        drop(file);
        File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(start))?;
            file.read_to_end(&mut directory)
        })?;
        fs::write(&end, [&start.to_le_bytes(), directory.as_slice()].concat())?;
    }
    let kept = fs::read(&end)?;
    let (start, directory) = kept.split_first_chunk().ok_or(zip::result::ZipError::FileNotFound)?;
    let mut file = File::options().read(true).write(true).open(path)?;
    file.set_len(u64::from_le_bytes(*start))?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(directory)?;
    let mut zip = zip::ZipWriter::new_append(file)?;
    zip.start_file("x/data.pkl", options)?;
    zip.write_all(pickle)?;
    zip.start_file("x/byteorder", options)?;
    zip.write_all(b"little")?;
    zip.finish().map(drop)
}

/// safetensors of every kind of number that is read, and some that is not.
pub fn safetensors() -> Vec<Vec<u8>> {
    let data = [63; 96];
    let view = |dtype: Dtype, shape: &[usize]| {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        TensorView::new(dtype, shape.to_vec(), &data[..bytes]).expect("it fits")
    };
    let tensors = [
        ("features.0.weight", view(Dtype::F32, &[2, 3, 2, 2])),
        ("features.0.bias", view(Dtype::F16, &[2])),
        ("classifier.1.weight", view(Dtype::BF16, &[3, 4])),
        ("classifier.1.bias", view(Dtype::F64, &[3])),
        ("steps", view(Dtype::I64, &[])),
    ];
    let text = [("format", "pt"), ("variant", "tutorial"), ("classes", r#"["a", "ü"]"#)];
    let metadata = text.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
    vec![
        safetensors::serialize(tensors, None).expect("they are sound"),
        safetensors::serialize([("module.x", view(Dtype::F32, &[0, 3]))], Some(metadata))
            .expect("they are sound"),
    ]
}

/// The header of a whole weights file of two classes, as any writer gives it, and as ours does.
pub fn weights_headers() -> Vec<Vec<u8>> {
    let topology = Variant::Tutorial.topology(2);
    let parameters = topology.parameters().expect("a sound network");
    let header = |metadata: Option<BTreeMap<String, String>>| {
        let mut end = 0;
        let mut entries = serde_json::Map::new();
        if let Some(metadata) = metadata {
            entries.insert("__metadata__".into(), serde_json::to_value(metadata).expect("text"));
        }
        for parameter in &parameters {
            let start = end;
            end += 4 * parameter.elements();
            let entry =
                serde_json::json!({"dtype": "F32", "shape": parameter.shape, "data_offsets": [start, end]});
            entries.insert(parameter.name.clone(), entry);
        }
        serde_json::to_vec(&entries).expect("text")
    };
    vec![header(None), header(Some(metadata().to_text().expect("text")))]
}

/// What weights files of two classes say of themselves.
pub fn metadata() -> Metadata {
    Metadata {
        variant: Variant::Tutorial,
        classes: vec!["daisy".into(), "rosé".into()],
        input_size: 224,
        normalization: Normalization::HALF,
        exif_orientation: ExifOrientation::default(),
    }
}

/// A state of a few numbers.
pub fn state() -> State {
    let arrays = |names: &[&str]| -> BTreeMap<String, Array> {
        names.iter().map(|name| ((*name).to_owned(), Array::filled(&[2, 3], 0.5))).collect()
    };
    State {
        parameters: arrays(&["a.bias", "a.weight"]),
        moments: arrays(&["a.bias.exp_avg", "a.bias.exp_avg_sq"]),
        average: arrays(&["a.bias"]),
    }
}

fn progress() -> Progress {
    let row = EpochRow { epoch: 1, time: 1.5, train_loss: 1.6, val_loss: 1.5, accuracy: 0.25, lr: 2e-4 };
    Progress { step: 3, batches: 1, images: 12, history: vec![row], ..Progress::default() }
}

/// Checkpoints of a few numbers.
pub fn checkpoints() -> Vec<Vec<u8>> {
    let save = |progress: &Progress| {
        written(|path| {
            checkpoint::save(path, &state(), progress).expect("a temporary folder can be written to")
        })
    };
    vec![save(&Progress::default()), save(&progress())]
}

/// The progress in a checkpoint.
pub fn progresses() -> Vec<Vec<u8>> {
    [Progress::default(), progress()].map(|progress| serde_json::to_vec(&progress).expect("text")).to_vec()
}

/// Weights files of ours with too few parameters.
pub fn weights_files() -> Vec<Vec<u8>> {
    let save =
        |path: &Path| weights::save(path, &metadata(), &state().parameters).expect("a temporary folder");
    vec![written(save)]
}

/// What is written to a path.
fn written(write: impl FnOnce(&Path)) -> Vec<u8> {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("file");
    write(&path);
    fs::read(path).expect("it was written")
}

/// Files of class names, in both directions.
pub fn class_indices() -> Vec<Vec<u8>> {
    let texts =
        [r#"{"0": "daisy", "1": "roses", "2": "蒲公英"}"#, r#"{"daisy": 0, "roses": 1, "t\u00fclips": 2}"#];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Splits as runs keep them.
pub fn splits() -> Vec<Vec<u8>> {
    let items = |range: std::ops::Range<usize>| {
        range.map(|n| Item { path: format!("{}/{n}.jpg", n % 2), class: n % 2 }).collect()
    };
    let dataset = Dataset {
        root: "/images".into(),
        classes: vec!["0".into(), "1".into()],
        train: items(0..6),
        val: items(6..8),
        test: vec![],
    };
    vec![written(|path| dataset.save(path).expect("a temporary folder"))]
}

/// Archives before their compression: names of all kinds and lengths.
pub fn tars() -> Vec<Vec<u8>> {
    let long = format!("top/daisy/{}.jpg", "x".repeat(150));
    let tar = |names: &[&str]| {
        let mut tar = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            let (kind, bytes): (_, &[u8]) = match name.ends_with('/') {
                true => (tar::EntryType::Directory, b""),
                false => (tar::EntryType::Regular, b"an image would be here"),
            };
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes).expect("memory");
        }
        tar.into_inner().expect("memory")
    };
    // The names of POSIX's kind have another mark in the header.
    let mut ustar = tar(&["daisy/1.jpg", "roses/2.jpg"]);
    for block in ustar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[257..265].copy_from_slice(b"ustar\x0000");
    }
    repair::tar(&mut ustar);
    vec![tar(&["top/", "top/daisy/", "top/daisy/1.jpg", &long]), tar(&["daisy/1.jpg", "roses/ü.jpg"]), ustar]
}

/// The same as archives of `zip`, stored and deflated.
pub fn zips() -> Vec<Vec<u8>> {
    let zip = |method| {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        zip.add_directory("top", options).expect("memory");
        for name in ["top/daisy/1.jpg", "top/roses/ü.jpg"] {
            zip.start_file(name, options).expect("memory");
            zip.write_all(b"an image would be here, here, here and here").expect("memory");
        }
        zip.finish().expect("memory").into_inner()
    };
    vec![zip(zip::CompressionMethod::Stored), zip(zip::CompressionMethod::Deflated)]
}

/// Compressed as a `.tgz` is.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).and_then(|()| gzip.finish()).expect("memory")
}

/// Files of options: the recipes, and one with every kind of value.
pub fn configs() -> Vec<Vec<u8>> {
    let mut configs = files("../alexnet/recipes", |name| name.ends_with(".toml"));
    configs.push(
        b"batch-size = 4\nlr = 1e-3\nopt = \"sgd\"\nmodel-ema = true\ncrop-scale = [0.3, 0.9]\nseed = 7\nepochs = 2\n\
          patience = 5\nwarmup-epochs = 1\nmean = [0.5, 0.5, 0.5]\nval-fraction = 0.25\naccumulate = 2\ndevice = \"cpu\"\n"
            .to_vec(),
    );
    configs
}
