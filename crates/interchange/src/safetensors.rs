//! Reads the header of safetensors files of any writer. The numbers are read later, after the
//! shapes are checked.

use std::{collections::BTreeMap, io::Seek};

use alexnet_core::tensors::{Dtype as Type, Header};

use crate::{
    file::{Place, Source, read_error},
    tensor::{Dtype, View},
};

/// The maximum length of a header, in bytes.
const MAX_HEADER: u64 = 16 << 20;

/// The tensors by name, and the text metadata.
pub type Content = (BTreeMap<String, View>, BTreeMap<String, String>);

/// Reads a header.
///
/// # Errors
/// A message when it is not a valid header or is not consistent with the file.
pub fn read(source: &Source) -> Result<Content, String> {
    let mut file = source.file();
    file.rewind().map_err(read_error)?;
    let Header { metadata, tensors } =
        Header::read(file, source.bytes_in_all(), MAX_HEADER).map_err(|error| error.to_string())?;
    let views = tensors.into_iter().map(|(name, entry)| {
        let place = Place::stored(entry.bytes.start, entry.bytes.end - entry.bytes.start);
        (name, View::contiguous(dtype(entry.dtype), place, entry.shape))
    });
    Ok((views.collect(), metadata))
}

fn dtype(dtype: Type) -> Dtype {
    match dtype {
        Type::F16 => Dtype::F16,
        Type::BF16 => Dtype::BF16,
        Type::F32 => Dtype::F32,
        Type::F64 => Dtype::F64,
        Type::I64 | Type::U64 => Dtype::Other("64-bit integers", 8),
        _ => Dtype::Other("numbers that are not float16, bfloat16, float32 or float64", 1),
    }
}
