//! Weights of other programs: reads and writes PyTorch's state dictionaries (`.pth`), reads
//! safetensors of any writer, writes ONNX and event files of TensorBoard.
//!
//! [`load`] reads state dictionaries and safetensors, and detects the kind of a file by its
//! content. Untrusted files can only cause errors: names, shapes and sizes are compared before any
//! number is read, and nothing in a file is executed.
#![forbid(unsafe_code)]

pub mod class_indices;
mod detect_variant;
mod file;
mod note;
pub mod npy;
pub mod onnx;
mod pth;
mod safetensors;
mod tensor;
pub mod tensorboard;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path};

use alexnet_core::{
    Array, Error, ExifOrientation, FileKind, Precision, Result, Topology,
    alexnet::Variant,
    files::write_atomically,
    state::shape_mismatches,
    text::{shown, shown_path},
    weights::{Metadata, Weights, compare_checksum},
};

pub use self::note::Note;
use self::{
    detect_variant::{detect_variant, usual_normalization},
    file::Source,
    pth::state_dict,
    tensor::{Dtype, View},
};

/// Weights that were read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The weights. Metadata that the file does not contain is assumed.
    pub weights: Weights,
    /// Whether the names of the classes are known. Otherwise they are `0`, `1`, ….
    pub named: bool,
    /// What was assumed or changed; empty for a file that this project wrote.
    pub notes: Vec<Note>,
    /// Whether the file has a checksum, which matches its content. Files of other programs have
    /// none.
    pub has_checksum: bool,
}

/// The tensors of a file, whose numbers are not read yet, and its metadata.
struct Content {
    source: Source,
    views: BTreeMap<String, View>,
    metadata: BTreeMap<String, String>,
    /// The names of the entries that are not tensors.
    others: Vec<String>,
    /// The size of the decompressed content, in bytes.
    bytes: u64,
}

impl Content {
    /// Opens a file of any kind.
    fn open(path: &Path) -> Result<Self> {
        let source = Source::open(path)?;
        let refuse =
            |reason| Error::Format { path: path.to_owned(), expected: FileKind::Weights, reason };
        let start = source.start(32).map_err(refuse)?;
        let saved = match start.as_slice() {
            [b'P', b'K', 3, 4, ..] => pth::read::read_zip(&source),
            start if pth::read::is_legacy(start) => pth::read::read_legacy(&source),
            // safetensors: the length of the header, and its first byte.
            [_, _, _, _, _, _, _, _, b'{', ..] => {
                let (views, metadata) = safetensors::read(&source).map_err(refuse)?;
                let bytes = source.bytes_in_all();
                return Ok(Self { source, views, metadata, others: vec![], bytes });
            }
            [] => Err("the file is empty".into()),
            _ => {
                Err("it is neither safetensors nor a state dictionary of PyTorch's `torch.save`"
                    .into())
            }
        };
        let content = saved.and_then(|saved| {
            let (views, others) = state_dict::tensors(&saved)?;
            let metadata = saved.metadata.map(|text| serde_json::from_slice(&text)).transpose();
            let metadata = metadata.map_err(|error| {
                format!("its {} is not valid: {}", pth::METADATA, shown(&error.to_string()))
            })?;
            Ok((views, others, metadata.unwrap_or_default(), saved.bytes))
        });
        let (views, others, metadata, bytes) = content.map_err(refuse)?;
        Ok(Self { source, views, metadata, others, bytes })
    }

    /// Removes scalars, such as a count of steps, from the tensors. No parameter is a scalar.
    fn without_scalars(mut self) -> Self {
        let (scalars, views) = self.views.into_iter().partition(|(_, view)| view.shape.is_empty());
        let scalars: BTreeMap<String, View> = scalars;
        self.views = views;
        self.others.extend(scalars.into_keys());
        self
    }

