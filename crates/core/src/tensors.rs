//! Tensor files (safetensors): the header of any of them, and whole files with f32 tensors and text metadata, which ours are.
//!
//! The crate `safetensors` checks every shape and offset of a header. Numbers are read here, since that crate needs the whole file in
//! memory; and files are written here, since it keeps the metadata in a hash map: its files differ from one process to the next, ours
//! are a function of their content.

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

/// A file's text metadata.
pub type Metadata = BTreeMap<String, String>;

/// What a file holds and where. It agrees with the length of the file; no number has been read.
#[derive(Debug)]
pub struct Header {
    /// The text entries.
    pub metadata: Metadata,
    /// The tensors by name. They lie one after the other, without gaps.
    pub tensors: BTreeMap<String, Entry>,
}

/// A tensor in a file.
#[derive(Debug)]
pub struct Entry {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its extents, of a row-major tensor.
    pub shape: Vec<usize>,
    /// Its bytes in the file.
    pub bytes: Range<u64>,
}

/// Why a header was refused.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The file could not be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The header would go beyond the end of the file.
    #[error("its header goes beyond its end; it is cut, damaged or no safetensors file")]
    Cut,
    /// The header is longer than the reader accepts.
    #[error("its header has {bytes} bytes, and {most} is the most")]
    TooLong {
        /// Its bytes.
        bytes: u64,
        /// The most that are read.
        most: u64,
    },
    /// The header is not JSON, or its shapes and offsets contradict each other; the reason may contain names.
    #[error("its header is not valid ({0}); it is cut, damaged or no safetensors file")]
    Invalid(String),
    /// The tensors of the header do not fill the file.
    #[error("it does not hold as many bytes as its header says: it is cut or damaged")]
    Length,
}

impl Header {
    /// Reads the header of a file that has `length` bytes, from its start. One of more than `most` bytes is refused.
    ///
    /// # Errors
    /// When it is no header, or does not agree with the length of the file.
    pub fn read(mut file: impl Read, length: u64, most: u64) -> Result<Self, HeaderError> {
        let mut bytes = [0; 8];
        let left = length.checked_sub(bytes.len() as u64).ok_or(HeaderError::Cut)?;
        file.read_exact(&mut bytes)?;
        let bytes = u64::from_le_bytes(bytes);
        if bytes > left {
            return Err(HeaderError::Cut);
        }
        if bytes > most {
            return Err(HeaderError::TooLong { bytes, most });
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
pub(crate) type Named<'a> = (String, &'a Array);

#[derive(Serialize)]
struct HeaderText<'a> {
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
    let mut json = serde_json::to_vec(&HeaderText { metadata, tensors })?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}

/// The longest header of the format.
const MAX_HEADER: u64 = 100_000_000;

/// Reads a file whole; all its tensors must be f32.
pub(crate) fn read(path: &Path, expected: FileKind) -> Result<(Metadata, BTreeMap<String, Array>)> {
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
    if let Some((name, Entry { dtype, .. })) = tensors.iter().find(|(_, entry)| entry.dtype != Dtype::F32) {
        return Err(refuse(format!(
            "the tensor `{}` is {dtype}, only F32 is read; save it as float32",
            shown(name)
        )));
    }
    // As they lie in the file.
    let mut tensors: Vec<(String, Entry)> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, entry)| (entry.bytes.start, entry.bytes.end));
    let arrays = tensors.into_iter().map(|(name, entry)| {
        let values = numbers(&mut file, (entry.bytes.end - entry.bytes.start) as usize / 4)?;
        Ok((name, Array { shape: entry.shape, values }))
    });
    Ok((metadata, arrays.collect::<io::Result<_>>().map_err(Error::io("read", path))?))
}

