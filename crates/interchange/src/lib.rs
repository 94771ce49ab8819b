//! Files that other tools write and read: PyTorch's state dictionaries (`.pth`) both ways, safetensors by any writer, ONNX.
//!
//! [`load`] takes a file of any of the first three kinds, which it detects by content. Untrusted input can only cause an error: names,
//! shapes and sizes are compared before any number is read, and nothing in a file is ever executed.
#![forbid(unsafe_code)]

pub mod class_indices;
mod detect_variant;
mod file;
mod note;
pub mod onnx;
mod pth;
mod safetensors;
mod tensor;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path};

use alexnet_core::{
    Array, Error, ExifOrientation, FileKind, Result, Topology,
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

/// Weights from any file.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The weights, complete: what the file did not say is assumed.
    pub weights: Weights,
    /// Whether the names of the classes are known; they are `0`, `1`, … otherwise.
    pub named: bool,
    /// What was assumed or changed; empty for a file of ours.
    pub notes: Vec<Note>,
    /// Whether the file carries a checksum, which is that of its content. Files of others carry none.
    pub has_checksum: bool,
}

/// Tensors of a file, not yet read, and its text entries.
struct Content {
    source: Source,
    views: BTreeMap<String, View>,
    metadata: BTreeMap<String, String>,
    /// The names of entries beside the tensors.
    others: Vec<String>,
    /// The bytes of the file, unpacked.
    bytes: u64,
}

