//! The two containers of `torch.save`: a zip archive (since PyTorch 1.6), and before that pickles followed by raw numbers.
//!
//! Both come down to the same: what the pickle built, and for each storage its place in the file.

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
    /// Of each storage, by its key.
    pub places: BTreeMap<String, Place>,
    /// What this crate put beside the tensors, if it wrote the file.
    pub metadata: Option<Vec<u8>>,
    /// The bytes of the file, or those of its entries unpacked, if they are more.
    pub bytes: u64,
}

/// A zip archive's list of entries may take this many bytes, their local headers included.
const MAX_DIRECTORY: u64 = 8 << 20;

/// Deflated entries may unfold to this many bytes, or to so many times the file's.
const MAX_UNFOLDED: u64 = 64 << 20;
const MAX_RATIO: u64 = 16;

/// Reads a zip archive.
pub fn read_zip(source: &Source) -> Result<Saved, String> {
    let entries = entries(source)?;
    let (folder, pickle) = entries
        .iter()
        .find_map(|(name, place)| Some((name.strip_suffix("data.pkl")?, *place)))
        .filter(|(folder, _)| folder.is_empty() || folder.ends_with('/'))
        .ok_or("the archive holds no data.pkl, so it is none of PyTorch's")?;
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
        let place = entry(&format!("data/{key}")).ok_or_else(|| format!("its storage `{key}` is missing"))?;
        if Some(place.bytes) != storage.elements.checked_mul(storage.dtype.size()) {
            return Err(format!(
                "its storage `{key}` should hold {} elements of {}, but has {} bytes",
                storage.elements, storage.dtype, place.bytes
            ));
        }
        places.insert(key.clone(), place);
    }
    let metadata = entry(METADATA).map(|place| source.bytes(place, MAX_BYTES)).transpose()?;
    let unfolded = entries.values().fold(0u64, |sum, place| sum.saturating_add(place.bytes));
    Ok(Saved { pickle, value, places, metadata, bytes: unfolded.max(source.bytes_in_all()) })
}

/// Name and place of all entries. They lie one after the other and are stored as they are, as `torch.save` writes them, or
/// deflated, but not so that a small file unfolds to a large one.
fn entries(source: &Source) -> Result<BTreeMap<String, Place>, String> {
    let broken =
        |error: zip::result::ZipError| format!("it is cut or damaged: {}", shown(&error.to_string()));
    let reader = Limited { file: source.file(), left: MAX_DIRECTORY };
    // The archive begins where the file does, as PyTorch's own reader has it. Where it is left to the library to find out, an entry
    // of 76 bytes in the directory is skipped: as many as the two records of the newer format have that stand behind it.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, reader).map_err(broken)?;
    if archive.has_duplicate_names() {
        return Err("two entries of the archive have the same name".into());
    }
    if archive.file_names_raw().any(|name| name.ends_with(b"/constants.pkl")) {
        return Err(
            "it is a program of TorchScript; in Python, `torch.save(model.state_dict(), …)` saves its weights alone".into()
        );
    }
    let mut entries = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let deflated = match entry.compression() {
            _ if entry.encrypted() => {
                return Err(format!("its entry `{}` is encrypted, which PyTorch never does", shown(&name)));
            }
            CompressionMethod::Stored if entry.size() == entry.compressed_size() => None,
            CompressionMethod::DEFLATE => Some(entry.compressed_size()),
            _ => {
                return Err(format!(
                    "its entry `{}` is compressed in a way that PyTorch does not know; unpack it and pack it anew with `zip -0`",
                    shown(&name)
                ));
            }
        };
        let start = entry.data_start().ok_or_else(|| format!("its entry `{}` has no place", shown(&name)))?;
        entries.insert(name, Place { start, bytes: entry.size(), crc32: Some(entry.crc32()), deflated });
    }
    let unfolded = entries.values().filter(|place| place.deflated.is_some());
    let unfolded = unfolded.fold(0u64, |sum, place| sum.saturating_add(place.bytes));
    if unfolded > MAX_UNFOLDED.max(source.bytes_in_all().saturating_mul(MAX_RATIO)) {
        return Err(format!(
            "its entries unfold to {unfolded} bytes, more than {MAX_RATIO} times the file's; unpack it and pack it anew with `zip -0`"
        ));
    }
    // `torch.serialization.set_crc32_options(False)` leaves all checksums out.
    if entries.values().all(|place| place.crc32 == Some(0)) {
        entries.values_mut().for_each(|place| place.crc32 = None);
    }
    let mut in_order: Vec<(&String, &Place)> = entries.iter().collect();
    in_order.sort_by_key(|(_, place)| place.start);
    let mut free = 0;
    for (name, place) in in_order {
        if place.start < free {
            return Err(format!("its entry `{}` overlaps another one", shown(name)));
        }
        free = place.end().unwrap_or(u64::MAX);
        if free > source.bytes_in_all() {
            return Err(format!("its entry `{}` goes beyond the file's end: it is cut", shown(name)));
        }
    }
    Ok(entries)
}

