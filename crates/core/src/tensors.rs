//! Safetensors files: reads the header of any file, and reads and writes files with f32 tensors and
//! text metadata, the only kind that this project writes.
//!
//! The crate `safetensors` checks all shapes and offsets of a header. The numbers are read here,
//! since that crate needs the whole file in memory. Files are also written here: that crate stores
//! the metadata in a hash map, so its files differ between processes, while the files written here
//! depend only on their content.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    ops::Range,
    path::Path,
};

use safetensors::tensor::{Metadata as Checked, TensorInfo};
use serde::Serialize;

pub use safetensors::Dtype;

use crate::{
    Array, Error, FileKind, Result,
    files::{self, each_block, write_atomically},
    text::shown,
};

/// The text metadata of a file.
pub type Metadata = BTreeMap<String, String>;

/// The header of a file: its metadata and tensors. It is consistent with the length of the file.
#[derive(Debug)]
pub struct Header {
    /// The text metadata.
    pub metadata: Metadata,
    /// The tensors by name. Their bytes are contiguous in the file, without gaps.
    pub tensors: BTreeMap<String, Entry>,
}

/// A tensor of a file.
#[derive(Debug)]
pub struct Entry {
    /// The type of its elements.
    pub dtype: Dtype,
    /// The shape of the row-major tensor.
    pub shape: Vec<usize>,
    /// The range of its bytes in the file.
    pub bytes: Range<u64>,
}

/// The reason why a header is refused.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The file could not be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The header would extend beyond the end of the file.
    #[error(
        "its header extends beyond its end; it is truncated, damaged or not a safetensors file"
    )]
    Truncated,
    /// The header is longer than the reader accepts.
    #[error("its header has {bytes} bytes; the limit is {max_bytes}")]
    TooLong {
        /// The length of the header in bytes.
        bytes: u64,
        /// The limit in bytes.
        max_bytes: u64,
    },
    /// The header is not JSON, or its shapes and offsets contradict each other; the reason may
    /// contain names.
    #[error("its header is not valid ({0}); it is truncated, damaged or not a safetensors file")]
    Invalid(String),
    /// The length of the file differs from the size of the tensors in the header.
    #[error("its length differs from the size in its header: it is truncated or damaged")]
    Length,
}

impl Header {
    /// Reads the header at the start of a file of `length` bytes. A header of more than `max_bytes`
    /// bytes is refused.
    ///
    /// # Errors
    /// When it is not a valid header, or not consistent with the length of the file.
    pub fn read(mut file: impl Read, length: u64, max_bytes: u64) -> Result<Self, HeaderError> {
        let mut bytes = [0; 8];
        let left = length.checked_sub(bytes.len() as u64).ok_or(HeaderError::Truncated)?;
        file.read_exact(&mut bytes)?;
        let bytes = u64::from_le_bytes(bytes);
        if bytes > left {
            return Err(HeaderError::Truncated);
        }
        if bytes > max_bytes {
            return Err(HeaderError::TooLong { bytes, max_bytes });
        }
        let mut json = Vec::new();
        file.take(bytes).read_to_end(&mut json)?;
        let header: Checked = serde_json::from_slice(&json)
            .map_err(|error| HeaderError::Invalid(shown(&error.to_string()).to_string()))?;
        let start = length - (left - bytes);
        if header.data_len() as u64 != left - bytes {
            return Err(HeaderError::Length);
        }
        let entry = |info: &TensorInfo| {
            let (from, to) = info.data_offsets;
            Entry {
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes: start + from as u64..start + to as u64,
            }
        };
        Ok(Self {
            tensors: header.tensors().into_iter().map(|(name, info)| (name, entry(info))).collect(),
            metadata: header.metadata().clone().unwrap_or_default().into_iter().collect(),
        })
    }
}

/// A tensor with its name in the file.
pub type Named<'a> = (String, &'a Array);

