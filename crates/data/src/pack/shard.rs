//! Writes a shard: a `tar` file with three files for each image, `KEY.jpg` (or another extension),
//! `KEY.cls` with the index of its class and `KEY.json` with its path and the name of its class.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use alexnet_core::files::{sync_folder, temporary_prefix};
use serde::Serialize;
use tar::{EntryType, Header};

use super::image::Packable;
use crate::{
    Error, Result,
    shards::{self, HEAD, index::IndexedShard},
};

/// The size of the blocks of a `tar` file.
const BLOCK: usize = shards::BLOCK as usize;

/// The blocks of zeros at its end.
const END: usize = 2 * BLOCK;

/// The most bytes of a sample besides its image: three headers, a class, and a path and a class in
/// JSON of usual lengths.
const AROUND_IMAGE: usize = 6 * BLOCK;

/// A shard that is being written. Its file has another name until it is finished.
pub struct ShardWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    /// Its first bytes.
    head: Vec<u8>,
}

#[derive(Serialize)]
struct Label<'a> {
    path: &'a str,
    class: &'a str,
}

impl ShardWriter {
    /// Creates the file `name` in a folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path, name: String) -> Result<Self> {
        // The folder is locked, so no other process writes a file of this name.
        let temporary = folder.join(temporary_prefix(&name) + "0");
        let file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { path: folder.join(name), temporary, file, bytes: 0, head: vec![] })
    }

    /// Whether the shard has at most `limit` bytes with this image.
    pub fn has_room(&self, image: &Packable, limit: u64) -> bool {
        let sample = image.bytes.len().next_multiple_of(BLOCK) + AROUND_IMAGE;
        self.bytes + (sample + END) as u64 <= limit
    }

    /// Adds an image with the index and the name of its class. Returns its position.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(
        &mut self,
        key: &str,
        image: &Packable,
        (index, class): (usize, &str),
        path: &str,
    ) -> Result<u64> {
        let label = serde_json::to_vec(&Label { path, class });
        let label = label.map_err(|error| self.refuse(error.into()))?;
        let Packable { bytes, extension, .. } = image;
        let added = self.add_file(&format!("{key}.{extension}"), bytes).and_then(|offset| {
            self.add_file(&format!("{key}.cls"), index.to_string().as_bytes())?;
            self.add_file(&format!("{key}.json"), &label)?;
            Ok(offset)
        });
        added.map_err(|error| self.refuse(error))
    }

    fn refuse(&self, error: io::Error) -> Error {
        Error::io("write", &self.path)(error)
    }

    fn add_file(&mut self, name: &str, content: &[u8]) -> io::Result<u64> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_path(name)?;
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // Equal images give equal shards.
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.write(header.as_bytes())?;
        let offset = self.bytes;
        self.write(content)?;
        self.write(&[0; BLOCK][..content.len().next_multiple_of(BLOCK) - content.len()])?;
        Ok(offset)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let missing = (HEAD as usize).saturating_sub(self.head.len());
        self.head.extend(&bytes[..bytes.len().min(missing)]);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Writes the shard to the disk completely and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<IndexedShard> {
        let finish = |writer: &mut Self| {
            writer.write(&[0; END])?;
            writer.file.flush()?;
            writer.file.get_ref().sync_all()?;
            fs::rename(&writer.temporary, &writer.path)?;
            sync_folder(writer.path.parent().unwrap_or(Path::new(".")))
        };
        finish(&mut self).map_err(|error| self.refuse(error))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(IndexedShard { name, bytes: self.bytes, head: crc32fast::hash(&self.head) })
    }
}
