//! A weights file: all that predicting needs, in one safetensors file that PyTorch's tools read too.

use std::{collections::BTreeMap, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Array, Error, Normalization, Result, State,
    alexnet::Variant,
    tensors::{self, Named},
};

const EXPECTED: &str = "a weights file";
const MISSING: &str = "train a network with `alexnet train`, or name another file";

/// What a weights file says beside its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Which AlexNet.
    pub variant: Variant,
    /// The names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// Height and width of a picture.
    pub input_size: usize,
    /// How bytes become numbers.
    pub normalization: Normalization,
}

/// The content of a weights file.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// What they are for.
    pub metadata: Metadata,
    /// By PyTorch's names, see [`State::parameters`].
    pub parameters: BTreeMap<String, Array>,
}

impl Weights {
    /// Writes a file, atomically; equal weights give equal bytes.
    ///
    /// The metadata holds `format` (`pt`, which Python's readers look for), `variant`, `classes` (a JSON list), `input_size`,
    /// `mean` and `std` (JSON lists).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let metadata = self.metadata.to_text().map_err(|e| Error::io("write", path)(e.into()))?;
        let tensors: Vec<Named> = self.parameters.iter().map(|(name, array)| (name.clone(), array)).collect();
        tensors::write(path, &metadata, &tensors)
    }

    /// Reads a file and checks that its parameters are those of its variant with its classes.
    ///
    /// # Errors
    /// [`Error::Format`] says what is wrong with the file and what to do; [`Error::Io`] when it cannot be read at all.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (text, parameters) = tensors::read(path, EXPECTED, MISSING)?;
        let refuse = |reason| Error::Format { path: path.to_owned(), expected: EXPECTED, reason };
        let metadata = Metadata::from_text(&text).map_err(refuse)?;
        let parameters = fitting(&metadata, parameters).map_err(refuse)?;
        Ok(Self { metadata, parameters })
    }
}

impl Metadata {
    fn to_text(&self) -> serde_json::Result<tensors::Metadata> {
        fn json(value: &impl Serialize) -> serde_json::Result<String> {
            serde_json::to_string(value)
        }
        let Normalization { mean, std } = self.normalization;
        Ok([
            ("format", "pt".into()),
            ("variant", self.variant.name().into()),
            ("classes", json(&self.classes)?),
            ("input_size", json(&self.input_size)?),
            ("mean", json(&mean)?),
            ("std", json(&std)?),
        ]
        .into_iter()
        .map(|(key, text)| (key.to_owned(), text))
        .collect())
    }

    fn from_text(text: &tensors::Metadata) -> Result<Self, String> {
        let entry = |key: &str| {
            text.get(key).ok_or_else(|| {
                format!("its metadata lacks `{key}`; `alexnet convert` writes files with everything needed")
            })
        };
        fn json<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, String> {
            serde_json::from_str(text).map_err(|error| format!("its `{key}` is `{text}`: {error}"))
        }
        let metadata = Self {
            variant: entry("variant")?.parse()?,
            classes: json("classes", entry("classes")?)?,
            input_size: json("input_size", entry("input_size")?)?,
            normalization: Normalization {
                mean: json("mean", entry("mean")?)?,
                std: json("std", entry("std")?)?,
            },
        };
        if metadata.classes.is_empty() {
            return Err("it names no classes".into());
        }
        if metadata.normalization.std.iter().any(|std| *std <= 0.0) {
            return Err(format!("its `std` is {:?}, and must be positive", metadata.normalization.std));
        }
        Ok(metadata)
    }
}

/// The parameters, if they are those that the metadata promises.
fn fitting(
    metadata: &Metadata,
    parameters: BTreeMap<String, Array>,
) -> Result<BTreeMap<String, Array>, String> {
    let Metadata { variant, ref classes, input_size, .. } = *metadata;
    let topology = variant.topology(classes.len());
    let [_, size, _] = topology.input;
    if input_size != size {
        return Err(format!("its pictures are of size {input_size}, those of `{variant}` of size {size}"));
    }
    let state = State { parameters, moments: BTreeMap::new() };
    match state.check(&topology) {
        Ok(()) => Ok(state.parameters),
        Err(error) => Err(format!("for `{variant}` with its {} classes, {error}", classes.len())),
    }
}
