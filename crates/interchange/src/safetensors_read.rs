//! safetensors by any writer: the header alone, so that numbers are read only when they fit.

use std::collections::BTreeMap;

use alexnet_core::text::shown;
use safetensors::{Dtype as Type, tensor::Metadata};

use crate::{
    file::Source,
    pickle::Dtype,
    tensor::{Place, View},
};

/// A header may be this long.
const MAX_HEADER: usize = 16 << 20;

/// Tensors by name, and the text entries.
pub type Content = (BTreeMap<String, View>, BTreeMap<String, String>);

/// Reads a header.
///
/// # Errors
/// In words, when it is none or does not fit the file.
pub fn read(source: &Source) -> Result<Content, String> {
    let length = source.bytes(Place::stored(0, 8), 8)?;
    let length = length.try_into().map_or(u64::MAX, u64::from_le_bytes);
    let start = length.saturating_add(8);
    let header = source.bytes(Place::stored(8, length), MAX_HEADER)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|error| format!("its header is not valid: {}", shown(&error.to_string())))?;
    if start.checked_add(header.data_len() as u64) != Some(source.bytes_in_all()) {
        return Err("it does not hold as many bytes as its header says: it is cut or damaged".into());
    }
    let views = header.tensors().into_iter().map(|(name, info)| {
        let (from, to) = info.data_offsets;
        let place = Place::stored(start + from as u64, (to - from) as u64);
        (name, View::contiguous(dtype(info.dtype), place, info.shape.clone()))
    });
    Ok((views.collect(), header.metadata().clone().unwrap_or_default().into_iter().collect()))
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
