//! Reads `zip` archives.

use std::fs::File;
use std::io::{BufReader, Seek};

use zip::{
    ZipArchive,
    read::{ArchiveOffset, Config, ZipFileEntry},
    result::ZipError,
};

use super::unpacked::{Unpacked, explain, refuse};
use crate::{Error, Result};

pub fn extract(unpacked: &mut Unpacked, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let archive = unpacked.archive;
    let broken = |error: ZipError| refuse(archive, reason(&error));
    let file = File::open(archive).map_err(Error::io("read", archive))?;
    let mut file = BufReader::with_capacity(1 << 16, file);
    let length = file.seek(std::io::SeekFrom::End(0)).map_err(Error::io("read", archive))?;
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut zip = ZipArchive::with_config(config, file).map_err(broken)?;
    if zip.has_duplicate_names() {
        return Err(refuse(archive, "one of its entries appears twice"));
    }
    let mut read = 0;
    for index in 0..zip.len() {
        unpacked.count()?;
        let entry = zip.by_index_data(index).map_err(broken)?;
        let name = name(&entry).map_err(|reason| unpacked.refuse(entry.name_raw(), reason))?;
        let is_folder =
            is_folder(&entry).map_err(|reason| unpacked.refuse(name.as_bytes(), reason))?;
        read += entry.compressed_size();
        if is_folder {
            unpacked.add_folder(name.as_bytes())?;
        } else {
            let mut content = zip.by_index(index).map_err(|error| {
                unpacked.refuse(name.as_bytes(), &format!("cannot be unpacked: {}", reason(&error)))
            })?;
            unpacked.add_file(name.as_bytes(), content.size(), &mut content)?;
        }
        progress(read.min(length));
    }
    progress(length);
    Ok(())
}

/// Returns the name with `/` between its parts. Some Windows programs write `\\`.
fn name(entry: &ZipFileEntry) -> Result<String, &'static str> {
    let name = std::str::from_utf8(entry.name_raw()).map_err(
        |_| "has a name in an unknown encoding; pack the folder as .tgz, or with names in UTF-8",
    )?;
    Ok(name.replace('\\', "/"))
}

fn is_folder(entry: &ZipFileEntry) -> Result<bool, &'static str> {
    // The highest bits of a Unix mode are the file type.
    match entry.unix_mode().unwrap_or_default() & 0o170_000 {
        _ if entry.encrypted() => Err("is encrypted; unpack the archive and use the folder"),
        0o120_000 => Err("is a symbolic link"),
        0 | 0o100_000 | 0o040_000 => Ok(entry.is_dir() || entry.name_raw().ends_with(b"\\")),
        _ => Err("is neither a file nor a folder"),
    }
}

/// Describes an error of the zip library.
fn reason(error: &ZipError) -> String {
    match error {
        ZipError::Io(error) => explain(error),
        ZipError::InvalidArchive(_) => {
            format!("it is not a complete .zip ({error}); download it again")
        }
        _ => error.to_string(),
    }
}
