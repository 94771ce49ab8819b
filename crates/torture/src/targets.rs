//! The parsers, each with valid files, the words of its format and the function that tests a file.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use alexnet_core::{Progress, alexnet::Variant, checkpoint, weights::Weights};
use alexnet_data::{
    archive::{self, Limits},
    check,
    dataset::{Dataset, Images, listing::Listing},
    decode::{Options, decode_bytes, decode_bytes_crop},
    framing::Framing,
    preprocess::evaluation_image,
    resize::Crop,
    split::SplitOptions,
};
use alexnet_interchange::tensorboard::EventFile;
use rayon::{ThreadPool, ThreadPoolBuilder};
use walkdir::WalkDir;

use crate::{repair, seeds, shards};

/// The maximum length of a message, in bytes.
const MAX_MESSAGE: usize = 8 << 10;

/// The outcome of a parser for a file.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// The file was accepted; the text is equal for similar files.
    Read(String),
    /// The file was refused with this message.
    Refused(String),
    /// The result is wrong, for this reason.
    Wrong(String),
}

/// The environment of a test.
pub struct Environment {
    /// The folder for files.
    pub folder: PathBuf,
    /// The command-line program, for the targets that need it.
    pub program: Option<PathBuf>,
}

/// A parser.
pub struct Target {
    /// The name for `--only` and in the tests.
    pub name: &'static str,
    /// Valid files.
    pub seeds: Vec<Vec<u8>>,
    /// Words of its format.
    pub words: &'static [&'static [u8]],
    /// Corrects checksums after a mutation. Otherwise most mutated files would be refused because
    /// of them.
    pub repair: Option<fn(&mut [u8])>,
    /// Runs the parser on a file.
    pub run: fn(&[u8], &Environment) -> Outcome,
    /// Whether it needs the command-line program.
    pub needs_program: bool,
    /// The number of mutations in the ordinary tests.
    pub few: usize,
}

