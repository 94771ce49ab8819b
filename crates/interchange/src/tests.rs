//! Tests with files of PyTorch, files of this project, and malicious files.

use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

#[derive(Deserialize)]
struct Golden {
    shape: Vec<usize>,
    bits: Vec<u32>,
}

fn bits(array: &Array) -> Vec<u32> {
    array.values.iter().map(|value| value.to_bits()).collect()
}

/// The files are written by `tests/goldens/make.py` with PyTorch.
#[test]
fn every_kind_of_state_dictionary_is_read_bit_by_bit() {
    let kinds: BTreeMap<String, BTreeMap<String, Golden>> =
        serde_json::from_slice(&fs::read(goldens().join("kinds.json")).unwrap()).unwrap();
    assert_eq!(kinds.len(), 26);
    for (file, expected) in kinds {
        let content = Content::open(&goldens().join(&file)).unwrap().without_prefix();
        let found = content.arrays().unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(found.keys().eq(expected.keys()), "{file}: {:?}", found.keys());
        for (name, expected) in expected {
            assert_eq!(found[&name].shape, expected.shape, "{file}: {name}");
            // NaN has many bit patterns, and PyTorch uses another one than IEEE 754 suggests.
            let same = |(a, b): (u32, u32)| {
                a == b || f32::from_bits(a).is_nan() && f32::from_bits(b).is_nan()
            };
            let found = bits(&found[&name]);
            assert!(found.len() == expected.bits.len(), "{file}: {name}");
            assert!(found.into_iter().zip(expected.bits).all(same), "{file}: {name}");
        }
    }
}

fn weights(variant: Variant, classes: usize) -> Weights {
    let parameters = variant.topology(classes).parameters().unwrap();
    let filled = parameters.iter().zip(1u8..).map(|(p, i)| {
        let values = (0..p.elements()).map(|n| f32::from(i) + (n % 1013) as f32 / 1024.0);
        (p.name.clone(), Array { values: values.collect(), shape: p.shape.clone() })
    });
    let metadata = Metadata {
        variant,
        classes: (0..classes).map(|i| format!("\"fleur\" nº {i}")).collect(),
        input_size: variant.topology(classes).input[1],
        resize_crop: Some(256),
        normalization: alexnet_core::Normalization {
            mean: [0.1 + 0.2, 0.5, 0.25],
            std: [0.1, 1.0, 2.0],
        },
        exif_orientation: alexnet_core::ExifOrientation::Ignore,
        precision: Default::default(),
    };
    Weights { metadata, parameters: filled.collect() }
}

#[test]
fn a_changed_file_is_detected_by_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let ours = weights(Variant::Tutorial, 3);
    ours.save(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 0x40;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(load(&path), Err(alexnet_core::Error::Changed { .. })));
    let loaded = load_changed(&path).unwrap();
    assert!(
        loaded.weights.metadata == ours.metadata && loaded.weights.parameters != ours.parameters
    );
    loaded.weights.save(&path).unwrap();
    assert_eq!(load(&path).unwrap(), Loaded { has_checksum: true, ..loaded });
}

#[test]
fn conversion_to_pytorch_and_back_is_lossless() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ours = weights(Variant::Tutorial, 3);
    ours.save(at("a.safetensors")).unwrap();
    let loaded = load(at("a.safetensors")).unwrap();
    assert_eq!(
        loaded,
        Loaded { weights: ours.clone(), named: true, notes: vec![], has_checksum: true }
    );
    save(&loaded.weights, at("b.pth")).unwrap();
    let back = load(at("b.pth")).unwrap();
    // The zip archive has its own checksums.
    assert_eq!(back, Loaded { has_checksum: false, ..loaded });
    save(&back.weights, at("c.safetensors")).unwrap();
    save(&back.weights, at("another_name.pt")).unwrap();
    let same = |one, two| fs::read(at(one)).unwrap() == fs::read(at(two)).unwrap();
    assert!(same("a.safetensors", "c.safetensors") && same("b.pth", "another_name.pt"));
    let error = save(&ours, at("b.onnx")).unwrap_err().to_string();
    assert!(error.contains("b.onnx") && error.contains(".safetensors, .pth or .pt"), "{error}");
}

