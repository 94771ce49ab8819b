//! The two containers of `torch.save`: a zip archive (since PyTorch 1.6), and the older format of
//! pickles followed by raw numbers.
//!
//! For both, the result is the values that the pickle built, and the position of each storage in
//! the file.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use alexnet_core::{Result, text::shown};
use zip::{
    CompressionMethod, ZipArchive,
    read::{ArchiveOffset, Config},
};

use crate::{
    file::{Place, Source},
    pth::{
        METADATA,
        pickle::{MAX_BYTES, Pickle, Value},
    },
};

/// The content of a file of `torch.save`.
pub struct Saved {
    pub pickle: Pickle,
    pub value: Value,
    /// The position of each storage, by its key.
    pub places: BTreeMap<String, Place>,
    /// The metadata, if this crate wrote the file.
    pub metadata: Option<Vec<u8>>,
    /// The size of the file or of its decompressed entries, whichever is larger, in bytes.
    pub bytes: u64,
}

/// The maximum size of the list of entries of a zip archive, including the local headers, in bytes.
const MAX_DIRECTORY: u64 = 8 << 20;

/// The maximum decompressed size of entries, in bytes and as a multiple of the file size; the
/// larger limit applies.
const MAX_DECOMPRESSED: u64 = 64 << 20;
const MAX_RATIO: u64 = 16;

/// Reads a zip archive.
pub fn read_zip(source: &Source) -> Result<Saved, String> {
    let entries = entries(source)?;
    let (folder, pickle) = entries
        .iter()
        .find_map(|(name, place)| Some((name.strip_suffix("data.pkl")?, *place)))
        .filter(|(folder, _)| folder.is_empty() || folder.ends_with('/'))
        .ok_or("the archive has no data.pkl, so PyTorch did not write it")?;
    let entry = |name: &str| entries.get(&format!("{folder}{name}")).copied();
    if let Some(order) = entry("byteorder")
        && source.bytes(order, 16)? != b"little"
    {
        return Err("its numbers are big-endian; save it on a little-endian machine".into());
    }
    let bytes = source.bytes(pickle, MAX_BYTES)?;
    let (pickle, value, _) =
        Pickle::read(&bytes, 0).map_err(|reason| format!("its pickle is refused: {reason}"))?;
    let mut places = BTreeMap::new();
    for storage in &pickle.storages {
        let key = &storage.key;
        let place = entry(&format!("data/{key}"))
            .ok_or_else(|| format!("its storage `{key}` is missing"))?;
        if Some(place.bytes) != storage.elements.checked_mul(storage.dtype.size()) {
            return Err(format!(
                "its storage `{key}` should hold {} elements of {}, but has {} bytes",
                storage.elements, storage.dtype, place.bytes
            ));
        }
        places.insert(key.clone(), place);
    }
    let metadata = entry(METADATA).map(|place| source.bytes(place, MAX_BYTES)).transpose()?;
    let decompressed = entries.values().fold(0u64, |sum, place| sum.saturating_add(place.bytes));
    Ok(Saved { pickle, value, places, metadata, bytes: decompressed.max(source.bytes_in_all()) })
}

/// Returns the names and positions of all entries. They must not overlap. They are stored, as
/// `torch.save` writes them, or deflated, if the decompressed size is within the limits.
fn entries(source: &Source) -> Result<BTreeMap<String, Place>, String> {
    let broken = |error: zip::result::ZipError| {
        format!("it is truncated or damaged: {}", shown(&error.to_string()))
    };
    let reader = Limited { file: source.file(), left: MAX_DIRECTORY };
    // The archive starts at the start of the file, as in PyTorch's reader. If the library detects
    // the start, it skips a directory entry of 76 bytes, since the two ZIP64 records after the
    // directory have the same size.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, reader).map_err(broken)?;
    if archive.has_duplicate_names() {
        return Err("two entries of the archive have the same name".into());
    }
    if archive.file_names_raw().any(|name| name.ends_with(b"/constants.pkl")) {
        return Err(
            "it is a TorchScript program; in Python, `torch.save(model.state_dict(), …)` saves only its weights".into()
        );
    }
    let mut entries = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let deflated = match entry.compression() {
            _ if entry.encrypted() => {
                return Err(format!(
                    "its entry `{}` is encrypted, which PyTorch does not support",
                    shown(&name)
                ));
            }
            CompressionMethod::Stored if entry.size() == entry.compressed_size() => None,
            CompressionMethod::DEFLATE => Some(entry.compressed_size()),
            _ => {
                return Err(format!(
                    "its entry `{}` has a compression that PyTorch does not support; unpack it and pack it again with `zip -0`",
                    shown(&name)
                ));
            }
        };
        let start = entry
            .data_start()
            .ok_or_else(|| format!("its entry `{}` has no position", shown(&name)))?;
        entries.insert(
            name,
            Place { start, bytes: entry.size(), crc32: Some(entry.crc32()), deflated },
        );
    }
    let decompressed = entries.values().filter(|place| place.deflated.is_some());
    let decompressed = decompressed.fold(0u64, |sum, place| sum.saturating_add(place.bytes));
    if decompressed > MAX_DECOMPRESSED.max(source.bytes_in_all().saturating_mul(MAX_RATIO)) {
        return Err(format!(
            "its entries decompress to {decompressed} bytes, more than {MAX_RATIO} times its size; unpack it and pack it again with `zip -0`"
        ));
    }
    // With `torch.serialization.set_crc32_options(False)`, PyTorch writes no checksums.
    if entries.values().all(|place| place.crc32 == Some(0)) {
        entries.values_mut().for_each(|place| place.crc32 = None);
    }
    let mut in_order: Vec<(&String, &Place)> = entries.iter().collect();
    in_order.sort_by_key(|(_, place)| place.start);
    let mut end = 0;
    for (name, place) in in_order {
        if place.start < end {
            return Err(format!("its entry `{}` overlaps another one", shown(name)));
        }
        end = place.end().unwrap_or(u64::MAX);
        if end > source.bytes_in_all() {
            return Err(format!(
                "its entry `{}` extends beyond the end of the file: it is truncated",
                shown(name)
            ));
        }
    }
    Ok(entries)
}