#[derive(Serialize)]
struct HeaderText<'a> {
    #[serde(rename = "__metadata__")]
    metadata: &'a Metadata,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

/// Writes a file atomically. `tensors` must be sorted by name.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, metadata: &Metadata, tensors: &[Named]) -> Result<()> {
    write_atomically(path, |file| {
        file.write_all(&header(metadata, tensors)?)?;
        let mut body = tensors.iter().map(|(_, array)| &array.values);
        body.try_for_each(|values| each_block(values, |bytes| file.write_all(bytes)))
    })
}

/// Returns the length and the JSON of the header, padded to 8 bytes as in the reference
/// implementation.
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
    let mut json = serde_json::to_vec(&HeaderText { metadata, tensors })?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}

/// The maximum length of a header in the format, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Reads a whole file. All its tensors must be f32.
///
/// # Errors
/// [`Error::Missing`] when the file does not exist, [`Error::Format`] when it is not such a file,
/// [`Error::Io`] when it cannot be read.
pub fn read(path: &Path, expected: FileKind) -> Result<(Metadata, BTreeMap<String, Array>)> {
    let refuse = |reason: String| Error::Format { path: path.to_owned(), expected, reason };
    let (mut file, length) = files::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Missing { path: path.to_owned(), expected },
        _ => Error::io("read", path)(error),
    })?;
    let Header { metadata, tensors } =
        Header::read(&file, length, MAX_HEADER).map_err(|error| match error {
            HeaderError::Io(error) => Error::io("read", path)(error),
            other => refuse(other.to_string()),
        })?;
    if let Some((name, Entry { dtype, .. })) =
        tensors.iter().find(|(_, entry)| entry.dtype != Dtype::F32)
    {
        return Err(refuse(format!(
            "the tensor `{}` is {dtype}, only F32 is read; save it as float32",
            shown(name)
        )));
    }
    // In the order of their bytes in the file.
    let mut tensors: Vec<(String, Entry)> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, entry)| (entry.bytes.start, entry.bytes.end));
    let arrays = tensors.into_iter().map(|(name, entry)| {
        let values = numbers(&mut file, (entry.bytes.end - entry.bytes.start) as usize / 4)?;
        Ok((name, Array { shape: entry.shape, values }))
    });
    Ok((metadata, arrays.collect::<io::Result<_>>().map_err(Error::io("read", path))?))
}

