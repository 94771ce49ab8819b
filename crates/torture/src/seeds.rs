//! The valid files from which mutations start: goldens of other crates, files written here, and
//! files that once showed a fault.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Cursor, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use alexnet_core::{
    Array, ExifOrientation, Normalization, Progress, State,
    alexnet::Variant,
    checkpoint,
    train::{EpochRow, Validation},
    weights::{self, Metadata, Weights},
};
use alexnet_data::dataset::{Dataset, Images};
use alexnet_interchange::tensorboard::EventFile;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;

use crate::repair;

/// Returns the path of a file of this repository, given relative to this crate.
fn repository_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the files of a folder whose names match, sorted by name.
pub fn files(folder: &str, matches: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let folder = repository_path(folder);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| matches(&name.to_string_lossy())));
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a committed file")).collect()
}

/// Returns images of one format: the goldens of the crate `data`, and files that once showed a
/// fault.
pub fn images(format: &str) -> Vec<Vec<u8>> {
    let archive = repository_path(&format!("../data/tests/goldens/formats/{format}.tar.gz"));
    let archive =
        File::open(&archive).unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let mut images: Vec<Vec<u8>> = archive
        .entries()
        .expect("a valid archive")
        .map(|entry| {
            let mut bytes = Vec::new();
            entry.and_then(|mut entry| entry.read_to_end(&mut bytes)).expect("a valid archive");
            bytes
        })
        .collect();
    images.extend(files("found", |name| name.starts_with(format)));
    images
}

/// Returns files that PyTorch wrote.
pub fn pth() -> Vec<Vec<u8>> {
    files("../interchange/tests/goldens", |name| name.ends_with(".pth"))
}

/// The maximum number of storages of a golden file.
pub const STORAGES: usize = 10;

/// Returns the pickles of those files that are zip archives, each preceded by the sizes of the
/// storages in the archive.
pub fn pickles() -> Vec<Vec<u8>> {
    let with_sizes = |file: Vec<u8>| {
        let mut bytes: Vec<u8> = (0..STORAGES)
            .map(|index| {
                entry(&file, &format!("/data/{index}")).map_or(0, |storage| storage.len() as u8)
            })
            .collect();
        bytes.extend(entry(&file, "/data.pkl")?);
        Some(bytes)
    };
    pth().into_iter().filter_map(with_sizes).collect()
}

