//! The images of a data set as a compact list: names, classes, and how their files are read.
//!
//! A list of 1.28 million images with the names of ImageNet takes 24 bytes per image, with an
//! [`Item`] for each in a subset 28, and in shards 40: the names are in one text, and images that
//! are next to each other share the path of their folder.

use std::path::{Path, PathBuf};

use alexnet_core::files::is_within;

use crate::{
    Error, Result,
    decode::{self, Decoded, Reservation, decode_crop_in, decode_in, read_file},
    resize::Crop,
    shards::Shards,
};

/// An image of a data set: its index in [`Images`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item(u32);

impl Item {
    /// Returns the index in the list of images.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Images with their paths and classes, in files below a folder or in shards in a folder.
#[derive(Debug)]
pub struct Images {
    root: PathBuf,
    /// Runs of images in the same folder and class.
    folders: Vec<Folder>,
    /// The names of all images, one after the other.
    names: String,
    /// The end of each name.
    ends: Vec<u32>,
    storage: Storage,
}

/// Images that are next to each other in the list, in the same folder and of the same class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Path relative to the root, with `/` between the parts; empty for the root.
    pub path: Box<str>,
    /// Index of the class.
    pub class: u32,
    /// Index of the first image.
    pub first: u32,
}

#[derive(Debug)]
enum Storage {
    /// Each image is a file.
    Files,
    /// The images are in shards.
    Shards(Shards),
}

impl Images {
    /// Creates a list of image files below `root`, with the index of the class of each. Returns the
    /// list and its images, in this order.
    ///
    /// # Errors
    /// [`Error::Dataset`] for more images than a list can have.
    pub fn of_files(
        root: impl Into<PathBuf>,
        images: impl IntoIterator<Item = (impl AsRef<str>, usize)>,
    ) -> Result<(Self, Vec<Item>)> {
        let mut list = ImageList::default();
        let root = root.into();
        for (path, class) in images {
            let (folder, name) = split(path.as_ref());
            list.push(&root, folder, name, class)?;
        }
        let images = list.in_files(root);
        let items = images.items().collect();
        Ok((images, items))
    }

    /// The folder that paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Checks that a folder to be written, which need not exist, is not among the images.
    ///
    /// # Errors
    /// [`Error::AmongImages`] if it is; [`Error::Core`] if the folder of the images cannot be read.
    pub fn check_outside(&self, path: &Path) -> Result<()> {
        check_outside(path, &self.root)
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Iterates over all images, in their order.
    pub fn items(&self) -> impl ExactSizeIterator<Item = Item> + use<> {
        (0..self.ends.len() as u32).map(Item)
    }

    /// The folders of the images, each with the index of its first image.
    pub fn folders(&self) -> &[Folder] {
        &self.folders
    }

    /// Returns the index of the class of an image.
    pub fn class(&self, item: Item) -> usize {
        self.folder_of(item).class as usize
    }

    /// Returns the folder and the name of an image, whose path has a `/` between them.
    pub fn parts(&self, item: Item) -> (&str, &str) {
        (&self.folder_of(item).path, self.name(item))
    }

    /// Returns the path of an image relative to the root, with `/` between the parts.
    pub fn path(&self, item: Item) -> String {
        match self.parts(item) {
            ("", name) => name.to_owned(),
            (folder, name) => [folder, "/", name].concat(),
        }
    }

    /// Returns the path of an image with the root. For images in shards, there is no file with this
    /// path; it is their name in messages.
    pub fn file(&self, item: Item) -> PathBuf {
        self.root.join(self.path(item))
    }

    fn name(&self, item: Item) -> &str {
        let start = item.index().checked_sub(1).map_or(0, |previous| self.ends[previous]);
        &self.names[start as usize..self.ends[item.index()] as usize]
    }

    fn folder_of(&self, item: Item) -> &Folder {
        let after = self.folders.partition_point(|folder| folder.first <= item.0);
        // The first folder starts at the first image.
        &self.folders[after - 1]
    }

    /// The shards that the images are in; `None` for files.
    pub fn shards(&self) -> Option<&Shards> {
        match &self.storage {
            Storage::Files => None,
            Storage::Shards(shards) => Some(shards),
        }
    }

    /// Returns the size of the file of an image in bytes.
    ///
    /// # Errors
    /// Those of the operating system. Shards are not read.
    pub fn bytes(&self, item: Item) -> std::io::Result<u64> {
        match &self.storage {
            Storage::Files => Ok(std::fs::metadata(self.file(item))?.len()),
            Storage::Shards(shards) => Ok(shards.place(item.index()).bytes),
        }
    }

    /// Reads the file of an image, and reserves the memory for its bytes.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read; [`Error::Image`] if the shard is missing or
    /// damaged there.
    pub(crate) fn read(&self, item: Item) -> Result<(Vec<u8>, Reservation)> {
        match &self.storage {
            Storage::Files => read_file(&self.file(item)),
            Storage::Shards(shards) => shards
                .read(&self.root, item.index())
                .map_err(|reason| Error::Image { path: self.file(item), reason }),
        }
    }

    /// Returns a number that grows with the position of an image in its shards; the index of a file.
    pub(crate) fn position(&self, item: Item) -> u32 {
        self.shards().map_or(item.0, |shards| shards.position(item.index()))
    }

    /// Reads an image in shards, so that the system has it in its cache. The buffer is reused. An
    /// error occurs again when the image is needed.
    pub(crate) fn read_into_cache(&self, item: Item, buffer: &mut Vec<u8>) {
        if let Some(shards) = self.shards() {
            shards.read_into_cache(&self.root, item.index(), buffer);
        }
    }

    /// Decodes an image, as [`decode::decode`] does for a file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Image`] if it cannot be read.
    pub fn decode(&self, item: Item, options: decode::Options) -> Result<Decoded> {
        let (bytes, memory) = self.read(item)?;
        decode_in(&self.file(item), &bytes, options, memory)
    }

    /// Decodes at least a crop of an image, as [`decode::decode_crop`] does for a file.
    ///
    /// # Errors
    /// The same as [`Images::decode`].
    pub fn decode_crop(
        &self,
        item: Item,
        options: decode::Options,
        choose: impl FnOnce(u32, u32) -> Crop,
    ) -> Result<(Decoded, Crop)> {
        let (mut bytes, memory) = self.read(item)?;
        decode_crop_in(&self.file(item), &mut bytes, options, choose, memory)
    }

    /// Returns the images by their paths.
    pub fn by_path(&self) -> ByPath<'_> {
        let mut sorted: Vec<Item> = self.items().collect();
        sorted.sort_by(|a, b| self.parts(*a).cmp(&self.parts(*b)));
        ByPath { images: self, sorted }
    }
}

