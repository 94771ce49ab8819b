//! Tensor files (safetensors) with f32 tensors and text metadata.
//!
//! Reading is the crate `safetensors`, which checks every length and offset. Writing is here because that crate keeps the
//! metadata in a hash map: its files differ from one process to the next, ours are a function of their content.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
};

use safetensors::{
    Dtype, SafeTensors,
    tensor::{TensorInfo, TensorView},
};
use serde::Serialize;

use crate::{Array, Error, Result, files::write_atomically};

/// A file's text metadata.
pub(crate) type Metadata = BTreeMap<String, String>;

/// A tensor with its name in the file.
pub(crate) type Named<'a> = (String, &'a Array);

#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    metadata: &'a Metadata,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

/// Writes a file atomically; `tensors` must come in the order of their names.
pub(crate) fn write(path: &Path, metadata: &Metadata, tensors: &[Named]) -> Result<()> {
    write_atomically(path, |file| {
        file.write_all(&header(metadata, tensors)?)?;
        let mut body = tensors.iter().map(|(_, array)| &array.values);
        body.try_for_each(|values| each_block(values, |bytes| file.write_all(bytes)))
    })
}

/// Length and JSON, padded to 8 bytes as the reference implementation does.
fn header(metadata: &Metadata, tensors: &[Named]) -> io::Result<Vec<u8>> {
    let mut end = 0;
    let tensors = tensors
        .iter()
        .map(|(name, array)| {
            let start = end;
            end += size_of_val(array.values.as_slice());
            let shape = array.shape.clone();
            (name.as_str(), TensorInfo { dtype: Dtype::F32, shape, data_offsets: (start, end) })
        })
        .collect();
    let mut json = serde_json::to_vec(&Header { metadata, tensors })?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}

/// Hands the little-endian bytes of `values` to `sink`, a block at a time.
pub(crate) fn each_block<E>(values: &[f32], mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    const BLOCK: usize = 1 << 16;
    let mut bytes = vec![0; 4 * BLOCK.min(values.len())];
    for block in values.chunks(BLOCK) {
        for (four, value) in bytes.chunks_exact_mut(4).zip(block) {
            four.copy_from_slice(&value.to_le_bytes());
        }
        sink(&bytes[..4 * block.len()])?;
    }
    Ok(())
}

/// Reads a file whole. `expected` names its kind with its article, `missing` says what to do when there is none.
pub(crate) fn read(
    path: &Path,
    expected: &'static str,
    missing: &str,
) -> Result<(Metadata, BTreeMap<String, Array>)> {
    let refuse = |reason: String| Error::Format { path: path.to_owned(), expected, reason };
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refuse(format!("there is no such file; {missing}")),
        _ => Error::io("read", path)(error),
    })?;
    let broken = |error| refuse(format!("{error}; it is cut, damaged or no safetensors file: {missing}"));
    let (_, head) = SafeTensors::read_metadata(&bytes).map_err(&broken)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(broken)?;
    let arrays =
        tensors.iter().map(|(name, view)| Ok((name.to_owned(), array(name, &view).map_err(&refuse)?)));
    let arrays = arrays.collect::<Result<_>>()?;
    Ok((head.metadata().clone().unwrap_or_default().into_iter().collect(), arrays))
}

fn array(name: &str, view: &TensorView) -> Result<Array, String> {
    if view.dtype() != Dtype::F32 {
        return Err(format!("the tensor `{name}` is {}, only F32 is read; save it as float32", view.dtype()));
    }
    let value = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    Ok(Array { shape: view.shape().to_vec(), values: view.data().chunks_exact(4).map(value).collect() })
}
