//! Weights files: everything that prediction needs, in one safetensors file that PyTorch's tools
//! can also read.

use std::{collections::BTreeMap, convert::Infallible, path::Path};

use crc32fast::Hasher;
use rayon::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Array, Error, ExifOrientation, FileKind, Normalization, Precision, Result, State,
    alexnet::Variant,
    files::each_block,
    tensors::{self, Named},
    text::shown,
};

/// The metadata of a weights file.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// The variant of AlexNet.
    pub variant: Variant,
    /// The names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// The height and width of the input images.
    pub input_size: usize,
    /// The pixels that the shorter side of an image is resized to in evaluation, before the center
    /// of the size of the input is cropped; `None`: the whole image is resized to the input.
    pub resize_crop: Option<u32>,
    /// The normalization of the input.
    pub normalization: Normalization,
    /// How the orientation of image files was treated in training.
    pub exif_orientation: ExifOrientation,
    /// The precision of products in training.
    pub precision: Precision,
}

/// The content of a weights file.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The metadata.
    pub metadata: Metadata,
    /// The parameters by PyTorch's names, see [`State::parameters`].
    pub parameters: BTreeMap<String, Array>,
}

impl Weights {
    /// Writes a file atomically. Equal weights give equal bytes.
    ///
    /// The metadata entries are those of [`Metadata::to_text`] and a [`checksum`] of the content.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        save(path, &self.metadata, &self.parameters)
    }

    /// Reads a file and checks that its parameters fit its variant and its number of classes.
    ///
    /// # Errors
    /// [`Error::Missing`] when the file does not exist, [`Error::Format`] when it is not a valid
    /// weights file, [`Error::Changed`] when its content does not match its checksum, [`Error::Io`]
    /// when it cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (text, parameters) = tensors::read(path, FileKind::Weights)?;
        compare_checksum(path, &text, &parameters)?;
        let refuse =
            |reason| Error::Format { path: path.to_owned(), expected: FileKind::Weights, reason };
        let metadata = Metadata::from_text(&text).map_err(refuse)?;
        let parameters = check_fit(&metadata, parameters).map_err(refuse)?;
        Ok(Self { metadata, parameters })
    }
}

/// Writes a file like [`Weights::save`], from borrowed parameters.
///
/// # Errors
/// [`Error::Io`].
pub fn save(
    path: impl AsRef<Path>,
    metadata: &Metadata,
    parameters: &BTreeMap<String, Array>,
) -> Result<()> {
    let path = path.as_ref();
    let mut metadata = metadata.to_text().map_err(|e| Error::io("write", path)(e.into()))?;
    metadata.insert(CHECKSUM.into(), checksum(&metadata, parameters));
    let tensors: Vec<Named> =
        parameters.iter().map(|(name, array)| (name.clone(), array)).collect();
    tensors::write(path, &metadata, &tensors)
}

/// The metadata key of the [`checksum`].
pub const CHECKSUM: &str = "checksum";

/// Returns the CRC-32 over the content of a weights file: its text entries without the checksum,
/// and the names, shapes and numbers (f32, little-endian) of its tensors, both in the order of
/// their names. It does not depend on the layout of the file.
pub fn checksum(text: &BTreeMap<String, String>, parameters: &BTreeMap<String, Array>) -> String {
    let mut hasher = Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for (key, entry) in text.iter().filter(|(key, _)| *key != CHECKSUM) {
        add(key);
        add(entry);
    }
    for (name, Array { shape, values }) in parameters {
        hasher.update(format!("{name}{shape:?}").as_bytes());
        // Parts are hashed by all threads.
        let parts: Vec<Hasher> = values.par_chunks(PART).map(hash).collect();
        parts.iter().for_each(|part| hasher.combine(part));
    }
    format!("crc32:{:08x}", hasher.finalize())
}

fn hash(values: &[f32]) -> Hasher {
    let mut hasher = Hasher::new();
    let Ok(()) = each_block(values, |bytes| {
        hasher.update(bytes);
        Ok::<_, Infallible>(())
    });
    hasher
}

/// The numbers that a thread hashes at a time.
const PART: usize = 1 << 18;

/// Compares the [`checksum`] of a file with its content. Returns whether the file has one; files of
/// other programs and of earlier versions do not. `path` is used in the error only.
///
/// # Errors
/// [`Error::Changed`] when the checksum does not match the content.
pub fn compare_checksum(
    path: &Path,
    text: &BTreeMap<String, String>,
    parameters: &BTreeMap<String, Array>,
) -> Result<bool> {
    let Some(written) = text.get(CHECKSUM) else { return Ok(false) };
    let found = checksum(text, parameters);
    if *written == found {
        return Ok(true);
    }
    Err(Error::Changed { path: path.to_owned(), written: written.clone(), found })
}

