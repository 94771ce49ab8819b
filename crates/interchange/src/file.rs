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
        if place.start.checked_add(place.bytes).is_none_or(|end| end > self.length) {
            return Err("it ends too early: it is cut".into());
        }
        if place.bytes > most as u64 {
            return Err(format!("a part of it has {} bytes, and {most} is the most", place.bytes));
        }
        let mut bytes = vec![0; place.bytes as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|error| format!("it cannot be read: {error}"))?;
        if place.crc32.is_some_and(|crc32| crc32 != crc32fast::hash(&bytes)) {
            return Err(DAMAGED.into());
        }
        Ok(bytes)
    }

    /// Compares a part of any length with its checksum.
    pub fn check(&self, place: Place) -> Result<(), String> {
        let Some(expected) = place.crc32 else { return Ok(()) };
        let read = || {
            let mut file = &self.file;
            file.seek(SeekFrom::Start(place.start))?;
            let mut hasher = crc32fast::Hasher::new();
            let mut left = file.take(place.bytes);
            let mut block = vec![0; 1 << 16];
            loop {
                match left.read(&mut block)? {
                    0 => return Ok::<_, io::Error>(hasher.finalize()),
                    read => hasher.update(&block[..read]),
                }
            }
        };
        match read() {
            Ok(found) if found == expected => Ok(()),
            Ok(_) => Err(DAMAGED.into()),
            Err(error) => Err(format!("it cannot be read: {error}")),
        }
    }
}

const DAMAGED: &str = "its content does not match its checksum: it is damaged";
