//! Checkpoints: everything that a resumed run needs, in one file, which is replaced atomically.
//!
//! A checkpoint is a safetensors file with the tensors `parameters/NAME`, `moments/NAME` and
//! `average/NAME`. Its metadata contains the progress as JSON and a CRC-32 over all content, so
//! that corrupted files are detected before training continues.

use std::{convert::Infallible, path::Path};

use crc32fast::Hasher;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Array, Error, FileKind, Result, State,
    files::each_block,
    tensors::{self, Metadata, Named},
    text::shown,
};

const PARAMETERS: &str = "parameters/";
const MOMENTS: &str = "moments/";
const AVERAGE: &str = "average/";

/// Replaces the checkpoint at `path`, atomically.
///
/// # Errors
/// [`Error::Io`].
pub fn save<P: Serialize>(path: impl AsRef<Path>, state: &State, progress: &P) -> Result<()> {
    let path = path.as_ref();
    let progress =
        serde_json::to_string(progress).map_err(|error| Error::io("write", path)(error.into()))?;
    write(path, state, progress)
}

/// Does the part of [`save`] that is not generic. It is compiled once, in this crate, which is also
/// optimized for tests.
fn write(path: &Path, state: &State, progress: String) -> Result<()> {
    let named = |prefix: &'static str| move |(name, array)| (format!("{prefix}{name}"), array);
    // In the order of the names.
    let tensors: Vec<Named> = state
        .average
        .iter()
        .map(named(AVERAGE))
        .chain(state.moments.iter().map(named(MOMENTS)))
        .chain(state.parameters.iter().map(named(PARAMETERS)))
        .collect();
    let checksum = checksum(&progress, tensors.iter().map(|(name, array)| (name.as_str(), *array)));
    let metadata = Metadata::from([
        ("progress".into(), progress),
        ("crc32".into(), format!("{checksum:08x}")),
    ]);
    tensors::write(path, &metadata, &tensors)
}

/// Reads a checkpoint.
///
/// # Errors
/// [`Error::Missing`] when the file does not exist, [`Error::Format`] when it is not a checkpoint
/// or is damaged, [`Error::Io`] when it cannot be read.
pub fn load<P: DeserializeOwned>(path: impl AsRef<Path>) -> Result<(State, P)> {
    let path = path.as_ref();
    let (state, progress) = read(path)?;
    let progress = serde_json::from_str(&progress).map_err(|error| {
        let error = error.to_string();
        refuse(path, format!("its progress was written by another version ({})", shown(&error)))
    })?;
    Ok((state, progress))
}

fn refuse(path: &Path, reason: String) -> Error {
    Error::Format { path: path.to_owned(), expected: FileKind::Checkpoint, reason }
}

/// Does the part of [`load`] that is not generic, as [`write`] does for [`save`]. Returns the
/// progress as JSON.
fn read(path: &Path) -> Result<(State, String)> {
    let (mut metadata, tensors) = tensors::read(path, FileKind::Checkpoint)?;
    let refuse = |reason| refuse(path, reason);
    let mut entry = |key: &str| {
        metadata.remove(key).ok_or_else(|| refuse(format!("its metadata lacks `{key}`")))
    };

    let (progress, written) = (entry("progress")?, entry("crc32")?);
    let found = checksum(&progress, tensors.iter().map(|(name, array)| (name.as_str(), array)));
    if written != format!("{found:08x}") {
        return Err(refuse(format!(
            "its content has changed since it was written (checksum {}, now {found:08x}); it was damaged on the disk or \
             during a copy",
            shown(&written)
        )));
    }

    let mut state = State::default();
    for (name, array) in tensors {
        if let Some(parameter) = name.strip_prefix(PARAMETERS) {
            state.parameters.insert(parameter.to_owned(), array);
        } else if let Some(moment) = name.strip_prefix(MOMENTS) {
            state.moments.insert(moment.to_owned(), array);
        } else if let Some(parameter) = name.strip_prefix(AVERAGE) {
            state.average.insert(parameter.to_owned(), array);
        } else {
            return Err(refuse(format!(
                "the tensor `{}` is not a parameter, a moment or an average",
                shown(&name)
            )));
        }
    }
    Ok((state, progress))
}

