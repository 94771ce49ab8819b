//! A file that is read in parts.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    path::Path,
};

use alexnet_core::{Error, Result, files};
use flate2::read::DeflateDecoder;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub start: u64,
    /// The size of its (decompressed) content.
    pub bytes: u64,
    /// The checksum of its content, if the file contains one.
    pub crc32: Option<u32>,
    /// The compressed size in the file, if it is deflated.
    pub deflated: Option<u64>,
}

impl Place {
    /// Creates a part that is not compressed.
    pub fn stored(start: u64, bytes: u64) -> Self {
        Self { start, bytes, crc32: None, deflated: None }
    }

    /// Returns the offset of its end in the file, or `None` on overflow.
    pub fn end(self) -> Option<u64> {
        self.start.checked_add(self.deflated.unwrap_or(self.bytes))
    }
}

/// An open file and its length.
pub struct Source {
    file: File,
    length: u64,
}

impl Source {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, length) = files::open(path).map_err(Error::io("read", path))?;
        Ok(Self { file, length })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn bytes_in_all(&self) -> u64 {
        self.length
    }

    /// Returns the first bytes, at most `max_bytes`.
    pub fn start(&self, max_bytes: usize) -> Result<Vec<u8>, String> {
        let bytes = self.length.min(max_bytes as u64);
        self.bytes(Place::stored(0, bytes), max_bytes)
    }

    /// Reads a part of at most `max_bytes` and compares its checksum.
    pub fn bytes(&self, place: Place, max_bytes: usize) -> Result<Vec<u8>, String> {
        self.contains(place)?;
        if place.bytes > max_bytes as u64 {
            return Err(format!(
                "a part of it has {} bytes; the limit is {max_bytes}",
                place.bytes
            ));
        }
        let bytes = self.range(place, 0..place.bytes)?;
        if place.crc32.is_some_and(|crc32| crc32 != crc32fast::hash(&bytes)) {
            return Err(DAMAGED.into());
        }
        Ok(bytes)
    }

    /// Reads a range of bytes of a part, without comparing its checksum.
    pub fn range(&self, place: Place, range: Range<u64>) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        self.each_block(place, range, |block| bytes.extend_from_slice(block))?;
        Ok(bytes)
    }

    /// Compares a part of any length with its checksum.
    pub fn check(&self, place: Place) -> Result<(), String> {
        let Some(expected) = place.crc32 else { return Ok(()) };
        let mut hasher = crc32fast::Hasher::new();
        self.each_block(place, 0..place.bytes, |block| hasher.update(block))?;
        if hasher.finalize() == expected { Ok(()) } else { Err(DAMAGED.into()) }
    }

    /// Passes a range of bytes of a part to `sink` in blocks. All blocks except the last are a
    /// multiple of 8 bytes. The checksum is not compared.
    pub fn each_block(
        &self,
        place: Place,
        range: Range<u64>,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), String> {
        let mut reader = self.reader(place, range.start)?;
        let mut left = range.end - range.start;
        let mut block = vec![0; left.min(BLOCK) as usize];
        while left > 0 {
            let block = &mut block[..left.min(BLOCK) as usize];
            reader.read_exact(block).map_err(read_error)?;
            sink(block);
            left -= block.len() as u64;
        }
        if range.end == place.bytes { at_end(reader) } else { Ok(()) }
    }

    /// Reads bytes of a part from the offset `start`. The checksum is not compared.
    pub fn fill(&self, place: Place, start: u64, bytes: &mut [u8]) -> Result<(), String> {
        let mut reader = self.reader(place, start)?;
        reader.read_exact(bytes).map_err(read_error)?;
        if start + bytes.len() as u64 == place.bytes { at_end(reader) } else { Ok(()) }
    }

    /// Returns a reader of the decompressed content of a part, from byte `skip`.
    fn reader(&self, place: Place, skip: u64) -> Result<Box<dyn Read + '_>, String> {
        self.contains(place)?;
        let from = |at| Positioned { file: &self.file, at };
        match place.deflated {
            None => Ok(Box::new(from(place.start + skip).take(place.bytes - skip))),
            Some(compressed) => {
                let mut decompressed = DeflateDecoder::new(from(place.start).take(compressed));
                io::copy(&mut decompressed.by_ref().take(skip), &mut io::sink())
                    .map_err(read_error)?;
                Ok(Box::new(decompressed))
            }
        }
    }

    /// Checks that a part is inside the file.
    pub fn contains(&self, place: Place) -> Result<(), String> {
        match place.end() {
            Some(end) if end <= self.length => Ok(()),
            _ => Err("it is truncated".into()),
        }
    }
}

/// A reader with a position of its own, so that threads can read parts of a file at the same time.
struct Positioned<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = files::read_at(self.file, into, self.at)?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}

/// Checks that a reader has no more bytes.
fn at_end(mut reader: impl Read) -> Result<(), String> {
    if reader.read(&mut [0]).map_err(read_error)? > 0 { Err(DAMAGED.into()) } else { Ok(()) }
}

/// The size of a block, in bytes.
const BLOCK: u64 = 1 << 16;

/// Returns a message for an error of reading a part.
pub fn read_error(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is truncated or damaged".into(),
        _ => format!("it cannot be read: {error}"),
    }
}

const DAMAGED: &str = "its content does not match its checksum: it is damaged";