/// Returns the entry of a zip archive whose name ends with `end`.
fn entry(file: &[u8], end: &str) -> Option<Vec<u8>> {
    let mut zip = zip::ZipArchive::new(Cursor::new(file)).ok()?;
    let name = zip.file_names().flatten().find(|name| name.ends_with(end))?.into_owned();
    let mut bytes = Vec::new();
    zip.by_name(&name).ok()?.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Returns a `.pth` file with this pickle and storages of these sizes.
pub fn pth_around(pickle: &[u8], sizes: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
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

/// Returns the pickle of a complete weights file of this project.
pub fn whole_pickles() -> Vec<Vec<u8>> {
    let parameters = Variant::Tutorial.topology(2).parameters().expect("a valid network");
    let zeros = parameters.iter().map(|p| (p.name.clone(), Array::filled(&p.shape, 0.0)));
    let weights = Weights { metadata: metadata(), parameters: zeros.collect() };
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("x.pth");
    alexnet_interchange::save(&weights, &path).expect("a temporary folder");
    vec![entry(&fs::read(path).expect("it was written"), "/data.pkl").expect("it has a pickle")]
}

/// Writes a `.pth` file with this pickle and the storages of a complete weights file. If the file
/// at `path` exists, it must have been written by this function.
///
/// # Errors
/// When the file cannot be written.
pub fn whole_pth_around(pickle: &[u8], path: &Path) -> zip::result::ZipResult<()> {
    // The storages are written first and reused, since writing them takes most of the time.
    let end = path.with_extension("end");
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    if !path.exists() {
        let mut zip = zip::ZipWriter::new(File::create(path)?);
        let topology = Variant::Tutorial.topology(2);
        for (index, parameter) in topology.parameters().expect("a valid network").iter().enumerate()
        {
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
    let saved = fs::read(&end)?;
    let (start, directory) =
        saved.split_first_chunk().ok_or(zip::result::ZipError::FileNotFound)?;
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

/// Returns safetensors files with all types that are supported, and some that are not.
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
    let metadata =
        text.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
    vec![
        safetensors::serialize(tensors, None).expect("they are valid"),
        safetensors::serialize([("module.x", view(Dtype::F32, &[0, 3]))], Some(metadata))
            .expect("they are valid"),
    ]
}

/// Returns the header of a complete weights file of two classes, without metadata and with the
/// metadata of this project.
pub fn weights_headers() -> Vec<Vec<u8>> {
    let topology = Variant::Tutorial.topology(2);
    let parameters = topology.parameters().expect("a valid network");
    let header = |metadata: Option<BTreeMap<String, String>>| {
        let mut end = 0;
        let mut entries = serde_json::Map::new();
        if let Some(metadata) = metadata {
            entries.insert("__metadata__".into(), serde_json::to_value(metadata).expect("text"));
        }
        for parameter in &parameters {
            let start = end;
            end += 4 * parameter.elements();
            let entry = serde_json::json!({"dtype": "F32", "shape": parameter.shape, "data_offsets": [start, end]});
            entries.insert(parameter.name.clone(), entry);
        }
        serde_json::to_vec(&entries).expect("text")
    };
    vec![header(None), header(Some(metadata().to_text().expect("text")))]
}

/// Returns the metadata of a weights file of two classes.
pub fn metadata() -> Metadata {
    Metadata {
        variant: Variant::Tutorial,
        classes: vec!["daisy".into(), "rosé".into()],
        input_size: 224,
        resize_crop: None,
        normalization: Normalization::HALF,
        exif_orientation: ExifOrientation::default(),
        precision: Default::default(),
    }
}

/// Returns a state of a few numbers.
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
    let validation = Some(Validation { loss: 1.5, accuracy: 0.25, top5: Some(0.5) });
    let row = EpochRow { epoch: 1, time: 1.5, train_loss: 1.6, validation, lr: 2e-4 };
    Progress { step: 3, batches: 1, images: 12, history: vec![row], ..Progress::default() }
}

/// Returns checkpoints of a few numbers.
pub fn checkpoints() -> Vec<Vec<u8>> {
    let save = |progress: &Progress| {
        written(|path| {
            checkpoint::save(path, &state(), progress)
                .expect("a temporary folder can be written to")
        })
    };
    vec![save(&Progress::default()), save(&progress())]
}

/// Returns the progress entries of checkpoints.
pub fn progresses() -> Vec<Vec<u8>> {
    [Progress::default(), progress()]
        .map(|progress| serde_json::to_vec(&progress).expect("text"))
        .to_vec()
}

/// Returns event files of TensorBoard with up to three events.
pub fn events() -> Vec<Vec<u8>> {
    let save = |events: u64| {
        written(|path| {
            let mut file = EventFile::open(path, |_, _| true).expect("a temporary folder");
            for step in 0..events {
                let scalars = [("train/loss", 0.5), ("lr", 1e-3)];
                file.add(step, &scalars).expect("a temporary folder");
            }
        })
    };
    [0, 1, 3].map(save).to_vec()
}

/// Returns weights files of this project with too few parameters.
pub fn weights_files() -> Vec<Vec<u8>> {
    let save = |path: &Path| {
        weights::save(path, &metadata(), &state().parameters).expect("a temporary folder")
    };
    vec![written(save)]
}

/// Returns the content that `write` writes to a path.
fn written(write: impl FnOnce(&Path)) -> Vec<u8> {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("file");
    write(&path);
    fs::read(path).expect("it was written")
}

/// Returns files of class names in both forms.
pub fn class_indices() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"0": "daisy", "1": "roses", "2": "蒲公英"}"#,
        r#"{"daisy": 0, "roses": 1, "t\u00fclips": 2}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Returns split files as in run folders.
pub fn splits() -> Vec<Vec<u8>> {
    let names = (0..8).map(|n| (format!("{}/{n}.jpg", n % 2), n % 2));
    let (images, mut train) = Images::of_files("/images", names).expect("a short list");
    let val = train.split_off(6);
    let classes = vec!["0".into(), "1".into()];
    let dataset = Dataset { images: Arc::new(images), classes, train, val, test: vec![] };
    vec![written(|path| dataset.save(path).expect("a temporary folder"))]
}

/// Returns uncompressed archives with names of all kinds and lengths.
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
    // POSIX archives have another magic string in the header.
    let mut ustar = tar(&["daisy/1.jpg", "roses/2.jpg"]);
    for block in ustar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[257..265].copy_from_slice(b"ustar\x0000");
    }
    repair::tar(&mut ustar);
    vec![
        tar(&["top/", "top/daisy/", "top/daisy/1.jpg", &long]),
        tar(&["daisy/1.jpg", "roses/ü.jpg"]),
        ustar,
    ]
}

/// Returns zip archives, stored and deflated.
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

/// Compresses like a `.tgz`.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).and_then(|()| gzip.finish()).expect("memory")
}

/// Returns files of settings: the recipes, and one with every kind of value.
pub fn configs() -> Vec<Vec<u8>> {
    let mut configs = files("../alexnet/recipes", |name| name.ends_with(".toml"));
    configs.push(
        b"batch-size = 4\nlr = 1e-3\nopt = \"sgd\"\nmodel-ema = true\ncrop-scale = [0.3, 0.9]\nseed = 7\nepochs = 2\n\
          patience = 5\nwarmup-epochs = 1\nmean = [0.5, 0.5, 0.5]\nval-fraction = 0.25\naccumulate = 2\ndevice = \"cpu\"\n"
            .to_vec(),
    );
    configs
}