/// Returns the CRC-32 over the progress and over each tensor's name, shape and bytes, in the order
/// of the names.
fn checksum<'a>(progress: &str, tensors: impl Iterator<Item = (&'a str, &'a Array)>) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(progress.as_bytes());
    for (name, array) in tensors {
        hasher.update(format!("{name}{:?}", array.shape).as_bytes());
        let Ok(()) = each_block(&array.values, |bytes| {
            hasher.update(bytes);
            Ok::<_, Infallible>(())
        });
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::PathBuf};

    use super::*;

    fn state() -> State {
        let array = |shape: &[usize], start: u8| Array {
            values: (0..shape.iter().product())
                .map(|i| f32::from(start) + i as f32 / 7.0)
                .collect(),
            shape: shape.to_vec(),
        };
        State {
            parameters: BTreeMap::from([
                ("a.bias".into(), array(&[3], 1)),
                ("a.weight".into(), array(&[3, 2], 2)),
            ]),
            moments: BTreeMap::from([
                ("a.bias.exp_avg".into(), array(&[3], 3)),
                ("a.bias.exp_avg_sq".into(), array(&[3], 4)),
                ("a.weight.exp_avg".into(), array(&[3, 2], 5)),
                ("a.weight.exp_avg_sq".into(), array(&[3, 2], 6)),
            ]),
            average: BTreeMap::from([
                ("a.bias".into(), array(&[3], 7)),
                ("a.weight".into(), array(&[3, 2], 8)),
            ]),
        }
    }

    fn progress() -> BTreeMap<String, f64> {
        BTreeMap::from([("epoch".into(), 3.0), ("loss".into(), 0.1 + 0.2)])
    }

    type Loaded = Result<(State, BTreeMap<String, f64>)>;

    fn saved() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        save(&path, &state(), &progress()).unwrap();
        (folder, path)
    }

    #[test]
    fn a_saved_checkpoint_is_loaded() {
        let (_folder, path) = saved();
        let loaded: Loaded = load(&path);
        assert_eq!(loaded.unwrap(), (state(), progress()));
        let fresh = State { parameters: state().parameters, ..State::default() };
        save(&path, &fresh, &progress()).unwrap();
        let loaded: Loaded = load(&path);
        assert_eq!(loaded.unwrap().0, fresh);
    }

    /// Flips every bit of the file. Only changes without an effect on the content may pass.
    #[test]
    fn every_flipped_bit_is_detected() {
        let (_folder, path) = saved();
        let good = fs::read(&path).unwrap();
        let mut caught_by_checksum = 0;
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            let loaded: Loaded = load(&path);
            match loaded {
                Ok(content) => {
                    // Whitespace between JSON tokens became other whitespace.
                    assert_eq!(content, (state(), progress()), "bit {bit}");
                    assert!(good[bit / 8].is_ascii_whitespace(), "bit {bit}");
                }
                Err(error) => {
                    assert!(matches!(error, Error::Format { .. }), "{error}");
                    caught_by_checksum +=
                        usize::from(error.to_string().contains("has changed since"));
                }
            }
        }
        let State { parameters, moments, average } = state();
        let arrays = parameters.values().chain(moments.values()).chain(average.values());
        let data: usize = arrays.map(|array| array.values.len()).sum();
        assert!(caught_by_checksum > 32 * data, "{caught_by_checksum}");
    }

    #[test]
    fn other_files_are_refused() {
        let (folder, path) = saved();
        let message = |path: &Path| {
            let loaded: Result<(State, u64)> = load(path);
            let error = loaded.unwrap_err().to_string();
            assert!(error.contains(" is not a checkpoint: "), "{error}");
            error
        };
        assert!(message(&path).contains("another version"));
        assert!(message(&folder.path().join("none")).contains("there is no such file"));
        let good = fs::read(&path).unwrap();
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(message(&path).contains("truncated"));

        tensors::write(&path, &Metadata::new(), &[]).unwrap();
        assert!(message(&path).contains("lacks `progress`"));
        let metadata = |checksum| {
            Metadata::from([
                ("progress".into(), "1".into()),
                ("crc32".into(), format!("{checksum:08x}")),
            ])
        };
        let array = Array::filled(&[1], 0.0);
        let checksum = checksum("1", [("else", &array)].into_iter());
        tensors::write(&path, &metadata(checksum), &[("else".into(), &array)]).unwrap();
        assert!(message(&path).contains("`else` is not a parameter"));
    }
}