impl Metadata {
    /// Returns the text entries of a file: `format` (`pt`, which Python's readers look for),
    /// `variant`, `classes` (a JSON list), `input_size`, `mean` and `std` (JSON lists),
    /// `resize_crop` if the input is cropped, `exif_orientation` (`ignore`) if it is not `apply`,
    /// and `precision` (`bf16`) if it is not `f32`.
    ///
    /// # Errors
    /// Never, since strings and numbers can always be written as JSON.
    pub fn to_text(&self) -> serde_json::Result<BTreeMap<String, String>> {
        fn json(value: &impl Serialize) -> serde_json::Result<String> {
            serde_json::to_string(value)
        }
        let Normalization { mean, std } = self.normalization;
        let orientation = (self.exif_orientation != ExifOrientation::default())
            .then(|| self.exif_orientation.name());
        let precision = (self.precision != Precision::default()).then(|| self.precision.name());
        Ok([
            ("format", "pt".into()),
            ("variant", self.variant.name().into()),
            ("classes", json(&self.classes)?),
            ("input_size", json(&self.input_size)?),
            ("mean", json(&mean)?),
            ("std", json(&std)?),
        ]
        .into_iter()
        .chain(self.resize_crop.map(|side| ("resize_crop", side.to_string())))
        .chain(orientation.map(|name| ("exif_orientation", name.into())))
        .chain(precision.map(|name| ("precision", name.into())))
        .map(|(key, text)| (key.to_owned(), text))
        .collect())
    }

    /// Parses the text entries of a file.
    ///
    /// # Errors
    /// A message that names the missing or invalid entry.
    pub fn from_text(text: &BTreeMap<String, String>) -> Result<Self, String> {
        let entry = |key: &str| text.get(key).ok_or_else(|| format!("its metadata lacks `{key}`"));
        fn json<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, String> {
            serde_json::from_str(text).map_err(|error| {
                format!("its `{key}` is `{}`: {}", shown(text), shown(&error.to_string()))
            })
        }
        let metadata = Self {
            variant: entry("variant")?.parse()?,
            classes: json("classes", entry("classes")?)?,
            input_size: json("input_size", entry("input_size")?)?,
            resize_crop: text
                .get("resize_crop")
                .map(|side| json("resize_crop", side))
                .transpose()?,
            normalization: Normalization {
                mean: json("mean", entry("mean")?)?,
                std: json("std", entry("std")?)?,
            },
            exif_orientation: match text.get("exif_orientation").map(String::as_str) {
                None | Some("apply") => ExifOrientation::Apply,
                Some("ignore") => ExifOrientation::Ignore,
                Some(other) => {
                    return Err(format!(
                        "its `exif_orientation` is `{}`, but must be apply or ignore",
                        shown(other)
                    ));
                }
            },
            precision: match text.get("precision") {
                None => Precision::default(),
                Some(name) => name.parse().map_err(|error| format!("its `precision`: {error}"))?,
            },
        };
        if metadata.classes.is_empty() {
            return Err("its list of classes is empty".into());
        }
        let input_size = metadata.input_size;
        if let Some(side) = metadata.resize_crop.filter(|side| (*side as usize) < input_size) {
            return Err(format!(
                "its `resize_crop` is {side}, but must be at least its `input_size`, {input_size}"
            ));
        }
        if metadata.normalization.std.iter().any(|std| *std <= 0.0) {
            return Err(format!(
                "its `std` is {:?}, but must be positive",
                metadata.normalization.std
            ));
        }
        Ok(metadata)
    }
}