/// For a plain state dictionary of another program, the class names and all other metadata are
/// assumed, and notes say so.
#[test]
fn missing_metadata_is_assumed_and_noted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("AlexNet.pth");
    let Weights { parameters, .. } = weights(Variant::Tutorial, 3);
    let arrays: Vec<(&str, &Array)> =
        parameters.iter().map(|(name, array)| (name.as_str(), array)).collect();
    write_atomically(&path, |file| pth::write::write(file, &arrays, &BTreeMap::new())).unwrap();

    let loaded = load(&path).unwrap();
    assert_eq!(loaded.weights.parameters, parameters);
    assert_eq!(loaded.weights.metadata.classes, ["0", "1", "2"]);
    assert!(!loaded.named);
    let notes = loaded.notes.iter().map(Note::to_string).collect::<Vec<_>>().join("\n");
    for expected in
        ["`tutorial` with 3 classes", "class_indices.json with 3 names", "mean [0.5, 0.5, 0.5]"]
    {
        assert!(notes.contains(expected), "{notes}");
    }

    let beside = folder.path().join(class_indices::NAME);
    for (content, names) in [
        (r#"{"0": "daisy", "2": "tulips", "1": "roses"}"#, ["daisy", "roses", "tulips"]),
        (r#"{"0": "daisy", "1": "roses"}"#, ["0", "1", "2"]),
        (r#"{"0": "daisy", "1": "roses", "2": "tulips", "3": "oaks"}"#, ["0", "1", "2"]),
        (r#"["daisy", "roses", "tulips"]"#, ["0", "1", "2"]),
        (r#"{"daisy": 0, "roses": 1, "tulips": 2}"#, ["daisy", "roses", "tulips"]),
    ] {
        fs::write(&beside, content).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.weights.metadata.classes, names, "{content}");
        assert_eq!(loaded.named, names[0] == "daisy");
        assert!(
            loaded.notes.last().unwrap().to_string().contains("class_indices.json"),
            "{:?}",
            loaded.notes
        );
    }
    // The converted file still has no class names.
    let ours = folder.path().join("ours.safetensors");
    save(&Weights { metadata: assume(Variant::Tutorial, 3).0, parameters }, &ours).unwrap();
    assert!(load(&ours).unwrap().named);
    fs::remove_file(&beside).unwrap();
    assert!(!load(&ours).unwrap().named);
}

#[test]
fn variants_are_detected_and_mismatches_are_listed() {
    let shapes = |variant: Variant, classes| -> BTreeMap<String, Vec<usize>> {
        variant
            .topology(classes)
            .parameters()
            .unwrap()
            .into_iter()
            .map(|p| (p.name, p.shape))
            .collect()
    };
    for (variant, classes) in
        [(Variant::Tutorial, 5), (Variant::Original, 7), (Variant::Torchvision, 1000)]
    {
        assert_eq!(detect_variant(&shapes(variant, classes)), Ok((variant, classes)));
    }
    assert_eq!(detect_variant(&shapes(Variant::OriginalNormFirst, 2)), Ok((Variant::Original, 2)));

    let mut wrong = shapes(Variant::Torchvision, 5);
    wrong.insert("features.0.weight".into(), vec![64, 1, 11, 11]);
    wrong.remove("classifier.4.bias");
    wrong.insert("extra".into(), vec![3]);
    let error = detect_variant(&wrong).unwrap_err();
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].contains("nearest, `torchvision` with 5 classes"), "{error}");
    assert_eq!(
        lines[1..],
        [
            "  features.0.weight: expected [64, 3, 11, 11], found [64, 1, 11, 11]",
            "  classifier.4.bias: expected [4096], found none",
            "  extra: expected none, found [3]",
        ]
    );
    let many = (0..200).map(|i| (format!("layer{i}.weight"), vec![i])).collect();
    let error = detect_variant(&many).unwrap_err();
    assert!(error.lines().count() < 30 && error.ends_with("more"), "{error}");
}

/// safetensors files as Python writes them: other types, and no metadata.
#[test]
fn safetensors_files_of_other_programs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let ours = weights(Variant::Tutorial, 2);
    let narrow: BTreeMap<String, Vec<u8>> = ours
        .parameters
        .iter()
        .map(|(name, array)| {
            let bytes =
                array.values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes());
            (format!("module.{name}"), bytes.collect())
        })
        .collect();
    let views = narrow.iter().map(|(name, bytes)| {
        let shape = ours.parameters[&name["module.".len()..]].shape.clone();
        (
            name,
            ::safetensors::tensor::TensorView::new(::safetensors::Dtype::BF16, shape, bytes)
                .unwrap(),
        )
    });
    fs::write(&path, ::safetensors::serialize(views, None).unwrap()).unwrap();
    let loaded = load(&path).unwrap();
    for (name, array) in &ours.parameters {
        let widened = array.values.iter().map(|value| half::bf16::from_f32(*value).to_f32());
        assert!(widened.eq(loaded.weights.parameters[name].values.iter().copied()), "{name}");
    }
    assert_eq!(loaded.weights.metadata.classes, ["0", "1"]);

    // Truncated files, and one that is longer than its header says.
    let complete = fs::read(&path).unwrap();
    for bytes in [
        &complete[..complete.len() - 1],
        &[&complete[..], &[0]].concat(),
        &complete[..5],
        b"daisy,0.9\nrose,0.1\n",
    ] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(load(&path), Err(Error::Format { .. })));
    }
}

