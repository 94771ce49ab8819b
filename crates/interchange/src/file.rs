//! A file of which only the needed parts are read.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use alexnet_core::{Error, Result};

use crate::tensor::Place;

/// An open file and its length.
pub struct Source {
    file: File,
    length: u64,
}

impl Source {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            let file = File::open(path)?;
            let length = file.metadata()?;
            if length.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok((file, length.len())) }
        };
        let (file, length) = open().map_err(Error::io("read", path))?;
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
        self.bytes(Place { start: 0, bytes, crc32: None }, most)
    }

    /// A part that is no longer than `most`, checked against its checksum.
    pub fn bytes(&self, place: Place, most: usize) -> Result<Vec<u8>, String> {
        self.contains(place)?;
        if place.bytes > most as u64 {
            return Err(format!("a part of it has {} bytes, and {most} is the most", place.bytes));
        }
        let mut bytes = vec![0; place.bytes as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place.start)).and_then(|_| file.read_exact(&mut bytes)).map_err(unread)?;
        if place.crc32.is_some_and(|crc32| crc32 != crc32fast::hash(&bytes)) {
            return Err(DAMAGED.into());
        }
        Ok(bytes)
    }

    /// Compares a part of any length with its checksum.
    pub fn check(&self, place: Place) -> Result<(), String> {
        let Some(expected) = place.crc32 else { return Ok(()) };
        let mut hasher = crc32fast::Hasher::new();
        self.each_block(place, |block| hasher.update(block))?;
        if hasher.finalize() == expected { Ok(()) } else { Err(DAMAGED.into()) }
    }

    /// Hands a part of any length to `take`, in blocks of a multiple of 8 bytes but for the last. Its checksum is not looked at.
    pub fn each_block(&self, place: Place, mut take: impl FnMut(&[u8])) -> Result<(), String> {
        self.contains(place)?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place.start)).map_err(unread)?;
        let mut block = vec![0; BLOCK.min(place.bytes as usize)];
        let mut left = place.bytes as usize;
        while left > 0 {
            let block = &mut block[..BLOCK.min(left)];
            file.read_exact(block).map_err(unread)?;
            take(block);
            left -= block.len();
        }
        Ok(())
    }

    /// Refuses a part that goes beyond the end.
    pub fn contains(&self, place: Place) -> Result<(), String> {
        match place.start.checked_add(place.bytes) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err("it ends too early: it is cut".into()),
        }
    }
}

/// Read at once where a part may be large.
const BLOCK: usize = 1 << 16;

fn unread(error: io::Error) -> String {
    format!("it cannot be read: {error}")
}

const DAMAGED: &str = "its content does not match its checksum: it is damaged";
