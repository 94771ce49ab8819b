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
    Dtype, SafeTensorError, SafeTensors,
    tensor::{TensorInfo, TensorView},
};
use serde::Serialize;

use crate::{
    Array, Error, Result,
    files::{each_block, write_atomically},
    text::shown,
};

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
    // The library's own words, in which names may be.
    let broken = |error: SafeTensorError| {
        let error = error.to_string();
        refuse(format!("{}; it is cut, damaged or no safetensors file: {missing}", shown(&error)))
    };
    let (_, head) = SafeTensors::read_metadata(&bytes).map_err(&broken)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(broken)?;
    let arrays =
        tensors.iter().map(|(name, view)| Ok((name.to_owned(), array(name, &view).map_err(&refuse)?)));
    let arrays = arrays.collect::<Result<_>>()?;
    Ok((head.metadata().clone().unwrap_or_default().into_iter().collect(), arrays))
}

fn array(name: &str, view: &TensorView) -> Result<Array, String> {
    if view.dtype() != Dtype::F32 {
        return Err(format!(
            "the tensor `{}` is {}, only F32 is read; save it as float32",
            shown(name),
            view.dtype()
        ));
    }
    let value = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    Ok(Array { shape: view.shape().to_vec(), values: view.data().chunks_exact(4).map(value).collect() })
}

#[cfg(test)]
mod tests {
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
        read(&path, "a test file", "write another").map_err(|error| {
            let text = error.to_string();
            assert!(matches!(error, Error::Format { .. }), "{text}");
            assert!(text.starts_with(&format!("{} is not a test file: ", path.display())), "{text}");
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
            assert!(error.contains("write another"), "{what}: {error}");
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
            let (read_metadata, read_tensors) = read(&path, "", "").unwrap();
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
