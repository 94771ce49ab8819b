//! Reads images in shards at their places.

use std::{fs::File, io, path::Path, sync::OnceLock};

use alexnet_core::files::{self, read_exact_at};

use super::HEAD;
use crate::decode::{MAX_FILE_BYTES, Reservation};

/// The size of the blocks of a `tar` file, at whose starts contents are.
pub(crate) const BLOCK: u64 = 512;

/// The most shards that are kept open. Systems limit the open files of a process, often to 1,024.
const MAX_OPEN: usize = 256;

/// What is appended to the reason when the bytes of a shard are wrong.
const NEXT_STEP: &str = "copy the shard again, or pack the images again";

/// The shards of a data set, with the place of each image.
#[derive(Debug)]
pub struct Shards {
    shards: Vec<Shard>,
    locations: Vec<Location>,
    /// Sorted indices of the images that could not be decoded when they were packed.
    undecodable: Vec<u32>,
    /// Whether the places are from an index, with checksums and sizes of images.
    indexed: bool,
    open: Vec<OnceLock<File>>,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// The name of its file.
    pub name: String,
    /// The first of its blocks. The blocks of all shards are numbered, so that the position of an
    /// image is one number of 32 bits.
    pub first_block: u32,
    /// What is wrong with its file, as a clause whose subject is the shard.
    pub problem: Option<String>,
}

/// Where an image is: 12 bytes for each image of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The number of its first block.
    pub block: u32,
    /// Its size.
    pub bytes: u32,
    /// Its CRC-32, if the places are from an index.
    pub crc: u32,
}

/// The place of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The index of the shard.
    pub shard: usize,
    /// The position in the shard in bytes.
    pub offset: u64,
    /// The size in bytes.
    pub bytes: u64,
}

impl Shards {
    /// Creates the reader of shards that are listed completely.
    pub(crate) fn listed(shards: Vec<Shard>, locations: Vec<Location>) -> Self {
        Self::new(shards, locations, vec![], false)
    }

    /// Creates the reader of shards with an index. `undecodable` are the sorted indices of images
    /// that could not be decoded.
    pub(crate) fn indexed(
        shards: Vec<Shard>,
        locations: Vec<Location>,
        undecodable: Vec<u32>,
    ) -> Self {
        Self::new(shards, locations, undecodable, true)
    }

    fn new(
        shards: Vec<Shard>,
        locations: Vec<Location>,
        undecodable: Vec<u32>,
        indexed: bool,
    ) -> Self {
        let open = shards.iter().take(MAX_OPEN).map(|_| OnceLock::new()).collect();
        Self { shards, locations, undecodable, indexed, open }
    }

    /// Returns the number of shards.
    pub fn count(&self) -> usize {
        self.shards.len()
    }

    /// Returns the place of the image with this index.
    pub fn place(&self, image: usize) -> Place {
        let Location { block, bytes, .. } = self.locations[image];
        let shard = self.shards.partition_point(|shard| shard.first_block <= block) - 1;
        let offset = u64::from(block - self.shards[shard].first_block) * BLOCK;
        Place { shard, offset, bytes: bytes.into() }
    }

    /// Returns the CRC-32 of an image, if there is an index.
    pub fn checksum(&self, image: usize) -> Option<u32> {
        self.indexed.then_some(self.locations[image].crc)
    }

    /// Returns a number that grows with the position of an image in the shards.
    pub(crate) fn position(&self, image: usize) -> u32 {
        self.locations[image].block
    }

    /// Whether an image could be decoded when it was packed, and nothing is wrong with its shard as
    /// far as that is known without reading the image.
    pub(crate) fn looks_sound(&self, image: usize) -> bool {
        self.indexed
            && self.undecodable.binary_search(&(image as u32)).is_err()
            && self.shards[self.place(image).shard].problem.is_none()
    }

    /// Reads an image, and reserves the memory for its bytes. `root` is the folder of the shards.
    ///
    /// # Errors
    /// What is wrong with the shard, with the next step.
    pub(crate) fn read(&self, root: &Path, image: usize) -> Result<(Vec<u8>, Reservation), String> {
        let Place { shard, offset, bytes } = self.place(image);
        let name = &self.shards[shard].name;
        if bytes > MAX_FILE_BYTES {
            return Err(format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20));
        }
        let mut memory = Reservation::default();
        memory.take(bytes as usize);
        let mut content = vec![0; bytes as usize];
        self.read_at(root, shard, &mut content, offset).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                format!("the shard {name} is missing: copy it into the folder of the others")
            }
            io::ErrorKind::UnexpectedEof => {
                format!("the shard {name} ends before byte {}: {NEXT_STEP}", offset + bytes)
            }
            _ => format!("cannot read the shard {name}: {error}"),
        })?;
        if self.indexed && crc32fast::hash(&content) != self.locations[image].crc {
            return Err(match &self.shards[shard].problem {
                Some(problem) => format!("the shard {name} {problem}"),
                None => format!(
                    "its bytes in the shard {name} from byte {offset} do not match their checksum \
                     in {}: {NEXT_STEP}",
                    super::INDEX
                ),
            });
        }
        Ok((content, memory))
    }

    /// Reads an image, so that the system has it in its cache.
    pub(crate) fn read_into_cache(&self, root: &Path, image: usize, buffer: &mut Vec<u8>) {
        let Place { shard, offset, bytes } = self.place(image);
        buffer.resize(bytes.min(MAX_FILE_BYTES) as usize, 0);
        let _ = self.read_at(root, shard, buffer, offset);
    }

    fn read_at(&self, root: &Path, shard: usize, into: &mut [u8], offset: u64) -> io::Result<()> {
        let path = || root.join(&self.shards[shard].name);
        let Some(kept) = self.open.get(shard) else {
            return read_exact_at(&File::open(path())?, into, offset);
        };
        let file = match kept.get() {
            Some(file) => file,
            None => {
                let file = File::open(path())?;
                kept.get_or_init(|| file)
            }
        };
        read_exact_at(file, into, offset)
    }
}

/// Returns the size of a shard and the checksum of its first [`HEAD`] bytes.
///
/// # Errors
/// Those of the operating system.
pub(crate) fn stamp(path: &Path) -> io::Result<(u64, u32)> {
    let (file, bytes) = files::open(path)?;
    let mut head = vec![0; bytes.min(HEAD) as usize];
    read_exact_at(&file, &mut head, 0)?;
    Ok((bytes, crc32fast::hash(&head)))
}