#[test]
fn inconsistent_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let mut wrong = weights(Variant::Tutorial, 3);
    wrong.metadata.classes.push("four".into());
    wrong.save(&path).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(
        error.contains("`tutorial` with 4 classes") && error.contains("of `tutorial` with 3"),
        "{error}"
    );
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("it is a folder, not a file"), "{error}");
    alexnet_core::checkpoint::save(&path, &alexnet_core::State::default(), &0).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("checkpoint of a run") && error.contains("last.safetensors"), "{error}");
    let error = load(folder.path().join("none.pth")).unwrap_err().to_string();
    assert!(error.contains("none.pth") && error.contains("no such file"), "{error}");
}

/// Returns a zip archive of these entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(vec![]));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Returns an archive like those of PyTorch, with this pickle and one storage of four numbers.
fn saved(pickle: &[u8]) -> Vec<u8> {
    archive(&[("a/data.pkl", pickle), ("a/data/0", &[0; 16]), ("a/version", b"3\n")])
}

/// Returns a pickle of `{'x': tensor}` with the storage `0`: the type and the number of elements of
/// the storage, then offset, shape and strides of the tensor.
fn one_tensor(kind: &str, elements: &[u8], view: &[u8]) -> Vec<u8> {
    [
        b"\x80\x02}X\x01\0\0\0xctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagec".as_slice(),
        kind.as_bytes(),
        b"\nX\x01\0\0\x000X\x03\0\0\0cpu",
        elements,
        b"tQ",
        view,
        b"\x89}tRs.",
    ]
    .concat()
}

const FLOAT: &str = "torch\nFloatStorage";

/// A storage of four numbers, and a tensor of all of them.
const FOUR: &[u8] = b"K\x04";
const ALL: &[u8] = b"K\0K\x04\x85K\x01\x85";

/// Returns a dictionary of one tensor with this name.
fn named_after(name: &str) -> Vec<u8> {
    let pickle = one_tensor(FLOAT, FOUR, ALL);
    let length = (name.len() as u32).to_le_bytes();
    [&pickle[..4], &length, name.as_bytes(), &pickle[9..]].concat()
}

/// Returns a tensor whose storage has a key of 2,000 letters.
fn long_key() -> Vec<u8> {
    let pickle = one_tensor(FLOAT, FOUR, ALL);
    let key = b"X\x01\0\0\x000";
    let at = pickle.windows(key.len()).position(|window| window == key).unwrap();
    [&pickle[..at], b"X\xd0\x07\0\0", &[b'a'; 2000], &pickle[at + key.len()..]].concat()
}

fn overlapping() -> Vec<u8> {
    let mut bytes =
        archive(&[("a/data.pkl", b"}."), ("a/data/0", &[0; 16]), ("a/data/1", &[0; 16])]);
    // Sets the start of the last entry in the directory to that of the previous entry.
    let end = bytes.len() - 22;
    let directory = u32::from_le_bytes(bytes[end + 16..end + 20].try_into().unwrap()) as usize;
    let entries: Vec<usize> =
        (directory..end).filter(|at| bytes[*at..].starts_with(b"PK\x01\x02")).collect();
    let first = bytes[entries[1] + 42..entries[1] + 46].to_vec();
    bytes[entries[2] + 42..entries[2] + 46].copy_from_slice(&first);
    bytes
}