    /// Removes the prefixes of `torch.nn.DataParallel`, `torch.compile` and Lightning, if all names
    /// have them.
    fn without_prefix(mut self) -> Self {
        let common = |views: &BTreeMap<String, View>| {
            PREFIXES.into_iter().find(|prefix| {
                !views.is_empty() && views.keys().all(|name| name.starts_with(prefix))
            })
        };
        // The prefixes may be nested.
        for _ in 0..MAX_PREFIXES {
            let Some(prefix) = common(&self.views) else { break };
            let views = std::mem::take(&mut self.views).into_iter();
            self.views =
                views.map(|(name, view)| (name[prefix.len()..].to_owned(), view)).collect();
        }
        self
    }

    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.views.iter().map(|(name, view)| (name.clone(), view.shape.clone())).collect()
    }

    /// Reads all numbers. The shapes must have been checked before.
    fn arrays(&self) -> Result<BTreeMap<String, Array>, String> {
        let elements: usize =
            self.views.values().fold(0, |sum, view| sum.saturating_add(view.elements()));
        if elements as u64 > self.bytes {
            // Several tensors may share a storage, but a small file must not expand to large
            // weights.
            return Err(format!(
                "its tensors have {elements} elements, more than the file has bytes"
            ));
        }
        let mut checked = Vec::new();
        let mut read = |view: &View| {
            if !checked.contains(&view.place) {
                self.source.check(view.place)?;
                checked.push(view.place);
            }
            view.read(&self.source)
        };
        let named = self.views.iter().map(|(name, view)| match read(view) {
            Ok(array) => Ok((name.clone(), array)),
            Err(reason) => Err(format!("its tensor `{}`: {reason}", shown(name))),
        });
        named.collect()
    }
}

const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];
const MAX_PREFIXES: usize = 4;

/// Reads weights from a safetensors file of any writer or a state dictionary of PyTorch.
///
/// # Errors
/// [`Error::Missing`] when the file does not exist, [`Error::Format`] when it is not a valid
/// weights file, [`Error::Changed`] when its content does not match its checksum, [`Error::Io`]
/// when it cannot be read.
pub fn load(path: impl AsRef<Path>) -> Result<Loaded> {
    let path = path.as_ref();
    let (loaded, text) = read(path)?;
    // Files of other programs may use the key `checksum` for something else.
    let is_ours = text.contains_key("variant");
    let has_checksum = is_ours && compare_checksum(path, &text, &loaded.weights.parameters)?;
    Ok(Loaded { has_checksum, ..loaded })
}

/// Reads weights like [`load`], but does not compare the checksum, since another program may have
/// changed the file.
///
/// # Errors
/// Those of [`load`] except [`Error::Changed`].
pub fn load_changed(path: impl AsRef<Path>) -> Result<Loaded> {
    Ok(read(path.as_ref())?.0)
}

/// Reads the weights of a file and its text entries.
fn read(path: &Path) -> Result<(Loaded, BTreeMap<String, String>)> {
    let refuse =
        |reason| Error::Format { path: path.to_owned(), expected: FileKind::Weights, reason };
    if !path.exists() {
        return Err(Error::Missing { path: path.to_owned(), expected: FileKind::Weights });
    }
    let content = Content::open(path)?;
    if content.metadata.contains_key("progress") {
        return Err(refuse(
            "it is the checkpoint of a run; the weights are in the folder `weights` next to its folder: \
             best.safetensors, last.safetensors"
                .into(),
        ));
    }
    let content = content.without_scalars().without_prefix();
    let (variant, classes) = detect_variant(&content.shapes()).map_err(refuse)?;
    let (mut metadata, mut notes) = if content.metadata.contains_key("variant") {
        let metadata = Metadata::from_text(&content.metadata).map_err(refuse)?;
        check_metadata(&metadata, variant, classes).map_err(refuse)?;
        (metadata, vec![])
    } else {
        assume(variant, classes)
    };
    // Files of this project may also have numbers as names, if they were converted from files
    // without class names.
    let mut named = metadata.classes != numbered(classes);
    if !named {
        let (names, sentence) = class_indices::near(path, classes);
        notes.push(Note::ClassNames(sentence));
        named = names.is_some();
        metadata.classes = names.unwrap_or(metadata.classes);
    }
    if !content.others.is_empty() {
        notes.push(Note::LeftOut(content.others.clone()));
    }
    if content.views.values().any(|view| view.dtype == Dtype::F64) {
        notes.push(Note::Rounded);
    }
    let parameters = content.arrays().map_err(refuse)?;
    let loaded =
        Loaded { weights: Weights { metadata, parameters }, named, notes, has_checksum: false };
    Ok((loaded, content.metadata))
}

