//! Reads `tar` archives, with or without gzip.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use flate2::bufread::GzDecoder;
use tar::{Archive, Entry, EntryType, Header};

use super::unpacked::{Unpacked, explain, refuse};
use crate::{Error, Result};

/// Size in bytes of a header and of the blocks that contents are padded to.
pub const BLOCK: u64 = 512;

/// Limit of the bytes between the contents of two files: padding, headers, and long names. The
/// library reads them into memory.
const BETWEEN_FILES: u64 = 1 << 20;

/// Returns whether a block is a header with a correct checksum.
pub fn is_header(block: &[u8]) -> bool {
    let Ok(block) = <&[u8; BLOCK as usize]>::try_from(block) else { return false };
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    let stored = header.cksum();
    header.set_cksum();
    stored.is_ok_and(|stored| header.cksum().is_ok_and(|right| right == stored))
}

pub fn extract_compressed(unpacked: &mut Unpacked, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let (file, read) = open(unpacked)?;
    extract(unpacked, Members(Some(GzDecoder::new(file))), &read, progress)
}

pub fn extract_plain(unpacked: &mut Unpacked, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let (mut file, read) = open(unpacked)?;
    // Without this check of the end marker, missing files at the end would not be detected.
    let mut end = [1; 2 * BLOCK as usize];
    let ends =
        file.seek(SeekFrom::End(-(end.len() as i64))).and_then(|_| file.read_exact(&mut end));
    if ends.is_err() || end.iter().any(|byte| *byte != 0) {
        return Err(refuse(unpacked.archive, "it is truncated; download it again"));
    }
    file.seek(SeekFrom::Start(0)).map_err(Error::io("read", unpacked.archive))?;
    read.set(0);
    extract(unpacked, file, &read, progress)
}

type Source = BufReader<Counted<File>>;

/// Opens the archive. Returns its reader and the number of bytes read so far.
fn open(unpacked: &Unpacked) -> Result<(Source, Rc<Cell<u64>>)> {
    let read = Rc::new(Cell::new(0));
    let file = File::open(unpacked.archive).map_err(Error::io("read", unpacked.archive))?;
    let counted = Counted { inner: file, read: Rc::clone(&read) };
    Ok((BufReader::with_capacity(1 << 16, counted), read))
}

fn extract(
    unpacked: &mut Unpacked,
    source: impl Read,
    read: &Cell<u64>,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let allowance = Rc::new(Cell::new(BETWEEN_FILES));
    let archive = unpacked.archive;
    let broken = |error: io::Error| refuse(archive, explain(&error));
    let mut tar = Archive::new(Allowed { inner: source, allowance: Rc::clone(&allowance) });
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        unpacked.count()?;
        let name = entry.path_bytes().into_owned();
        match kind(&entry).map_err(|reason| unpacked.refuse(&name, reason))? {
            Kind::GlobalHeader => {}
            Kind::Folder => unpacked.add_folder(&name)?,
            Kind::File => {
                allowance.set(u64::MAX);
                unpacked.add_file(&name, entry.size(), &mut entry)?;
            }
        }
        allowance.set(BETWEEN_FILES);
        progress(read.get());
    }
    // Read to the end, so that the gzip checksum is verified.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(broken)?;
    progress(read.get());
    Ok(())
}

enum Kind {
    File,
    Folder,
    /// Metadata of the archive, such as the commit that `git archive` records.
    GlobalHeader,
}

fn kind<R: Read>(entry: &Entry<'_, R>) -> Result<Kind, &'static str> {
    match entry.header().entry_type() {
        // Before POSIX, a slash at the end of the name marked a folder.
        EntryType::Regular if entry.path_bytes().ends_with(b"/") => Ok(Kind::Folder),
        EntryType::Regular | EntryType::Continuous => Ok(Kind::File),
        EntryType::Directory => Ok(Kind::Folder),
        EntryType::XGlobalHeader => Ok(Kind::GlobalHeader),
        EntryType::Symlink => Err("is a symbolic link"),
        EntryType::Link => Err("is a hard link"),
        EntryType::Char | EntryType::Block => Err("is a device"),
        EntryType::Fifo => Err("is a pipe"),
        _ => Err("is neither a file nor a folder"),
    }
}

/// Reads the members of a gzip file one after the other. Zeros after the last member are padding,
/// as tapes and disks write it.
struct Members<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let n = member.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            let rest = self.0.take().map(GzDecoder::into_inner);
            if let Some(mut rest) = rest {
                self.0 = skip_zeros(&mut rest)?.then(|| GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Skips zeros. Returns whether other bytes follow.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = reader.fill_buf()?;
        let (zeros, all) = (bytes.iter().take_while(|byte| **byte == 0).count(), bytes.len());
        reader.consume(zeros);
        if zeros < all || all == 0 {
            return Ok(all > 0);
        }
    }
}

/// A reader that counts the bytes read.
struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

/// A reader that fails if more bytes are read than currently allowed.
struct Allowed<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Allowed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let left = self.allowance.get().checked_sub(n as u64);
        self.allowance.set(left.ok_or_else(|| io::Error::other("its headers are too large"))?);
        Ok(n)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
