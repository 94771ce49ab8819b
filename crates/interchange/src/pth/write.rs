//! Writes files that `torch.load` reads with `weights_only=True`, its default: an archive of
//! uncompressed entries with a pickle of an `OrderedDict` of tensors. The bytes do not depend on
//! the time, the machine or the name of the file.

use std::{collections::BTreeMap, fs::File, io::Write};

use alexnet_core::{Array, files::each_block};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use crate::{pth::METADATA, tensor::contiguous_strides};

/// The folder in the archive. PyTorch names it after the file, but reads any name.
const FOLDER: &str = "archive";

/// Writes an archive. `parameters` are in the order of the dictionary.
pub fn write(
    file: &mut File,
    parameters: &[(&str, &Array)],
    metadata: &BTreeMap<String, String>,
) -> std::io::Result<()> {
    // Aligned to 64 bytes as in PyTorch, so that the numbers can be mapped into memory.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644)
        .with_alignment(64);
    let mut archive = ZipWriter::new(file);
    let mut entry =
        |name: &str, content: &mut dyn FnMut(&mut ZipWriter<&mut File>) -> std::io::Result<()>| {
            archive.start_file(format!("{FOLDER}/{name}"), options)?;
            content(&mut archive)
        };
    entry("data.pkl", &mut |out| out.write_all(&pickle(parameters)))?;
    entry("byteorder", &mut |out| out.write_all(b"little"))?;
    for (key, (_, array)) in parameters.iter().enumerate() {
        entry(&format!("data/{key}"), &mut |out| {
            each_block(&array.values, |bytes| out.write_all(bytes))
        })?;
    }
    entry("version", &mut |out| out.write_all(b"3\n"))?;
    let metadata = serde_json::to_vec_pretty(metadata)?;
    entry(METADATA, &mut |out| out.write_all(&metadata))?;
    archive.finish()?;
    Ok(())
}

/// Returns a pickle in protocol 2 of an `OrderedDict` of `torch._utils._rebuild_tensor_v2(storage,
/// 0, shape, strides, False, OrderedDict())`.
fn pickle(parameters: &[(&str, &Array)]) -> Vec<u8> {
    let mut p = Pickler(vec![0x80, 2]);
    p.global("collections", "OrderedDict").op(b")R(");
    for (key, (name, array)) in parameters.iter().enumerate() {
        p.text(name).global("torch._utils", "_rebuild_tensor_v2").op(b"((");
        p.text("storage").global("torch", "FloatStorage").text(&key.to_string()).text("cpu");
        p.int(array.values.len() as u64).op(b"tQ");
        let shape = array.shape.iter().map(|extent| *extent as u64);
        p.int(0).tuple(shape).tuple(contiguous_strides(&array.shape)).op(b"\x89");
        p.global("collections", "OrderedDict").op(b")RtR");
    }
    p.op(b"u.");
    p.0
}

struct Pickler(Vec<u8>);

impl Pickler {
    fn op(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    /// Writes a string (`BINUNICODE`).
    fn text(&mut self, text: &str) -> &mut Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }

    /// Writes an integer (`LONG1`, which allows any size).
    fn int(&mut self, number: u64) -> &mut Self {
        self.op(&[0x8a, 9]).op(&number.to_le_bytes()).op(&[0])
    }

    fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    fn tuple(&mut self, numbers: impl IntoIterator<Item = u64>) -> &mut Self {
        self.op(b"(");
        for number in numbers {
            self.int(number);
        }
        self.op(b"t")
    }
}