/// A file of which only so much is read: lists as long as the file are no archive's.
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

/// The numbers at the start of the older container: `torch.serialization.MAGIC_NUMBER` and `PROTOCOL_VERSION`.
const MAGIC_NUMBER: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL_VERSION: i128 = 1001;

/// Whether `start`, some bytes, is that of the older container: a pickle of the magic number, a `LONG1` of ten bytes.
pub fn is_legacy(start: &[u8]) -> bool {
    let number = [&[0x8a, 10], &MAGIC_NUMBER.to_le_bytes()[..10]].concat();
    start.first() == Some(&0x80) && start.windows(number.len()).any(|window| window == number)
}

/// Reads the older container: magic number, version, the machine's byte order, the object and the list of its storages, each a
/// pickle; then for each storage the count of its elements and these.
pub fn read_legacy(source: &Source) -> Result<Saved, String> {
    let bytes = source.start(MAX_BYTES)?;
    let mut at = 0;
    let mut next = |what: &str| {
        let (pickle, value, length) =
            Pickle::read(&bytes[at..], at).map_err(|reason| format!("its {what} is refused: {reason}"))?;
        at += length;
        Ok::<_, String>((pickle, value, at as u64))
    };
    if next("magic number")?.1 != Value::Int(MAGIC_NUMBER) {
        return Err("it does not begin with PyTorch's magic number".into());
    }
    if next("version")?.1 != Value::Int(PROTOCOL_VERSION) {
        return Err("it is of an unknown version of PyTorch's format".into());
    }
    let (machine, value, _) = next("description of the machine")?;
    if let Value::Dict(place) = value
        && machine.dicts[place]
            .iter()
            .any(|(key, value)| machine.text(*key) == Some("little_endian") && *value == Value::Bool(false))
    {
        return Err("its numbers are big-endian; save it on a little-endian machine".into());
    }
    let (pickle, value, _) = next("pickle")?;
    let (keys, list, mut start) = next("list of storages")?;
    let Value::List(list) = list else { return Err("its list of storages is none".into()) };

    let mut places = BTreeMap::new();
    for key in &keys.lists[list] {
        let key = keys.name(*key)?;
        let storage = pickle.storages.iter().find(|storage| storage.key == key);
        let storage = storage.ok_or_else(|| format!("its storage `{key}` belongs to nothing"))?;
        let count = source.bytes(Place::stored(start, 8), 8)?;
        if count != storage.elements.to_le_bytes() {
            return Err(format!(
                "its storage `{key}` does not hold {} elements as it should",
                storage.elements
            ));
        }
        let bytes = storage.elements.checked_mul(storage.dtype.size());
        let bytes = bytes.filter(|bytes| source.bytes_in_all() - start - 8 >= *bytes);
        let bytes =
            bytes.ok_or_else(|| format!("its storage `{key}` goes beyond the file's end: it is cut"))?;
        if places.insert(key.to_owned(), Place::stored(start + 8, bytes)).is_some() {
            return Err(format!("its storage `{key}` is there twice"));
        }
        start += 8 + bytes;
    }
    Ok(Saved { pickle, value, places, metadata: None, bytes: source.bytes_in_all() })
}