/// Returns the names `0`, `1`, … for classes without names.
fn numbered(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}

/// Checks that the metadata of a file matches its parameters.
fn check_metadata(metadata: &Metadata, variant: Variant, classes: usize) -> Result<(), String> {
    let Metadata { variant: stated, classes: ref names, input_size, .. } = *metadata;
    let parameters =
        |variant: Variant, classes| variant.topology(classes).parameters().unwrap_or_default();
    if parameters(stated, names.len()) != parameters(variant, classes) {
        return Err(format!(
            "its metadata says `{stated}` with {} classes, but its parameters are those of `{variant}` with {classes}",
            names.len()
        ));
    }
    match stated.topology(classes) {
        Topology { input: [_, size, _], .. } if size == input_size => Ok(()),
        Topology { input: [_, size, _], .. } => {
            Err(format!("its `input_size` is {input_size}, but `{stated}` needs {size}"))
        }
    }
}

/// Returns the assumed metadata of a file without metadata, and the notes about it.
fn assume(variant: Variant, classes: usize) -> (Metadata, Vec<Note>) {
    let normalization = usual_normalization(variant);
    let mut notes = vec![
        Note::DetectedVariant { variant, classes },
        Note::UsualNormalization { variant, normalization },
    ];
    if variant == Variant::Original {
        notes.push(Note::SameShapes { other: Variant::OriginalNormFirst });
    }
    let input_size = variant.topology(classes).input[1];
    let exif_orientation = ExifOrientation::default();
    (
        Metadata {
            variant,
            classes: numbered(classes),
            input_size,
            resize_crop: None,
            normalization,
            exif_orientation,
            precision: Precision::default(),
        },
        notes,
    )
}

/// A format of weights files that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// safetensors, as in run folders.
    Safetensors,
    /// PyTorch's `torch.save` of a state dictionary.
    Pth,
}

impl Format {
    /// Returns the format for the extension `.safetensors`, `.pth` or `.pt`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for any other extension.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let extension =
            path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("pth" | "pt") => Ok(Self::Pth),
            _ => Err(Error::Invalid {
                field: "path",
                value: shown_path(path).to_string(),
                reason: "its extension must be .safetensors, .pth or .pt".into(),
            }),
        }
    }
}

/// Writes weights atomically, in the format of the file's extension. Equal weights give equal
/// bytes. Both formats contain the metadata.
///
/// # Errors
/// [`Error::Invalid`] as in [`Format::of`], [`Error::Parameters`] when the parameters are not those
/// of the variant, [`Error::Io`].
pub fn save(weights: &Weights, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let in_order = in_order(weights)?;
    match Format::of(path)? {
        Format::Safetensors => weights.save(path),
        Format::Pth => {
            let text = weights
                .metadata
                .to_text()
                .map_err(|error| Error::io("write", path)(error.into()))?;
            write_atomically(path, |file| pth::write::write(file, &in_order, &text))
        }
    }
}

/// Returns the parameters in the order of the network, as in PyTorch's modules, instead of the
/// alphabetical order.
///
/// # Errors
/// [`Error::Parameters`] when they are not those of the variant.
fn in_order(weights: &Weights) -> Result<Vec<(&str, &Array)>> {
    let Weights { metadata, parameters } = weights;
    let topology = metadata.variant.topology(metadata.classes.len());
    let shapes = parameters.iter().map(|(name, array)| (name.as_str(), array.shape.as_slice()));
    let table = shape_mismatches(&topology, shapes)?;
    if !table.is_empty() {
        return Err(Error::Parameters { table: table.join("\n") });
    }
    let order = topology.parameters()?;
    let named = order.iter().filter_map(|parameter| parameters.get_key_value(&parameter.name));
    Ok(named.map(|(name, array)| (name.as_str(), array)).collect())
}