/// Reads the next `count` numbers of a file.
fn numbers(file: &mut impl Read, count: usize) -> io::Result<Vec<f32>> {
    const BLOCK: usize = 1 << 14;
    let mut values = vec![0.0; count];
    let mut bytes = vec![0; 4 * BLOCK.min(count)];
    for block in values.chunks_mut(BLOCK) {
        let bytes = &mut bytes[..4 * block.len()];
        file.read_exact(bytes)?;
        for (value, bytes) in block.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Builds a file from the text of its header and its data. `length` replaces the true length of
    /// the header.
    fn file(length: Option<u64>, header: &str, data: &[u8]) -> Vec<u8> {
        let length = length.unwrap_or(header.len() as u64);
        [&length.to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn read_bytes(bytes: &[u8]) -> Result<(Metadata, BTreeMap<String, Array>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        fs::write(&path, bytes).unwrap();
        read(&path, FileKind::Weights).map_err(|error| {
            let text = error.to_string();
            assert!(matches!(error, Error::Format { .. }), "{text}");
            assert!(
                text.starts_with(&format!("{} is not a weights file: ", path.display())),
                "{text}"
            );
            text
        })
    }

    const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[test]
    fn a_plain_file_is_read() {
        let (metadata, tensors) =
            read_bytes(&file(None, ONE, &[0, 0, 128, 63, 0, 0, 0, 192])).unwrap();
        assert!(metadata.is_empty());
        assert_eq!(tensors["a"], Array { shape: vec![2], values: vec![1.0, -2.0] });
    }

    #[test]
    fn inconsistent_headers_are_refused() {
        let entry = |name: &str, shape: &str, from: usize, to: usize| {
            format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
        };
        let two = |a: String, b: String| format!("{{{a},{b}}}");
        for (what, bytes) in [
            ("empty", vec![]),
            ("shorter than its length field", vec![1, 2, 3]),
            ("a header of 2⁶⁴-1 bytes", file(Some(u64::MAX), ONE, &[0; 8])),
            ("a header of 99 MB", file(Some(99_000_000), ONE, &[0; 8])),
            ("a header one byte short", file(Some(ONE.len() as u64 - 1), ONE, &[0; 8])),
            ("truncated data", file(None, ONE, &[0; 7])),
            ("no data", file(None, ONE, &[])),
            ("trailing data", file(None, ONE, &[0; 9])),
            ("a JPEG", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00".to_vec()),
            ("not JSON", file(None, "{\"a\": tensor}", &[0; 8])),
            (
                "overlap",
                file(None, &two(entry("a", "[2]", 0, 8), entry("b", "[2]", 4, 12)), &[0; 12]),
            ),
            (
                "a gap",
                file(None, &two(entry("a", "[1]", 0, 4), entry("b", "[1]", 8, 12)), &[0; 12]),
            ),
            (
                "a name twice",
                file(None, &two(entry("a", "[1]", 0, 4), entry("a", "[1]", 4, 8)), &[0; 8]),
            ),
            ("offsets backwards", file(None, &format!("{{{}}}", entry("a", "[2]", 8, 0)), &[0; 8])),
            (
                "a shape of another size",
                file(None, &format!("{{{}}}", entry("a", "[3]", 0, 8)), &[0; 8]),
            ),
            (
                "a shape that overflows",
                file(
                    None,
                    &format!("{{{}}}", entry("a", "[4294967296,4294967296,2]", 0, 8)),
                    &[0; 8],
                ),
            ),
            ("a negative shape", file(None, &format!("{{{}}}", entry("a", "[-2]", 0, 8)), &[0; 8])),
        ] {
            let error = read_bytes(&bytes).expect_err(what);
            assert!(error.contains("it is truncated"), "{what}: {error}");
        }
    }

    #[test]
    fn errors_name_tensors_of_other_types() {
        let half = ONE.replace("F32", "F16").replace("[0,8]", "[0,4]");
        let error = read_bytes(&file(None, &half, &[0; 4])).unwrap_err();
        assert!(error.contains("`a` is F16, only F32 is read; save it as float32"), "{error}");
    }

    #[test]
    fn equal_content_gives_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let metadata: Metadata =
            (0..20).map(|i| (format!("key {i}"), format!("\"{i}\""))).collect();
        let [empty, scalar, long] = [vec![0, 3], vec![], vec![70_001]].map(|shape| Array {
            values: (0..shape.iter().product()).map(|i| i as f32).collect(),
            shape,
        });
        let tensors = vec![("a".into(), &empty), ("b".into(), &scalar), ("ü".into(), &long)];
        let [one, two] = ["one", "two"].map(|name| {
            let path = folder.path().join(name);
            write(&path, &metadata, &tensors).unwrap();
            let (read_metadata, read_tensors) = read(&path, FileKind::Weights).unwrap();
            assert_eq!(read_metadata, metadata);
            assert_eq!(
                read_tensors.iter().map(|(n, a)| (n.clone(), a)).collect::<Vec<_>>(),
                tensors
            );
            fs::read(&path).unwrap()
        });
        assert!(one == two);
        let length = u64::from_le_bytes(one[..8].try_into().unwrap()) as usize;
        assert!(length.is_multiple_of(8));
        let start = r#"{"__metadata__":{"key 0":"\"0\"","key 1":"\"1\"","key 10":"#;
        assert!(String::from_utf8_lossy(&one[8..]).starts_with(start));
    }
}
