//! A file of which only the needed parts are read.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use alexnet_core::{Error, Result, files};
use flate2::read::DeflateDecoder;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub start: u64,
    /// Of its content.
    pub bytes: u64,
    /// Of its content, where the file says it.
    pub crc32: Option<u32>,
    /// The bytes that it takes in the file, where it is deflated.
    pub deflated: Option<u64>,
}

impl Place {
    /// Bytes that stand in the file as they are.
    pub fn stored(start: u64, bytes: u64) -> Self {
        Self { start, bytes, crc32: None, deflated: None }
    }

    /// Where it ends in the file, if that is a number.
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

    /// The first bytes, at most `most`.
    pub fn start(&self, most: usize) -> Result<Vec<u8>, String> {
        let bytes = self.length.min(most as u64);
        self.bytes(Place::stored(0, bytes), most)
    }

    /// A part that is no longer than `most`, checked against its checksum.
    pub fn bytes(&self, place: Place, most: usize) -> Result<Vec<u8>, String> {
        self.contains(place)?;
        if place.bytes > most as u64 {
            return Err(format!("a part of it has {} bytes, and {most} is the most", place.bytes));
        }
        let bytes = self.range(place, 0..place.bytes)?;
        if place.crc32.is_some_and(|crc32| crc32 != crc32fast::hash(&bytes)) {
            return Err(DAMAGED.into());
        }
        Ok(bytes)
    }

    /// Some bytes of a part. Its checksum is not looked at.
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

    /// Hands some bytes of a part to `take`, in blocks of a multiple of 8 bytes but for the last. Its checksum is not looked at.
    pub fn each_block(
        &self,
        place: Place,
        range: Range<u64>,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), String> {
        self.contains(place)?;
        let mut reader = self.reader(place, range.start).map_err(unread)?;
        let mut left = range.end - range.start;
        let mut block = vec![0; left.min(BLOCK) as usize];
        while left > 0 {
            let block = &mut block[..left.min(BLOCK) as usize];
            reader.read_exact(block).map_err(unread)?;
            take(block);
            left -= block.len() as u64;
        }
        if range.end == place.bytes && reader.read(&mut [0]).map_err(unread)? > 0 {
            return Err(DAMAGED.into());
        }
        Ok(())
    }

    /// A part as it is when unpacked, from `skip` on.
    fn reader(&self, place: Place, skip: u64) -> io::Result<Box<dyn Read + '_>> {
        let mut file = &self.file;
        match place.deflated {
            None => {
                file.seek(SeekFrom::Start(place.start + skip))?;
                Ok(Box::new(file.take(place.bytes - skip)))
            }
            Some(packed) => {
                file.seek(SeekFrom::Start(place.start))?;
                let mut unpacked = DeflateDecoder::new(file.take(packed));
                io::copy(&mut unpacked.by_ref().take(skip), &mut io::sink())?;
                Ok(Box::new(unpacked))
            }
        }
    }

    /// Refuses a part that goes beyond the end.
    pub fn contains(&self, place: Place) -> Result<(), String> {
        match place.end() {
            Some(end) if end <= self.length => Ok(()),
            _ => Err("it ends too early: it is cut".into()),
        }
    }
}

/// Read at once where a part may be large.
const BLOCK: u64 = 1 << 16;

/// Why a part could not be read, in words.
pub fn unread(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends too early: it is cut or damaged".into(),
        _ => format!("it cannot be read: {error}"),
    }
}

const DAMAGED: &str = "its content does not match its checksum: it is damaged";