/// The next `count` numbers of a file.
fn numbers(file: &mut impl Read, count: usize) -> io::Result<Vec<f32>> {
    const BLOCK: usize = 1 << 14;
    let mut values = vec![0.0; count];
    let mut bytes = vec![0; 4 * BLOCK.min(count)];
    for block in values.chunks_mut(BLOCK) {
        let bytes = &mut bytes[..4 * block.len()];
        file.read_exact(bytes)?;
        for (value, four) in block.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*four);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A file from its header's text and its data, with the length of the header or another one.
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
            assert!(text.starts_with(&format!("{} is not a weights file: ", path.display())), "{text}");
            text
        })
    }

    const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[test]
    fn a_plain_file_is_read() {
        let (metadata, tensors) = read_bytes(&file(None, ONE, &[0, 0, 128, 63, 0, 0, 0, 192])).unwrap();
        assert!(metadata.is_empty());
        assert_eq!(tensors["a"], Array { shape: vec![2], values: vec![1.0, -2.0] });
    }

    #[test]
    fn headers_that_lie_are_refused() {
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
            ("cut data", file(None, ONE, &[0; 7])),
            ("no data", file(None, ONE, &[])),
            ("trailing data", file(None, ONE, &[0; 9])),
            ("a JPEG", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00".to_vec()),
            ("no JSON", file(None, "{\"a\": tensor}", &[0; 8])),
            ("overlap", file(None, &two(entry("a", "[2]", 0, 8), entry("b", "[2]", 4, 12)), &[0; 12])),
            ("a gap", file(None, &two(entry("a", "[1]", 0, 4), entry("b", "[1]", 8, 12)), &[0; 12])),
            ("a name twice", file(None, &two(entry("a", "[1]", 0, 4), entry("a", "[1]", 4, 8)), &[0; 8])),
            ("offsets backwards", file(None, &format!("{{{}}}", entry("a", "[2]", 8, 0)), &[0; 8])),
            ("a shape of other size", file(None, &format!("{{{}}}", entry("a", "[3]", 0, 8)), &[0; 8])),
            (
                "a shape that overflows",
                file(None, &format!("{{{}}}", entry("a", "[4294967296,4294967296,2]", 0, 8)), &[0; 8]),
            ),
            ("a negative shape", file(None, &format!("{{{}}}", entry("a", "[-2]", 0, 8)), &[0; 8])),
        ] {
            let error = read_bytes(&bytes).expect_err(what);
            assert!(error.contains("it is cut"), "{what}: {error}");
        }
    }

    #[test]
    fn other_types_are_refused_by_name() {
        let half = ONE.replace("F32", "F16").replace("[0,8]", "[0,4]");
        let error = read_bytes(&file(None, &half, &[0; 4])).unwrap_err();
        assert!(error.contains("`a` is F16, only F32 is read; save it as float32"), "{error}");
    }

    #[test]
    fn bytes_are_a_function_of_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let metadata: Metadata = (0..20).map(|i| (format!("key {i}"), format!("\"{i}\""))).collect();
        let [empty, scalar, long] = [vec![0, 3], vec![], vec![70_001]]
            .map(|shape| Array { values: (0..shape.iter().product()).map(|i| i as f32).collect(), shape });
        let tensors = vec![("a".into(), &empty), ("b".into(), &scalar), ("ü".into(), &long)];
        let [one, two] = ["one", "two"].map(|name| {
            let path = folder.path().join(name);
            write(&path, &metadata, &tensors).unwrap();
            let (read_metadata, read_tensors) = read(&path, FileKind::Weights).unwrap();
            assert_eq!(read_metadata, metadata);
            assert_eq!(read_tensors.iter().map(|(n, a)| (n.clone(), a)).collect::<Vec<_>>(), tensors);
            fs::read(&path).unwrap()
        });
        assert!(one == two);
        let length = u64::from_le_bytes(one[..8].try_into().unwrap()) as usize;
        assert!(length.is_multiple_of(8));
        let start = r#"{"__metadata__":{"key 0":"\"0\"","key 1":"\"1\"","key 10":"#;
        assert!(String::from_utf8_lossy(&one[8..]).starts_with(start));
    }
}