/// Images sorted by folder and name. It takes 4 bytes per image.
pub struct ByPath<'a> {
    images: &'a Images,
    sorted: Vec<Item>,
}

impl ByPath<'_> {
    /// Returns the image in this folder with this name.
    pub fn find(&self, parts: (&str, &str)) -> Option<Item> {
        let found = self.sorted.binary_search_by(|item| self.images.parts(*item).cmp(&parts));
        found.ok().map(|index| self.sorted[index])
    }
}

/// Divides the path of an image into its folder and its name.
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// A list of images that is being made.
#[derive(Debug, Default)]
pub(crate) struct ImageList {
    pub folders: Vec<Folder>,
    pub names: String,
    pub ends: Vec<u32>,
}

impl ImageList {
    /// Adds an image of the data set in `root`.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the list is full.
    pub fn push(&mut self, root: &Path, folder: &str, name: &str, class: usize) -> Result<Item> {
        let full = |_| Error::Dataset {
            path: root.to_owned(),
            reason: "its images have names of more than 4 GiB together; split it".into(),
        };
        let first = u32::try_from(self.ends.len()).map_err(full)?;
        let end = u32::try_from(self.names.len() + name.len()).map_err(full)?;
        let class = u32::try_from(class).map_err(full)?;
        let is_same = |last: &Folder| last.class == class && *last.path == *folder;
        if !self.folders.last().is_some_and(is_same) {
            self.folders.push(Folder { path: folder.into(), class, first });
        }
        self.names.push_str(name);
        self.ends.push(end);
        Ok(Item(first))
    }

    /// Returns the number of images so far.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Completes a list of files.
    pub fn in_files(self, root: PathBuf) -> Images {
        self.stored(root, Storage::Files)
    }

    /// Completes a list of images in shards.
    pub fn in_shards(self, root: PathBuf, shards: Shards) -> Images {
        self.stored(root, Storage::Shards(shards))
    }

    fn stored(mut self, root: PathBuf, storage: Storage) -> Images {
        self.folders.shrink_to_fit();
        self.names.shrink_to_fit();
        self.ends.shrink_to_fit();
        let Self { folders, names, ends } = self;
        Images { root, folders, names, ends, storage }
    }
}

/// Checks that a path to be written, which need not exist, is not inside a folder of images.
///
/// # Errors
/// [`Error::AmongImages`] if it is; [`Error::Core`] if the folder cannot be read.
pub fn check_outside(path: &Path, images: &Path) -> Result<()> {
    match is_within(path, images)? {
        true => Err(Error::AmongImages { path: path.to_owned(), images: images.to_owned() }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_classes_are_those_that_were_added() {
        let added =
            [("a/1.jpg", 0), ("a/2.jpg", 0), ("a/2.jpg", 1), ("b/c/é.png", 1), ("x.gif", 0)];
        let (images, items) = Images::of_files("root", added).unwrap();
        let listed: Vec<_> =
            items.iter().map(|item| (images.path(*item), images.class(*item))).collect();
        assert_eq!(listed, added.map(|(path, class)| (path.to_owned(), class)));
        assert_eq!(images.folders().len(), 4);
        assert_eq!(images.file(items[3]), Path::new("root").join("b/c/é.png"));
        assert_eq!(images.parts(items[4]), ("", "x.gif"));
        let by_path = images.by_path();
        assert_eq!(by_path.find(("b/c", "é.png")), Some(items[3]));
        assert_eq!(by_path.find(split("a/1.jpg")), Some(items[0]));
        assert_eq!(by_path.find(("a", "3.jpg")), None);
    }

    #[test]
    fn a_list_takes_few_bytes() {
        let path = |n: usize| format!("n{:08}/n{:08}_{n:05}.JPEG", n / 1300, n / 1300);
        let (images, _) =
            Images::of_files("root", (0..13_000).map(|n| (path(n), n / 1300))).unwrap();
        let bytes = images.names.capacity() + 4 * images.ends.capacity();
        assert!(bytes <= 25 * images.len(), "{} bytes per image", bytes / images.len());
    }
}
