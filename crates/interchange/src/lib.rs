//! Files that other tools write and read: PyTorch's state dictionaries (`.pth`) both ways, safetensors by any writer, ONNX.
//!
//! [`load`] takes a file of any of the first three kinds, told apart by content. A file from a stranger costs nothing but an
//! error: names, shapes and sizes are compared before any number is read, and nothing in it is ever executed.
#![forbid(unsafe_code)]

mod file;
pub mod onnx;
mod pickle;
mod pth;
mod pth_write;
mod recognise;
mod safetensors_read;
mod state_dict;
mod tensor;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use alexnet_core::{
    Array, Error, Result, Topology,
    alexnet::Variant,
    files::write_atomically,
    weights::{Metadata, Weights},
};

use self::{file::Source, pickle::Dtype, tensor::View};

const EXPECTED: &str = "a weights file";

/// Weights from any file.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The weights, complete: what the file did not say is assumed.
    pub weights: Weights,
    /// Whether the names of the classes are known; they are `0`, `1`, … otherwise.
    pub named: bool,
    /// In sentences, what was assumed or changed; empty for a file of ours.
    pub notes: Vec<String>,
}

/// Tensors of a file, not yet read, and its text entries.
struct Content {
    source: Source,
    views: BTreeMap<String, View>,
    metadata: BTreeMap<String, String>,
}

impl Content {
    /// Opens a file of any kind.
    fn open(path: &Path) -> Result<Self> {
        let source = Source::open(path)?;
        let refuse = |reason| Error::Format { path: path.to_owned(), expected: EXPECTED, reason };
        let start = source.start(32).map_err(refuse)?;
        let saved = match start.as_slice() {
            [b'P', b'K', 3, 4, ..] => pth::read_zip(&source),
            start if pth::is_legacy(start) => pth::read_legacy(&source),
            _ => {
                let (views, metadata) = safetensors_read::read(&source).map_err(|reason| {
                    refuse(format!(
                        "read as safetensors, {reason}; a file of PyTorch's `torch.save` would be taken too"
                    ))
                })?;
                return Ok(Self { source, views, metadata });
            }
        };
        let content = saved.and_then(|saved| {
            let views = state_dict::tensors(&saved)?;
            let metadata = saved.metadata.map(|text| serde_json::from_slice(&text)).transpose();
            Ok((views, metadata.map_err(|error| format!("its {} is not valid: {error}", pth::METADATA))?))
        });
        let (views, metadata) = content.map_err(refuse)?;
        Ok(Self { source, views, metadata: metadata.unwrap_or_default() })
    }

    /// Takes from all names what `torch.nn.DataParallel` and `torch.compile` put before them, if all have it.
    fn without_prefix(mut self) -> Self {
        let common = |views: &BTreeMap<String, View>| {
            PREFIXES
                .into_iter()
                .find(|prefix| !views.is_empty() && views.keys().all(|name| name.starts_with(prefix)))
        };
        while let Some(prefix) = common(&self.views) {
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
        if elements as u64 > self.source.bytes_in_all() {
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
            Err(reason) => Err(format!("its tensor `{name}`: {reason}")),
        });
        named.collect()
    }
}

const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// Reads weights from a file of ours, a safetensors file by another writer, or a state dictionary of PyTorch.
///
/// # Errors
/// [`Error::Format`] says what is wrong with the file and what to do; [`Error::Io`] when it cannot be read at all.
pub fn load(path: impl AsRef<Path>) -> Result<Loaded> {
    let path = path.as_ref();
    let refuse = |reason| Error::Format { path: path.to_owned(), expected: EXPECTED, reason };
    if !path.exists() {
        return Err(refuse(
            "there is no such file; train a network with `alexnet train`, or name another file".into(),
        ));
    }
    let content = Content::open(path)?.without_prefix();
    let (variant, classes) = recognise::recognise(&content.shapes()).map_err(refuse)?;
    let described = OURS.iter().any(|key| content.metadata.contains_key(*key));
    let (metadata, named, mut notes) = if described {
        let metadata = Metadata::from_text(&content.metadata).map_err(refuse)?;
        agree(&metadata, variant, classes).map_err(refuse)?;
        (metadata, true, vec![])
    } else {
        assume(path, variant, classes)
    };
    if content.views.values().any(|view| view.dtype == Dtype::F64) {
        notes.push("its float64 numbers are rounded to float32".into());
    }
    let parameters = content.arrays().map_err(refuse)?;
    Ok(Loaded { weights: Weights { metadata, parameters }, named, notes })
}