/// Returns a file in which the byte at `field` of the first entry's local header, and the
/// corresponding byte of the directory, are set to `value`.
fn changed(field: usize, value: u8) -> Vec<u8> {
    let mut bytes = saved(b"}.");
    for (signature, at) in [(b"PK\x03\x04", field), (b"PK\x01\x02", field + 2)] {
        let header = bytes.windows(4).position(|window| window == signature).unwrap();
        bytes[header + at] = value;
    }
    bytes
}

/// Returns an archive whose storage of sixteen zeros has the deflated content `packed` and the
/// stated size `bytes`.
fn deflated(packed: &[u8], bytes: u32) -> Vec<u8> {
    let mut archive =
        archive(&[("a/data.pkl", &one_tensor(FLOAT, FOUR, ALL)), ("a/data/0", packed)]);
    for (signature, method, size) in [(b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)] {
        let header = archive.windows(4).rposition(|window| window == signature).unwrap();
        archive[header + method] = 8;
        archive[header + size..][..4].copy_from_slice(&bytes.to_le_bytes());
        archive[header + size - 8..][..4].copy_from_slice(&crc32fast::hash(&[0; 16]).to_le_bytes());
    }
    archive
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(vec![], flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns a pickle that makes many dictionaries from the same list of a hundred pairs.
fn many_entries() -> Vec<u8> {
    let pairs = b"](K\x01K\x02e".repeat(100);
    let again = b"ccollections\nOrderedDict\nh\0\x85R0".repeat(10_000);
    [b"](", &pairs[..], b"eq\0", &again, b"."].concat()
}

/// Returns descriptions of files that must be refused, their bytes, and a part of the message.
fn malicious() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let call = |name: &str| saved(format!("c{name}\n(X\x04\0\0\0exittR.").as_bytes());
    let good = saved(&one_tensor(FLOAT, FOUR, ALL));
    let legacy = fs::read(goldens().join("legacy_float32.pth")).unwrap();
    let truncated = |bytes: &[u8], left: usize| bytes[..left].to_vec();
    let mut flipped = good.clone();
    let data = flipped.windows(16).rposition(|window| window == [0; 16]).unwrap();
    flipped[data + 3] = 1;
    let nested = |count: usize| [vec![b']'; count], vec![b'a'; count - 1], b".".to_vec()].concat();
    let mut long_legacy = legacy.clone();
    let numbers = legacy.len() - 6 * 4 - 9 * 4 - 16;
    long_legacy[numbers + 7] = 0x7f;
    vec![
        ("a call of os.system", call("os\nsystem"), "refers to `os.system`"),
        ("a call of eval", call("builtins\neval"), "refers to `builtins.eval`"),
        ("a name of torch that runs code", call("torch\nload"), "refers to `torch.load`"),
        ("a complete model", call("__main__\nAlexNet"), "torch.save(model.state_dict(), …)"),
        (
            "an object built without a call",
            saved(b"\x80\x02ccollections\nOrderedDict\n)\x81."),
            "operation NEWOBJ at byte 28",
        ),
        ("the operation INST", saved(b"(X\x02\0\0\0lsios\nsystem\n."), "operation INST at byte 8"),
        (
            "a state given to a tensor",
            saved(&[&one_tensor(FLOAT, FOUR, ALL)[..87], b"}b."].concat()),
            "at byte",
        ),
        ("no STOP", saved(b"\x80\x02}"), "ends at byte 3, before its STOP"),
        ("a text of 4 GB", saved(b"X\xff\xff\xff\xffabc"), "the pickle ends inside it"),
        (
            "a text of 2⁶⁴ bytes",
            saved(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc"),
            "the pickle ends inside it",
        ),
        ("a text without UTF-8", saved(b"U\x02\xff\xfe."), "not UTF-8"),
        ("an empty stack", saved(b"\x85."), "the stack is empty"),
        ("a pop across a mark", saved(b"N(\x85."), "the stack is empty"),
        ("a missing mark", saved(b"Nt."), "there is no mark"),
        ("a missing memo entry", saved(b"j\xff\xff\xff\xff."), "the memo has no entry"),
        ("nesting of a million lists", saved(&nested(1_000_000)), "nested too deep"),
        ("nesting that is not too deep", saved(&nested(60_000)), "contains no dictionary"),
        ("a million marks", saved(&vec![b'('; 1_000_000]), "nested too deep"),
        (
            "a name of two million prefixes",
            saved(&named_after(&"module.".repeat(2_000_000))),
            "longer than 1024 bytes",
        ),
        ("a storage with a long name", saved(&long_key()), "longer than 1024 bytes"),
        ("a name that clears the screen", saved(&named_after("\x1b[2J")), "is not a valid name"),
        (
            "endless pushing and popping",
            saved(&b"N0".repeat(200_000)),
            "more than 250000 operations",
        ),
        ("a list in itself", saved(b"]q\0h\0a."), "contains no dictionary"),
        ("a dictionary in itself", saved(b"}q\0X\x05\0\0\0modelh\0s."), "too many dictionaries"),
        ("no tensor", saved(b"}X\x01\0\0\0xK\x01s."), "contains no tensor (x)"),
        ("an empty dictionary", saved(b"}."), "contains no tensor (it is empty)"),
        (
            "a key that is no text",
            saved(b"}K\x01K\x01s."),
            "contains no tensor (an entry without a name)",
        ),
        (
            "a missing storage",
            archive(&[("a/data.pkl", &one_tensor(FLOAT, FOUR, ALL))]),
            "storage `0` is missing",
        ),
        (
            "a storage of the wrong size",
            saved(&one_tensor(FLOAT, b"K\x05", ALL)),
            "should hold 5 elements of float32, but has 16 bytes",
        ),
        (
            "a storage of 2⁶⁴ elements",
            saved(&one_tensor(FLOAT, b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0", ALL)),
            "should hold",
        ),
        (
            "a storage of -1 elements",
            saved(&one_tensor(FLOAT, b"J\xff\xff\xff\xff", ALL)),
            "a storage of -1 elements",
        ),
        (
            "a storage of unknown kind",
            saved(&one_tensor("torch\nQUInt8Storage", FOUR, ALL)),
            "QUInt8Storage",
        ),
        (
            "a tensor beyond its storage",
            saved(&one_tensor(FLOAT, b"K\x04", b"K\x01K\x04\x85K\x01\x85")),
            "it needs element 4, but its storage has 4 elements",
        ),
        (
            "strides that overflow",
            saved(&one_tensor(
                FLOAT,
                b"K\x04",
                b"K\0K\x04K\x04\x86\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0K\x01\x86",
            )),
            "beyond its storage",
        ),
        (
            "a negative stride",
            saved(&one_tensor(FLOAT, b"K\x04", b"K\x03K\x04\x85J\xff\xff\xff\xff\x85")),
            "a size of -1",
        ),
        (
            "a tensor of 2⁴⁰ copies of one number",
            saved(&one_tensor(FLOAT, b"K\x04", b"K\0J\0\0\x10\0J\0\0\x10\0\x86K\0K\0\x86")),
            "more than the file has bytes",
        ),
        (
            "fewer strides than dimensions",
            saved(&one_tensor(FLOAT, b"K\x04", b"K\0K\x02K\x02\x86K\x01\x85")),
            "as many strides",
        ),
        (
            "integers",
            saved(&one_tensor("torch\nLongStorage", b"K\x02", b"K\0K\x02\x85K\x01\x85")),
            "holds int64",
        ),
        ("a truncated archive", truncated(&good, good.len() - 30), "truncated or damaged"),
        ("the first half", truncated(&good, good.len() / 2), "truncated or damaged"),
        ("damaged numbers", flipped, "checksum"),
        ("an entry that is not compressed, but marked so", changed(8, 8), "truncated or damaged"),
        ("an entry compressed in another way", changed(8, 12), "has a compression that"),
        ("an encrypted entry", changed(6, 1), "is encrypted"),
        (
            "an entry that decompresses to 65 MB",
            deflated(&deflate(&[0; 16]), 65 << 20),
            "entries decompress to 68157",
        ),
        ("an entry that is longer than it says", deflated(&deflate(&[0; 17]), 16), "checksum"),
        (
            "a dictionary of a text",
            saved(b"ccollections\nOrderedDict\n(](X\x01\0\0\0aetR."),
            "is not a pair",
        ),
        ("a million entries of the same list", saved(&many_entries()), "more than 250000 entries"),
        ("items for a missing set", saved(b"}(K\x01\x90."), "there is no set"),
        ("entries that overlap", overlapping(), "overlaps"),
        (
            "an archive of something else",
            archive(&[("word/document.xml", b"<xml/>")]),
            "no data.pkl",
        ),
        (
            "numbers of a big-endian machine",
            archive(&[("a/data.pkl", b"}."), ("a/byteorder", b"big")]),
            "big-endian",
        ),
        (
            "metadata that is not JSON",
            archive(&[
                ("a/data.pkl", &one_tensor(FLOAT, FOUR, ALL)),
                ("a/data/0", &[0; 16]),
                ("a/extra/alexnet.json", b"{"),
            ]),
            "is not valid",
        ),
        ("a legacy file, truncated in its pickle", truncated(&legacy, 200), "ends"),
        (
            "a legacy file, truncated in its numbers",
            truncated(&legacy, legacy.len() - 1),
            "truncated",
        ),
        ("a legacy file with a wrong number of elements", long_legacy, "does not hold"),
        ("an empty file", vec![], "is empty"),
        ("a text", b"These are words.".to_vec(), "neither safetensors nor"),
    ]
}

/// Scalars among the parameters, as tensors or not, are ignored.
#[test]
fn entries_that_are_not_parameters_are_ignored_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let ours = weights(Variant::Tutorial, 2);
    let mut more = ours.parameters.clone();
    more.insert("steps".into(), Array { shape: vec![], values: vec![7.0] });
    alexnet_core::weights::save(&path, &ours.metadata, &more).unwrap();
    // Its checksum includes the ignored entry.
    let loaded = load_changed(&path).unwrap();
    assert_eq!(loaded.weights, ours);
    assert_eq!(loaded.notes, [Note::LeftOut(vec!["steps".into()])]);

    let others = Content::open(&goldens().join("among.pth")).unwrap().others;
    assert!(others.len() == 15 && others[0] == "array", "{others:?}");
}

#[test]
fn malicious_files_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("malicious.pth");
    let mut failures = vec![];
    for (what, bytes, reason) in malicious() {
        fs::write(&path, bytes).unwrap();
        let refusal = Content::open(&path).and_then(|content| {
            content.arrays().map_err(|reason| Error::Format {
                path: path.clone(),
                expected: FileKind::Weights,
                reason,
            })
        });
        match refusal {
            Ok(_) => failures.push(format!("{what}: accepted")),
            Err(error) if error.to_string().contains(reason) => {
                assert!(error.to_string().starts_with(&path.display().to_string()));
            }
            Err(error) => failures.push(format!("{what}: {error}")),
        }
        assert!(load(&path).is_err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // The unmodified files that they are made of are valid.
    fs::write(&path, deflated(&deflate(&[0; 16]), 16)).unwrap();
    assert_eq!(Content::open(&path).unwrap().arrays().unwrap()["x"].values, [0.0; 4]);
    fs::write(&path, saved(&one_tensor(FLOAT, FOUR, ALL))).unwrap();
    assert_eq!(Content::open(&path).unwrap().arrays().unwrap()["x"].values, [0.0; 4]);
    // The stride of a dimension of one element is never used.
    let huge = b"K\0K\x04K\x01\x86K\x01\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0\x86";
    fs::write(&path, saved(&one_tensor(FLOAT, FOUR, huge))).unwrap();
    assert_eq!(Content::open(&path).unwrap().arrays().unwrap()["x"].shape, [4, 1]);
}

/// Changed bytes and truncation at any position give an error or a valid result, but no panic.
#[test]
fn damaged_files_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pth");
    let mut number = 12345u64;
    let mut random = |below: usize| {
        number = number.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (number >> 33) as usize % below
    };
    let names = ["zip_views", "legacy_views", "zip_state_dict", "legacy_state_dict", "protocol_5"];
    for name in names.into_iter().chain(["deflated", "zip_python_2", "among", "attributes"]) {
        let good = fs::read(goldens().join(format!("{name}.pth"))).unwrap();
        for round in 0..400 {
            let mut bytes = good.clone();
            match round % 4 {
                0 => bytes.truncate(random(good.len())),
                1 => bytes[random(good.len())] ^= 1 << random(8),
                _ => (0..4).for_each(|_| bytes[random(good.len())] = random(256) as u8),
            }
            fs::write(&path, &bytes).unwrap();
            if let Ok(content) = Content::open(&path) {
                let _ = content.arrays();
            }
        }
    }
}