/// A file of which a limited number of bytes can be read, so that a malicious list of entries
/// cannot be as long as the file.
struct Limited<'a> {
    file: &'a File,
    left: u64,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("its list of entries takes more than {MAX_DIRECTORY} bytes"),
            )
        })?;
        Ok(read)
    }
}

impl Seek for Limited<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// The numbers at the start of the older format: `torch.serialization.MAGIC_NUMBER` and
/// `PROTOCOL_VERSION`.
const MAGIC_NUMBER: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL_VERSION: i128 = 1001;

/// Whether the bytes `start` are the start of a file in the older format: a pickle of the magic
/// number, which is a `LONG1` of ten bytes.
pub fn is_legacy(start: &[u8]) -> bool {
    let number = [&[0x8a, 10], &MAGIC_NUMBER.to_le_bytes()[..10]].concat();
    start.first() == Some(&0x80) && start.windows(number.len()).any(|window| window == number)
}

/// Reads the older format: the magic number, the version, the byte order of the machine, the object
/// and the list of its storages, each as a pickle. Then for each storage the number of its elements
/// and the elements follow.
pub fn read_legacy(source: &Source) -> Result<Saved, String> {
    let bytes = source.start(MAX_BYTES)?;
    let mut at = 0;
    let mut next = |what: &str| {
        let (pickle, value, length) = Pickle::read(&bytes[at..], at)
            .map_err(|reason| format!("its {what} is refused: {reason}"))?;
        at += length;
        Ok::<_, String>((pickle, value, at as u64))
    };
    if next("magic number")?.1 != Value::Int(MAGIC_NUMBER) {
        return Err("it does not start with PyTorch's magic number".into());
    }
    if next("version")?.1 != Value::Int(PROTOCOL_VERSION) {
        return Err("it has an unknown version of PyTorch's format".into());
    }
    let (machine, value, _) = next("description of the machine")?;
    if let Value::Dict(place) = value
        && machine.dicts[place].iter().any(|(key, value)| {
            machine.text(*key) == Some("little_endian") && *value == Value::Bool(false)
        })
    {
        return Err("its numbers are big-endian; save it on a little-endian machine".into());
    }
    let (pickle, value, _) = next("pickle")?;
    let (keys, list, mut start) = next("list of storages")?;
    let Value::List(list) = list else { return Err("its list of storages is not a list".into()) };

    let mut places = BTreeMap::new();
    for key in &keys.lists[list] {
        let key = keys.name(*key)?;
        let storage = pickle.storages.iter().find(|storage| storage.key == key);
        let storage =
            storage.ok_or_else(|| format!("its storage `{key}` is not described in its pickle"))?;
        let count = source.bytes(Place::stored(start, 8), 8)?;
        if count != storage.elements.to_le_bytes() {
            return Err(format!(
                "its storage `{key}` does not hold the expected {} elements",
                storage.elements
            ));
        }
        let bytes = storage.elements.checked_mul(storage.dtype.size());
        let bytes = bytes.filter(|bytes| source.bytes_in_all() - start - 8 >= *bytes);
        let bytes = bytes.ok_or_else(|| {
            format!("its storage `{key}` extends beyond the end of the file: it is truncated")
        })?;
        if places.insert(key.to_owned(), Place::stored(start + 8, bytes)).is_some() {
            return Err(format!("its storage `{key}` is listed twice"));
        }
        start += 8 + bytes;
    }
    Ok(Saved { pickle, value, places, metadata: None, bytes: source.bytes_in_all() })
}
