//! Lists the samples of a shard: files next to each other with the same name up to the first dot,
//! as Python's `webdataset` groups them.
//!
//! The image is the file with the extension of an image. Its class is the entry `class` of the file
//! `.json`, if that has one, otherwise the text of the file `.cls`. Its path is the entry `path` of
//! `.json`, if the images were packed from a folder.

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use serde::Deserialize;
use tar::Archive;

use super::{is_class_name, is_inside, reader::BLOCK};

/// The largest `.cls` or `.json` that is read.
const MAX_LABEL: u64 = 1 << 20;

/// Limit of the bytes of headers between two files, with long names and comments. They are read
/// into memory.
const MAX_HEADERS: u64 = 1 << 20;

/// Headers and labels follow each other; the contents of images between them are not read.
const BUFFER: usize = 8 << 10;

/// The images of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// The names of the classes, in the order of their first images.
    pub classes: Vec<String>,
    /// Whether a class is named in a `.json`.
    pub are_named: bool,
    /// The images, in the order of their positions.
    pub samples: Vec<Sample>,
    /// The number of links, and of samples without an image.
    pub skipped: usize,
}

/// An image of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its name in the shard.
    pub name: Box<str>,
    /// Its path in the folder that it was packed from.
    pub path: Option<Box<str>>,
    /// Index of its class in [`Samples::classes`].
    pub class: u32,
    /// Its position in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub bytes: u32,
}

/// The entries of `.json` that are used. Others are ignored.
#[derive(Deserialize)]
struct Label {
    path: Option<String>,
    class: Option<String>,
}

/// The files of a sample, while its shard is read.
#[derive(Default)]
struct Group {
    key: String,
    image: Option<(String, u64, u64)>,
    class: Option<String>,
    label: Option<Label>,
}

impl Samples {
    /// Lists the samples of a shard of `bytes` bytes. `is_image` returns whether an extension in
    /// lower case is that of an image.
    ///
    /// # Errors
    /// What is wrong with the shard, as a clause whose subject is the shard.
    pub fn read(
        shard: impl Read + Seek,
        bytes: u64,
        is_image: impl Fn(&str) -> bool,
    ) -> Result<Self, String> {
        let file = Limited::new(shard);
        let broken = |error: io::Error| format!("is damaged ({error}); copy it again");
        let mut found = Self::default();
        let mut indices = HashMap::new();
        let mut group = Group::default();
        let mut end = 0;
        let mut archive = Archive::new(&file);
        for entry in archive.entries_with_seek().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let (offset, size) = (entry.raw_file_position(), entry.size());
            end = offset.checked_add(size).filter(|end| *end <= bytes).ok_or_else(truncated)?;
            let kind = entry.header().entry_type();
            if !kind.is_file() {
                found.skipped += usize::from(kind.is_symlink() || kind.is_hard_link());
                file.allow(MAX_HEADERS);
                continue;
            }
            let name = String::from_utf8(entry.path_bytes().into_owned())
                .map_err(|_| "has a file whose name is not UTF-8; make it again without it")?;
            // `tar -C folder .` writes names that start with it.
            let name = name.trim_start_matches("./");
            let (key, extension) = parts(name);
            if key != group.key {
                found.add(std::mem::take(&mut group), &mut indices)?;
                group.key = key.to_owned();
            }
            // As in webdataset.
            match extension.to_ascii_lowercase().as_str() {
                "cls" => group.class = Some(text(&mut entry, &file).map_err(broken)?),
                "json" => {
                    let text = text(&mut entry, &file).map_err(broken)?;
                    // Other programs store other values in it.
                    group.label = serde_json::from_str(&text).ok();
                }
                extension if group.image.is_none() && is_image(extension) => {
                    group.image = Some((name.to_owned(), offset, size));
                }
                _ => {}
            }
            file.allow(MAX_HEADERS);
        }
        found.add(group, &mut indices)?;
        // Without this check of the end marker, missing samples at the end would not be detected.
        let end = end.next_multiple_of(BLOCK);
        match bytes >= end + 2 * BLOCK {
            true => Ok(found),
            false => Err(truncated()),
        }
    }

    fn add(&mut self, group: Group, indices: &mut HashMap<String, u32>) -> Result<(), String> {
        let Group { key, image, class, label } = group;
        let Some((name, offset, bytes)) = image else {
            // The first group has no file.
            self.skipped += usize::from(!key.is_empty());
            return Ok(());
        };
        let refuse = |what: &str| format!("has the sample `{key}` {what}");
        let (path, named) = label.map_or((None, None), |label| (label.path, label.class));
        self.are_named |= named.is_some();
        let class = named.or_else(|| class.map(|text| text.trim().to_owned()));
        let class = class.ok_or_else(|| {
            refuse(
                "without a class: each needs a file .cls, or .json with an entry `class`, next to \
                 its image; `tar --sort=name` puts them there",
            )
        })?;
        if !is_class_name(&class) {
            return Err(refuse("with a class that cannot be the name of a folder"));
        }
        if !is_inside(path.as_deref().unwrap_or(&name)) {
            return Err(refuse("with a path that leaves its folder"));
        }
        let bytes = u32::try_from(bytes).map_err(|_| refuse("of more than 4 GiB"))?;
        let next = self.classes.len() as u32;
        let class = *indices.entry(class).or_insert_with_key(|class| {
            self.classes.push(class.clone());
            next
        });
        let path = path.map(String::into_boxed_str);
        self.samples.push(Sample { name: name.into(), path, class, offset, bytes });
        Ok(())
    }
}

/// Divides a name at the first dot of its last part: into the key of its sample and the extension.
fn parts(name: &str) -> (&str, &str) {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[last..].find('.') {
        Some(dot) => (&name[..last + dot], &name[last + dot + 1..]),
        None => (name, ""),
    }
}

fn truncated() -> String {
    "is truncated; copy it again".into()
}

/// Returns the content of a `.cls` or `.json`; not all of it if it is too large to be one of a
/// sample.
fn text<R: Read>(entry: &mut impl Read, file: &Limited<R>) -> io::Result<String> {
    let mut bytes = vec![];
    file.allow(MAX_LABEL + MAX_HEADERS);
    entry.take(MAX_LABEL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

/// A reader that fails when more bytes are read than allowed, and seeks within its buffer. It can be
/// read through a shared reference, because the limit is changed while an archive reads it.
struct Limited<R>(RefCell<State<R>>);

struct State<R> {
    inner: BufReader<R>,
    position: u64,
    allowed: u64,
}

impl<R: Read> Limited<R> {
    fn new(inner: R) -> Self {
        let inner = BufReader::with_capacity(BUFFER, inner);
        Self(RefCell::new(State { inner, position: 0, allowed: MAX_HEADERS }))
    }

    fn allow(&self, bytes: u64) {
        self.0.borrow_mut().allowed = bytes;
    }
}

impl<R: Read> Read for &Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let State { inner, position, allowed } = &mut *self.0.borrow_mut();
        let n = inner.read(buffer)?;
        *position += n as u64;
        let left = allowed.checked_sub(n as u64);
        *allowed = left.ok_or_else(|| io::Error::other("its headers are too large"))?;
        Ok(n)
    }
}

impl<R: Read + Seek> Seek for &Limited<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let State { inner, position, .. } = &mut *self.0.borrow_mut();
        match to {
            SeekFrom::Current(bytes) => {
                inner.seek_relative(bytes)?;
                *position = position.saturating_add_signed(bytes);
            }
            to => *position = inner.seek(to)?,
        }
        Ok(*position)
    }
}