impl Content {
    /// Opens a file of any kind.
    fn open(path: &Path) -> Result<Self> {
        let source = Source::open(path)?;
        let refuse = |reason| Error::Format { path: path.to_owned(), expected: FileKind::Weights, reason };
        let start = source.start(32).map_err(refuse)?;
        let saved = match start.as_slice() {
            [b'P', b'K', 3, 4, ..] => pth::read::read_zip(&source),
            start if pth::read::is_legacy(start) => pth::read::read_legacy(&source),
            // The length of the header, and its first byte.
            [_, _, _, _, _, _, _, _, b'{', ..] => {
                let (views, metadata) = safetensors::read(&source).map_err(refuse)?;
                let bytes = source.bytes_in_all();
                return Ok(Self { source, views, metadata, others: vec![], bytes });
            }
            [] => Err("the file is empty".into()),
            _ => Err("it is neither safetensors nor a state dictionary of PyTorch's `torch.save`".into()),
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

    /// Takes single numbers, such as a count of steps, from among the tensors: no parameter is one.
    fn without_scalars(mut self) -> Self {
        let (scalars, views) = self.views.into_iter().partition(|(_, view)| view.shape.is_empty());
        let scalars: BTreeMap<String, View> = scalars;
        self.views = views;
        self.others.extend(scalars.into_keys());
        self
    }

    /// Takes from all names what `torch.nn.DataParallel`, `torch.compile` and Lightning put before them, if all have it.
    fn without_prefix(mut self) -> Self {
        let common = |views: &BTreeMap<String, View>| {
            PREFIXES
                .into_iter()
                .find(|prefix| !views.is_empty() && views.keys().all(|name| name.starts_with(prefix)))
        };
        // As often as they may be nested.
        for _ in 0..MAX_PREFIXES {
            let Some(prefix) = common(&self.views) else { break };
            let views = std::mem::take(&mut self.views).into_iter();
            self.views = views.map(|(name, view)| (name[prefix.len()..].to_owned(), view)).collect();
        }
        self
    }

    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.views.iter().map(|(name, view)| (name.clone(), view.shape.clone())).collect()
    }

    /// All numbers; to be called when the shapes are known to be right.
    fn arrays(&self) -> Result<BTreeMap<String, Array>, String> {
        let elements: usize = self.views.values().fold(0, |sum, view| sum.saturating_add(view.elements()));
        if elements as u64 > self.bytes {
            // A storage may be seen more than once, but not so that a small file becomes large weights.
            return Err(format!("its tensors have {elements} elements, more than the file has bytes"));
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

/// Reads weights from a file of ours, a safetensors file by another writer, or a state dictionary of PyTorch.
///
/// # Errors
/// [`Error::Missing`] when there is no file, [`Error::Format`] says what is wrong with it, [`Error::Changed`] when it is no more what
/// this program wrote, [`Error::Io`] when it cannot be read at all.
pub fn load(path: impl AsRef<Path>) -> Result<Loaded> {
    let path = path.as_ref();
    let (loaded, text) = read(path)?;
    // A file of another program may use the word for something else.
    let is_ours = text.contains_key("variant");
    let has_checksum = is_ours && compare_checksum(path, &text, &loaded.weights.parameters)?;
    Ok(Loaded { has_checksum, ..loaded })
}

/// [`load`] of a file that another program may have changed: its checksum is not compared.
///
/// # Errors
/// As [`load`], but never [`Error::Changed`].
pub fn load_changed(path: impl AsRef<Path>) -> Result<Loaded> {
    Ok(read(path.as_ref())?.0)
}

/// What a file holds, and its text entries.
fn read(path: &Path) -> Result<(Loaded, BTreeMap<String, String>)> {
    let refuse = |reason| Error::Format { path: path.to_owned(), expected: FileKind::Weights, reason };
    if !path.exists() {
        return Err(Error::Missing { path: path.to_owned(), expected: FileKind::Weights });
    }
    let content = Content::open(path)?;
    if content.metadata.contains_key("progress") {
        return Err(refuse(
            "it is the checkpoint of a run; the weights are in the folder `weights` beside its folder: \
             best.safetensors, last.safetensors"
                .into(),
        ));
    }
    let content = content.without_scalars().without_prefix();
    let (variant, classes) = detect_variant(&content.shapes()).map_err(refuse)?;
    let (mut metadata, mut notes) = if content.metadata.contains_key("variant") {
        let metadata = Metadata::from_text(&content.metadata).map_err(refuse)?;
        agree(&metadata, variant, classes).map_err(refuse)?;
        (metadata, vec![])
    } else {
        assume(variant, classes)
    };
    // Also in a file of ours, converted from one that named no classes.
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
    let loaded = Loaded { weights: Weights { metadata, parameters }, named, notes, has_checksum: false };
    Ok((loaded, content.metadata))
}

/// The names of classes that have none.
fn numbered(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}

/// Whether what a file says of itself is true of its parameters.
fn agree(metadata: &Metadata, variant: Variant, classes: usize) -> Result<(), String> {
    let Metadata { variant: said, classes: ref names, input_size, .. } = *metadata;
    let parameters = |variant: Variant, classes| variant.topology(classes).parameters().unwrap_or_default();
    if parameters(said, names.len()) != parameters(variant, classes) {
        return Err(format!(
            "it says that it is `{said}` with {} classes, but its parameters are those of `{variant}` with {classes}",
            names.len()
        ));
    }
    match said.topology(classes) {
        Topology { input: [_, size, _], .. } if size == input_size => Ok(()),
        Topology { input: [_, size, _], .. } => {
            Err(format!("its images are of size {input_size}, those of `{said}` of size {size}"))
        }
    }
}

/// What a file without metadata is taken for.
fn assume(variant: Variant, classes: usize) -> (Metadata, Vec<Note>) {
    let normalization = usual_normalization(variant);
    let mut notes =
        vec![Note::DetectedVariant { variant, classes }, Note::UsualNormalization { variant, normalization }];
    if variant == Variant::Original {
        notes.push(Note::SameShapes { other: Variant::OriginalNormFirst });
    }
    let input_size = variant.topology(classes).input[1];
    let exif_orientation = ExifOrientation::default();
    (Metadata { variant, classes: numbered(classes), input_size, normalization, exif_orientation }, notes)
}

/// A format to write weights in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Ours, and of many other programs.
    Safetensors,
    /// PyTorch's `torch.save` of a state dictionary.
    Pth,
}

impl Format {
    /// By the extension: `.safetensors`, `.pth` or `.pt`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
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

/// Writes weights in the format of the file's extension, atomically. Equal weights give equal bytes; both formats keep the
/// metadata.
///
/// # Errors
/// [`Error::Invalid`] as [`Format::of`], [`Error::Parameters`] when the parameters are not those of the variant, [`Error::Io`].
pub fn save(weights: &Weights, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let in_order = in_order(weights)?;
    match Format::of(path)? {
        Format::Safetensors => weights.save(path),
        Format::Pth => {
            let text = weights.metadata.to_text().map_err(|error| Error::io("write", path)(error.into()))?;
            write_atomically(path, |file| pth::write::write(file, &in_order, &text))
        }
    }
}

/// The parameters in the order of the network, as PyTorch's modules give them, not of the alphabet.
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