/// A file that has one of these must have all.
const OURS: [&str; 5] = ["variant", "classes", "input_size", "mean", "std"];

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
            Err(format!("its pictures are of size {input_size}, those of `{said}` of size {size}"))
        }
    }
}

/// What a file without metadata is taken for, whether its classes have names, and the sentences that say so.
fn assume(path: &Path, variant: Variant, classes: usize) -> (Metadata, bool, Vec<String>) {
    let mut notes =
        vec![format!("recognised as `{variant}` with {classes} classes by the shapes of its parameters")];
    if variant == Variant::Original {
        notes.push(format!(
            "`{}` has the same shapes; it is not what this is taken for",
            Variant::OriginalNormFirst
        ));
    }
    let names = class_indices_near(path, classes);
    let named = names.is_some();
    match &names {
        Some((file, _)) => notes.push(format!("its classes are those of {}", file.display())),
        None => notes.push(format!(
            "its classes have no names: a {CLASS_INDICES} with {classes} of them, as the tutorial's train.py writes it, belongs beside it"
        )),
    }
    let normalization = recognise::usual_normalization(variant);
    notes.push(format!(
        "pictures are normalised with mean {:?} and std {:?}, as is usual for `{variant}`",
        normalization.mean, normalization.std
    ));
    let metadata = Metadata {
        variant,
        classes: names.map_or_else(|| (0..classes).map(|i| i.to_string()).collect(), |(_, names)| names),
        input_size: variant.topology(classes).input[1],
        normalization,
    };
    (metadata, named, notes)
}

const CLASS_INDICES: &str = "class_indices.json";

/// The tutorial's file of class names, beside the weights or in the folder above, if it names as many.
fn class_indices_near(weights: &Path, classes: usize) -> Option<(PathBuf, Vec<String>)> {
    let folders = weights.parent().into_iter().flat_map(|folder| [folder.to_owned(), folder.join("..")]);
    folders.map(|folder| folder.join(CLASS_INDICES)).find_map(|file| {
        let names = class_indices(&file).ok()?;
        (names.len() == classes).then_some((file, names))
    })
}

/// Reads a file of class names as the tutorial's `train.py` writes it: `{"0": "daisy", …}`, in the order of the logits.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Format`] when it is something else.
pub fn class_indices(path: impl AsRef<Path>) -> Result<Vec<String>> {
    let path = path.as_ref();
    let refuse = |reason| Error::Format { path: path.to_owned(), expected: "a file of class names", reason };
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let mut by_index: BTreeMap<String, String> = serde_json::from_slice(&bytes).map_err(|error| {
        refuse(format!("{error}; it should be like {{\"0\": \"daisy\", \"1\": \"roses\"}}"))
    })?;
    let names: Vec<String> = (0..).map_while(|index: usize| by_index.remove(&index.to_string())).collect();
    match by_index.first_key_value() {
        None => Ok(names),
        Some((index, name)) => {
            Err(refuse(format!("`{name}` has the number {index}, and numbers before it are missing")))
        }
    }
}

/// Writes weights in the format of the file's extension: `.safetensors`, or `.pth` and `.pt` for PyTorch. Equal weights give
/// equal bytes; both keep the metadata.
///
/// # Errors
/// [`Error::Option`] for another extension, [`Error::Io`].
pub fn save(weights: &Weights, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => weights.save(path),
        Some("pth" | "pt") => {
            let Weights { metadata, parameters } = weights;
            // In the order in which PyTorch's modules would give them.
            let order = metadata.variant.topology(metadata.classes.len()).parameters()?;
            let in_order: Vec<(&str, &Array)> = order
                .iter()
                .filter_map(|p| parameters.get_key_value(&p.name))
                .map(|(name, array)| (name.as_str(), array))
                .collect();
            let text = metadata.to_text().map_err(|error| Error::io("write", path)(error.into()))?;
            write_atomically(path, |file| pth_write::write(file, &in_order, &text))
        }
        _ => Err(Error::Option {
            option: "the output file",
            value: path.display().to_string(),
            reason: "its extension must be .safetensors, .pth or .pt".into(),
        }),
    }
}