/// Returns the parameters if they fit the metadata.
fn check_fit(
    metadata: &Metadata,
    parameters: BTreeMap<String, Array>,
) -> Result<BTreeMap<String, Array>, String> {
    let Metadata { variant, ref classes, input_size, .. } = *metadata;
    let topology = variant.topology(classes.len());
    let [_, size, _] = topology.input;
    if input_size != size {
        return Err(format!("its `input_size` is {input_size}, but `{variant}` needs {size}"));
    }
    let state = State::from(parameters);
    match state.check(&topology) {
        Ok(()) => Ok(state.parameters),
        Err(error) => Err(format!("for `{variant}` with {} classes, {error}", classes.len())),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn metadata(variant: Variant, classes: usize) -> Metadata {
        Metadata {
            variant,
            classes: (0..classes).map(|i| format!("\"fleur\" nº {i}")).collect(),
            input_size: variant.topology(classes).input[1],
            resize_crop: Some(256),
            // Numbers that have no exact decimal form.
            normalization: Normalization {
                mean: [0.485, 1.0 / 3.0, 0.1 + 0.2],
                std: [f32::MIN_POSITIVE, 0.1, 7e9],
            },
            exif_orientation: ExifOrientation::Ignore,
            precision: Precision::Bf16,
        }
    }

    fn weights(variant: Variant, classes: usize) -> Weights {
        let parameters = variant.topology(classes).parameters().unwrap();
        let filled = parameters.iter().zip(1u8..).map(|(p, i)| {
            let mut array = Array::filled(&p.shape, f32::from(i));
            array.values[0] = f32::NAN;
            (p.name.clone(), array)
        });
        Weights { metadata: metadata(variant, classes), parameters: filled.collect() }
    }

    #[test]
    fn saved_weights_are_loaded_bit_by_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let saved = weights(Variant::Tutorial, 2);
        saved.save(&path).unwrap();
        let loaded = Weights::load(&path).unwrap();
        assert_eq!(loaded.metadata, saved.metadata);
        assert!(loaded.parameters.keys().eq(saved.parameters.keys()));
        let bits = |array: &Array| array.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        for (name, array) in &saved.parameters {
            assert_eq!(array.shape, loaded.parameters[name].shape);
            assert!(bits(array) == bits(&loaded.parameters[name]), "{name}");
        }
    }

    /// Returns the error of `load` for a file without parameters whose metadata was modified by
    /// `change`.
    fn refusal(change: impl FnOnce(&mut tensors::Metadata)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut text = metadata(Variant::Tutorial, 2).to_text().unwrap();
        change(&mut text);
        tensors::write(&path, &text, &[]).unwrap();
        let error = Weights::load(&path).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error}");
        let error = error.to_string();
        let start = format!("{} is not a weights file: ", path.display());
        error.strip_prefix(&start).unwrap_or_else(|| panic!("{error}")).to_owned()
    }

    #[test]
    fn errors_name_missing_or_invalid_metadata() {
        for key in ["variant", "classes", "input_size", "mean", "std"] {
            let error = refusal(|text| drop(text.remove(key)));
            assert!(error.contains(&format!("lacks `{key}`")), "{error}");
        }
        for (key, value, reason) in [
            ("variant", "vgg", "unknown variant `vgg`; the variants are tutorial, "),
            ("classes", "daisy", "its `classes` is `daisy`: "),
            ("classes", "[]", "its list of classes is empty"),
            ("input_size", "-1", "its `input_size` is `-1`: "),
            ("input_size", "227", "its `input_size` is 227, but `tutorial` needs 224"),
            ("resize_crop", "many", "its `resize_crop` is `many`: "),
            ("resize_crop", "223", "its `resize_crop` is 223, but must be at least"),
            ("mean", "[0.5,0.5]", "its `mean` is `[0.5,0.5]`: "),
            ("mean", "[null,0.5,0.5]", "its `mean` is "),
            ("std", "[0.5,0.0,0.5]", "must be positive"),
            ("std", "[1e999,0.5,0.5]", "its `std` is "),
            (
                "exif_orientation",
                "turn",
                "its `exif_orientation` is `turn`, but must be apply or ignore",
            ),
        ] {
            let error = refusal(|text| drop(text.insert(key.into(), value.into())));
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn parameters_that_do_not_fit_are_listed() {
        let error = refusal(|_| ());
        assert!(error.contains("for `tutorial` with 2 classes"), "{error}");
        assert!(error.contains("  features.0.bias: expected [48], found none"), "{error}");

        // The metadata has three classes, the last layer two.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut wrong = weights(Variant::Tutorial, 2);
        wrong.metadata.classes.push("tulips".into());
        wrong.save(&path).unwrap();
        let error = Weights::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("  classifier.6.weight: expected [3, 2048], found [2, 2048]"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 3, "{error}");
    }

    /// Changes bytes of the numbers and text entries. A file without a checksum is still loaded.
    #[test]
    fn a_changed_file_is_detected_by_its_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let saved = weights(Variant::Tutorial, 2);
        saved.save(&path).unwrap();
        let good = fs::read(&path).unwrap();
        let body = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        let message = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Weights::load(&path).err().map(|error| error.to_string()).unwrap_or_default()
        };
        for at in [body, body + 4 * 48 * 363 + 1, (body + good.len()) / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let text = message(&bad);
            assert!(
                text.contains("w.safetensors has changed since it was written")
                    && text.contains("damaged"),
                "{text}"
            );
        }
        let replaced = |from: &str, to: &str| {
            let header = String::from_utf8(good[8..body].to_vec()).unwrap();
            assert!(header.matches(from).count() == 1 && from.len() == to.len());
            [&good[..8], header.replace(from, to).as_bytes(), &good[body..]].concat()
        };
        for (from, to) in
            [("nº 1", "nº 7"), ("0.485", "0.484"), ("crc32", "crc33"), ("tutorial", "original")]
        {
            assert!(message(&replaced(from, to)).contains("has changed since"), "{from}");
        }
        assert_eq!(message(&replaced("\"checksum\"", "\"checkxxx\"")), "");
    }

    #[test]
    fn other_files_are_refused() {
        let path = PathBuf::from("no/such/w.safetensors");
        let error = Weights::load(&path).unwrap_err();
        assert!(matches!(error, Error::Missing { expected: FileKind::Weights, .. }));
        assert_eq!(
            error.to_string(),
            "no/such/w.safetensors is not a weights file: there is no such file"
        );
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Weights::load(folder.path()), Err(Error::Io { .. })));
        fs::write(folder.path().join("w"), "daisy,0.9\n").unwrap();
        assert!(matches!(Weights::load(folder.path().join("w")), Err(Error::Format { .. })));
    }
}