/// Returns all parsers.
pub fn all() -> Vec<Target> {
    let image = |name, few, repair, words| Target {
        name,
        seeds: seeds::images(name),
        words,
        repair,
        run: image,
        needs_program: false,
        few,
    };
    let other = |name, few, seeds, run, words| Target {
        name,
        seeds,
        words,
        repair: None,
        run,
        needs_program: false,
        few,
    };
    const TEXT: &[&[u8]] = &[
        b"null",
        b"{}",
        b"[]",
        b"\"\"",
        b"\\u0000",
        b"\xEF\xBB\xBF",
        b"-",
        b"[[[[[[[[",
        b"{\"0\":",
    ];
    vec![
        image("jpeg", 6000, None, JPEG),
        image("png", 6000, Some(repair::png as fn(&mut [u8])), PNG),
        image(
            "gif",
            6000,
            None,
            &[b"GIF89a", b"\x21\xF9\x04", b"\x2C", b"\x3B", b"\x21\xFF\x0BNETSCAPE2.0"],
        ),
        image(
            "webp",
            4000,
            None,
            &[b"RIFF", b"WEBPVP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"XMP "],
        ),
        image(
            "bmp",
            6000,
            None,
            &[b"BM", b"\x28\0\0\0", b"\x7C\0\0\0", b"\x0C\0\0\0", b"\0\0", b"\0\x01", b"\0\x02"],
        ),
        image("tiff", 6000, None, TIFF),
        image(
            "pnm",
            6000,
            None,
            &[b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7\nWIDTH 3\n", b"#", b"\n65535\n"],
        ),
        Target { repair: Some(repair::zip), ..other("pth", 4000, seeds::pth(), weights, PTH) },
        other("pickle", 4000, seeds::pickles(), pickle, PICKLE),
        other("whole_pth", 60, seeds::whole_pickles(), whole_pth, PICKLE),
        other(
            "safetensors",
            4000,
            [seeds::safetensors(), seeds::weights_files()].concat(),
            weights,
            SAFETENSORS,
        ),
        other("weights", 100, seeds::weights_headers(), whole_weights, SAFETENSORS),
        other("checkpoint", 4000, seeds::checkpoints(), read_checkpoint, SAFETENSORS),
        other("progress", 4000, seeds::progresses(), read_progress, TEXT),
        Target {
            repair: Some(repair::events),
            ..other(
                "events",
                4000,
                seeds::events(),
                events,
                &[b"brain.Event:2", b"\x2A\0", b"\x10\x03"],
            )
        },
        other("classes", 4000, seeds::class_indices(), classes, TEXT),
        other("split", 4000, seeds::splits(), split, TEXT),
        other(
            "tgz",
            3000,
            seeds::tars().iter().map(|tar| seeds::gzip(tar)).collect(),
            unpack,
            &[b"\x1f\x8b\x08"],
        ),
        Target {
            repair: Some(repair::tar),
            ..other(
                "tar",
                3000,
                seeds::tars(),
                unpack,
                &[b"ustar", b"../", b"/etc/", b"././@LongLink", b"C:\\"],
            )
        },
        Target { repair: Some(repair::zip), ..other("zip", 3000, seeds::zips(), unpack, PTH) },
        Target {
            repair: Some(repair::tar),
            ..other("shard", 3000, shards::shards(), shards::shard, SHARD)
        },
        Target {
            repair: Some(shards::repair_index),
            ..other("shard_index", 4000, shards::indices(), shards::index, SHARD)
        },
        Target {
            needs_program: true,
            ..other(
                "config",
                60,
                seeds::configs(),
                config,
                &[b"[", b"]", b"=", b"\"\"\"", b"#", b"[[a]]", b"a.b = 1", b"1979-05-27"],
            )
        },
    ]
}

/// Returns the parser of this name.
pub fn named(name: &str) -> Option<Target> {
    all().into_iter().find(|target| target.name == name)
}

const JPEG: &[&[u8]] = &[
    b"\xFF\xD8",
    b"\xFF\xD9",
    b"\xFF\xDA",
    b"\xFF\xC0",
    b"\xFF\xC1",
    b"\xFF\xC2",
    b"\xFF\xC3",
    b"\xFF\xC4",
    b"\xFF\xC9",
    b"\xFF\xDB",
    b"\xFF\xDD\0\x04\0\x01",
    b"\xFF\xD0",
    b"\xFF\xD7",
    b"\xFF\xE1",
    b"\xFF\xEE\0\x0EAdobe",
    b"\xFF\0",
    b"Exif\0\0II*\0\x08\0\0\0",
    b"MM\0*",
];

const PNG: &[&[u8]] = &[
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"iCCP",
    b"gAMA",
    b"eXIf",
    b"iTXt",
    b"zTXt",
    b"tEXt",
    b"sBIT",
    b"\0\0\0\x03PLTE",
    b"\0\0\0\0",
];

const TIFF: &[&[u8]] = &[
    b"II*\0",
    b"MM\0*",
    b"II+\0\x08\0\0\0",
    b"\0\x01\x03\0",
    b"\x01\x01\x03\0",
    b"\x02\x01\x03\0",
    b"\x03\x01\x03\0",
    b"\x06\x01\x03\0",
    b"\x11\x01\x04\0",
    b"\x15\x01\x03\0",
    b"\x16\x01\x04\0",
    b"\x17\x01\x04\0",
    b"\x1C\x01\x03\0",
    b"\x3D\x01\x03\0",
    b"\x42\x01\x04\0",
    b"\x53\x01\x03\0",
    b"\x5B\x01\x07\0",
    b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0",
];

const PTH: &[&[u8]] = &[
    b"PK\x03\x04",
    b"PK\x01\x02",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"data.pkl",
    b"/data/0",
];

const PICKLE: &[&[u8]] = &[
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n",
    b"cos\nsystem\n",
    b"X\xff\xff\xff\xff",
    b"\x80\x05",
    b"\x95",
    b"R",
    b"Q",
    b"b",
    b"u",
    b"s",
    b"e",
    b"a",
    b"(",
    b")",
    b"}",
    b"]",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"q\x01",
    b"h\x01",
    b"K\x01",
    b"M\xff\xff",
    b"J\xff\xff\xff\x7f",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"0",
    b"1",
    b"2",
    b".",
];

const SHARD: &[&[u8]] = &[
    b"ustar",
    b"../",
    b"/",
    b".cls",
    b".json",
    b"{\"path\": \"../x\"}",
    b"././@LongLink",
    b"\0\0\0\0",
    b"\xFF\xFF\xFF\xFF",
    b"\0\x02\0\0",
];

const SAFETENSORS: &[&[u8]] = &[
    b"F32",
    b"F16",
    b"BF16",
    b"F64",
    b"F4",
    b"I64",
    b"\"shape\":",
    b"\"data_offsets\":",
    b"__metadata__",
    b"[0,0]",
    b"null",
    b"{\"a\":",
    b"\"variant\":\"original\"",
    b"[[[[[[",
];

/// Tests everything that is done with an image: decoding, cropping, resizing and checking.
fn image(bytes: &[u8], environment: &Environment) -> Outcome {
    let outcome = decoded(bytes);
    let class = environment.folder.join("a");
    fs::create_dir_all(&class)
        .and_then(|()| fs::write(class.join("it.jpg"), bytes))
        .expect("a temporary folder");
    let list = Images::of_files(&environment.folder, [("a/it.jpg", 0)]);
    let (images, train) = list.expect("a short list");
    let listing = Listing {
        images: Arc::new(images),
        classes: vec!["a".into()],
        train,
        val: None,
        test: vec![],
        left_out: vec![],
        notes: vec![],
    };
    let checked = OWN_POOL
        .with(|_| check::check(listing, &SplitOptions::default(), Options::default(), &|_, _| ()));
    match checked {
        Ok(_) => outcome,
        Err(error) => Outcome::Wrong(format!("the check fails: {error}")),
    }
}

thread_local! {
    /// Makes the thread its own rayon pool, so that [`crate::panics`] detects panics in parallel
    /// tasks.
    static OWN_POOL: Option<ThreadPool> = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().ok();
}

fn decoded(bytes: &[u8]) -> Outcome {
    // Only the image is stored: the next image must not be decoded while the other data of this one
    // is held.
    let full = match decode_bytes("it", bytes, Options::default()) {
        Ok(decoded) => decoded.image,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let (width, height) = full.dimensions();
    evaluation_image(&full, Framing::whole(64));
    let crop = Crop {
        left: width / 3,
        top: height / 3,
        width: (width / 2).max(1),
        height: (height / 2).max(1),
    };
    let part = match decode_bytes_crop("it", &mut bytes.to_vec(), Options::default(), |_, _| crop) {
        Ok((decoded, area)) => (decoded.image, area),
        Err(error) => {
            return Outcome::Wrong(format!("it can be decoded, but a crop of it cannot: {error}"));
        }
    };
    let pixels = |image: &image::RgbImage, Crop { left, top, width, height }: Crop| {
        image::imageops::crop_imm(image, left, top, width, height).to_image()
    };
    if pixels(&part.0, part.1) != pixels(&full, crop) {
        return Outcome::Wrong("a crop has other pixels than the full image".into());
    }
    Outcome::Read(format!("{}x{} bits", width.ilog2(), height.ilog2()))
}

fn weights(bytes: &[u8], environment: &Environment) -> Outcome {
    let path = environment.folder.join("it.pth");
    fs::write(&path, bytes).expect("a temporary folder");
    // The two readers support different files.
    let by_core = Weights::load(&path);
    match (alexnet_interchange::load(&path), by_core) {
        (Ok(loaded), _) => Outcome::Read(format!("{:?}", loaded.notes)),
        (Err(_), Ok(_)) => Outcome::Wrong("core reads what interchange refuses".into()),
        (Err(error), Err(_)) => Outcome::Refused(error.to_string()),
    }
}

/// Tests a pickle that is preceded by the sizes of the storages.
fn pickle(bytes: &[u8], environment: &Environment) -> Outcome {
    let (sizes, pickle) = bytes.split_at(bytes.len().min(seeds::STORAGES));
    weights(&seeds::pth_around(pickle, sizes), environment)
}

/// Tests a pickle in an archive with all storages of a weights file, filled with zeros.
fn whole_pth(pickle: &[u8], environment: &Environment) -> Outcome {
    let path = environment.folder.join("it.pth");
    seeds::whole_pth_around(pickle, &path).expect("a temporary folder");
    match alexnet_interchange::load(&path) {
        Ok(loaded) => Outcome::Read(format!("{:?}", loaded.notes)),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

/// Tests a header that is followed by as many zeros as a weights file has bytes of numbers (a
/// sparse file).
fn whole_weights(header: &[u8], environment: &Environment) -> Outcome {
    let path = environment.folder.join("it.safetensors");
    let parameters = Variant::Tutorial.topology(2).parameters().expect("a sound network");
    let numbers: usize = parameters.iter().map(|parameter| 4 * parameter.elements()).sum();
    let write = || {
        let mut file = File::create(&path)?;
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header)?;
        file.set_len(8 + (header.len() + numbers) as u64)
    };
    write().expect("a temporary folder");
    match alexnet_interchange::load(&path) {
        Ok(loaded) => Outcome::Read(format!("{:?}", loaded.notes)),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

fn read_checkpoint(bytes: &[u8], environment: &Environment) -> Outcome {
    let path = environment.folder.join("it");
    fs::write(&path, bytes).expect("a temporary folder");
    match checkpoint::load::<Progress>(&path) {
        Ok((state, _)) => Outcome::Read(state.parameters.len().to_string()),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

/// Opens an event file twice: what is left after the first time must be read the second time.
fn events(bytes: &[u8], environment: &Environment) -> Outcome {
    let path = environment.folder.join("it");
    fs::write(&path, bytes).expect("a temporary folder");
    let open = || {
        let mut events = vec![];
        let file = EventFile::open(&path, |step, tags| {
            events.push((step, tags.len()));
            true
        });
        file.map(|_| (events, fs::read(&path).expect("a temporary folder")))
    };
    match (open(), open()) {
        (Err(error), _) => Outcome::Refused(error.to_string()),
        (Ok(first), Ok(second)) if first == second && bytes.starts_with(&first.1) => {
            let tags = first.0.iter().map(|(_, tags)| tags.to_string()).collect::<Vec<_>>();
            Outcome::Read(tags.join(" "))
        }
        (first, second) => Outcome::Wrong(format!("{first:?} is then read as {second:?}")),
    }
}

/// Tests the progress in an otherwise valid checkpoint.
fn read_progress(text: &[u8], environment: &Environment) -> Outcome {
    let path = environment.folder.join("it");
    let Ok(progress) = serde_json::from_slice::<serde_json::Value>(text) else {
        return Outcome::Refused("it is not JSON".into());
    };
    checkpoint::save(&path, &seeds::state(), &progress).expect("a temporary folder");
    match checkpoint::load::<Progress>(&path) {
        Ok((_, progress)) => {
            Outcome::Read(format!("best {:?}", progress.best().map(|row| row.epoch)))
        }
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

fn classes(text: &[u8], environment: &Environment) -> Outcome {
    let path = environment.folder.join("it");
    fs::write(&path, text).expect("a temporary folder");
    match alexnet_interchange::class_indices::read(&path) {
        Ok(names) => Outcome::Read(names.len().to_string()),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

fn split(text: &[u8], environment: &Environment) -> Outcome {
    let path = environment.folder.join("it");
    fs::write(&path, text).expect("a temporary folder");
    match Dataset::load(&path) {
        Ok(dataset) => Outcome::Read(format!("{} and {}", dataset.train.len(), dataset.val.len())),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

/// Tests that an archive is unpacked only to its folder, and only to files and folders.
fn unpack(bytes: &[u8], environment: &Environment) -> Outcome {
    let (archive, around) = (environment.folder.join("it.tgz"), environment.folder.join("around"));
    let _ = fs::remove_dir_all(&around);
    fs::create_dir(&around).and_then(|()| fs::write(&archive, bytes)).expect("a temporary folder");
    let limits = Limits { total_bytes: 1 << 20, file_bytes: 1 << 19, entries: 100 };
    let unpacked = archive::unpack(&archive, &around.join("into"), &limits, &mut |_, _| ());
    if let Some(wrong) = misplaced(environment, &around) {
        return Outcome::Wrong(wrong);
    }
    match unpacked {
        Ok(_) => Outcome::Read(WalkDir::new(&around).into_iter().count().ilog2().to_string()),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

fn misplaced(environment: &Environment, around: &Path) -> Option<String> {
    let misplaced = WalkDir::new(&environment.folder).into_iter().flatten().find(|entry| {
        let path = entry.path();
        let kind = entry.file_type();
        let hidden =
            path.strip_prefix(around).is_ok_and(|path| path.to_string_lossy().starts_with('.'));
        let known =
            [&environment.folder, around, &environment.folder.join("it.tgz")].contains(&path);
        !(known || hidden || path.starts_with(around.join("into")))
            || !(kind.is_file() || kind.is_dir())
    });
    misplaced.map(|entry| format!("{} should not be there", entry.path().display()))
}

/// Tests a file of settings with the command-line program. The data set does not exist, so no
/// images are read.
fn config(text: &[u8], environment: &Environment) -> Outcome {
    let path = environment.folder.join("it.toml");
    fs::write(&path, text).expect("a temporary folder");
    let Some(program) = &environment.program else {
        return Outcome::Refused("there is no program to run".into());
    };
    let ran = Command::new(program)
        .args(["train", "--data", "nowhere", "--weights", "nowhere", "--config"])
        .arg(&path)
        .current_dir(&environment.folder)
        .stdin(Stdio::null())
        .output()
        .expect("the command line can be run");
    let stderr = String::from_utf8_lossy(&ran.stderr);
    match ran.status.code() {
        Some(0) => Outcome::Wrong("it trained without images".into()),
        Some(1 | 2) if stderr.contains("panicked") => Outcome::Wrong(stderr.into_owned()),
        Some(1 | 2) if stderr.contains('\x1b') => {
            Outcome::Wrong(format!("raw escape sequences: {stderr:?}"))
        }
        Some(1 | 2) if stderr.contains("nowhere") => Outcome::Read("valid".into()),
        Some(1 | 2) => Outcome::Refused(stderr.into_owned()),
        _ => Outcome::Wrong(format!("{}: {stderr}", ran.status)),
    }
}

/// Checks that messages are short enough to be read.
pub fn checked(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Refused(message) if message.len() > MAX_MESSAGE => Outcome::Wrong(format!(
            "a message of {} bytes: {}…",
            message.len(),
            message.chars().take(200).collect::<String>()
        )),
        outcome => outcome,
    }
}
