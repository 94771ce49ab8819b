//! A checkpoint: all that a resumed run needs, in one file, so that it is replaced as a whole or not at all.
//!
//! It is a safetensors file with the tensors `parameters/NAME` and `moments/NAME` and, in its metadata, the progress as
//! JSON and a CRC-32 over everything. A disk that returns other bytes than were written is found before training goes on.

use std::{convert::Infallible, path::Path};

use crc32fast::Hasher;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Array, Error, Result, State,
    tensors::{self, Metadata, Named},
};

const EXPECTED: &str = "a checkpoint";
const MISSING: &str = "start the run anew, or resume another";

const PARAMETERS: &str = "parameters/";
const MOMENTS: &str = "moments/";

/// Replaces the checkpoint at `path`, atomically.
///
/// # Errors
/// [`Error::Io`].
pub fn save<P: Serialize>(path: impl AsRef<Path>, state: &State, progress: &P) -> Result<()> {
    let path = path.as_ref();
    let progress = serde_json::to_string(progress).map_err(|error| Error::io("write", path)(error.into()))?;
    let named = |prefix: &'static str| move |(name, array)| (format!("{prefix}{name}"), array);
    // `moments/` sorts before `parameters/`.
    let tensors: Vec<Named> = state
        .moments
        .iter()
        .map(named(MOMENTS))
        .chain(state.parameters.iter().map(named(PARAMETERS)))
        .collect();
    let checksum = checksum(&progress, tensors.iter().map(|(name, array)| (name.as_str(), *array)));
    let metadata =
        Metadata::from([("progress".into(), progress), ("crc32".into(), format!("{checksum:08x}"))]);
    tensors::write(path, &metadata, &tensors)
}

/// Reads a checkpoint.
///
/// # Errors
/// [`Error::Format`] when the file is missing, no checkpoint, or damaged; [`Error::Io`] when it cannot be read at all.
pub fn load<P: DeserializeOwned>(path: impl AsRef<Path>) -> Result<(State, P)> {
    let path = path.as_ref();
    let (metadata, tensors) = tensors::read(path, EXPECTED, MISSING)?;
    let refuse = |reason| Error::Format { path: path.to_owned(), expected: EXPECTED, reason };
    let entry =
        |key: &str| metadata.get(key).ok_or_else(|| refuse(format!("its metadata lacks `{key}`; {MISSING}")));

    let (progress, written) = (entry("progress")?, entry("crc32")?);
    let found = checksum(progress, tensors.iter().map(|(name, array)| (name.as_str(), array)));
    if *written != format!("{found:08x}") {
        return Err(refuse(format!(
            "its content has changed since it was written (checksum {written}, now {found:08x}), so the disk or a copy is at \
             fault; {MISSING}"
        )));
    }
    let progress = serde_json::from_str(progress)
        .map_err(|error| refuse(format!("its progress is of another version ({error}); {MISSING}")))?;

    let mut state = State::default();
    for (name, array) in tensors {
        if let Some(parameter) = name.strip_prefix(PARAMETERS) {
            state.parameters.insert(parameter.to_owned(), array);
        } else if let Some(moment) = name.strip_prefix(MOMENTS) {
            state.moments.insert(moment.to_owned(), array);
        } else {
            return Err(refuse(format!("the tensor `{name}` is neither parameter nor moment; {MISSING}")));
        }
    }
    Ok((state, progress))
}

/// CRC-32 over the progress and, in the order of their names, each tensor's name, shape and bytes.
fn checksum<'a>(progress: &str, tensors: impl Iterator<Item = (&'a str, &'a Array)>) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(progress.as_bytes());
    for (name, array) in tensors {
        hasher.update(format!("{name}{:?}", array.shape).as_bytes());
        let Ok(()) = tensors::each_block(&array.values, |bytes| {
            hasher.update(bytes);
            Ok::<_, Infallible>(())
        });
    }
    hasher.finalize()
}
