//! The index of a search for neighbors: a safetensors file with the activations of the images of a
//! folder, and a description of what they were computed from.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use alexnet_core::{
    Array, Error, ExifOrientation, FileKind,
    tensors::{self, Metadata},
    text::shown,
    weights::{CHECKSUM, checksum, compare_checksum},
};
use alexnet_data::dataset::{Images, Item};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The name of the only tensor.
const FEATURES: &str = "features";

/// Pixels and activations may differ between versions.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the path of the index of a folder of images: `WEIGHTS.CRC.neighbors`, where CRC is the
/// CRC-32 of the folder's path, so that several folders have an index each.
pub fn path(weights: &Path, folder: &Path) -> PathBuf {
    let crc = crc32fast::hash(folder.as_os_str().as_encoded_bytes());
    let mut name = weights.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{crc:08x}.neighbors"));
    weights.with_file_name(name)
}

/// What an index is computed from. An index is used only if this is unchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The checksum of the weights.
    weights: String,
    orientation: ExifOrientation,
    /// The folder of the images.
    folder: PathBuf,
    /// Sorted by path.
    images: Vec<Stamp>,
}

/// An image file, as far as it can be compared without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    /// Path relative to the folder.
    path: String,
    /// Size; 0 for a file that cannot be opened.
    bytes: u64,
    /// Time of the last modification in nanoseconds since 1970; 0 for a file that cannot be opened.
    /// The checksum of an image in shards, if there is an index.
    modified: i64,
}

/// The activations of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Paths of the images that could not be read, sorted.
    pub left_out: Vec<String>,
    /// The activations of the other images, `[images, features]`, sorted by path.
    pub features: Array,
}

impl Origin {
    /// Describes the images in their present state. `items` must be sorted by path.
    pub fn new(
        weights: String,
        orientation: ExifOrientation,
        images: &Images,
        items: &[Item],
    ) -> Self {
        let stamps = items.par_iter().map(|item| Stamp::new(images, *item)).collect();
        Self { weights, orientation, folder: images.root().to_owned(), images: stamps }
    }

    fn to_text(&self) -> serde_json::Result<Metadata> {
        let entries = [
            ("version", VERSION.to_owned()),
            ("weights", self.weights.clone()),
            ("exif_orientation", self.orientation.name().into()),
            ("folder", self.folder.to_string_lossy().into_owned()),
            ("images", serde_json::to_string(&self.images)?),
        ];
        Ok(entries.into_iter().map(|(key, text)| (key.to_owned(), text)).collect())
    }

    /// Compares with the metadata of a file.
    ///
    /// # Errors
    /// The first difference, as a clause whose subject is the index.
    fn compare(&self, text: &Metadata) -> Result<(), String> {
        let is = |key, expected: &str| text.get(key).is_some_and(|found| found == expected);
        if !is("version", VERSION) {
            return Err("it was made by another version".into());
        }
        if !is("weights", &self.weights) {
            return Err("it was made with other weights".into());
        }
        if !is("exif_orientation", self.orientation.name()) {
            return Err("it was made with another handling of the EXIF orientation".into());
        }
        if !is("folder", &self.folder.to_string_lossy()) {
            return Err("it was made for another folder".into());
        }
        let images: Vec<Stamp> = parsed(text, "images")?;
        if images == self.images {
            return Ok(());
        }
        let by_path = |images: &[Stamp]| -> BTreeMap<String, Stamp> {
            images.iter().map(|stamp| (stamp.path.clone(), stamp.clone())).collect()
        };
        let [then, now] = [&images, &self.images].map(|images| by_path(images));
        let new = now.keys().filter(|path| !then.contains_key(*path)).count();
        let missing = then.keys().filter(|path| !now.contains_key(*path)).count();
        let changed =
            then.iter().filter(|(path, stamp)| now.get(*path).is_some_and(|now| now != *stamp));
        let changed = changed.count();
        Err(format!(
            "the images are not those that it was made with: {new} new, {missing} missing, {changed} changed"
        ))
    }
}

impl Stamp {
    fn new(images: &Images, item: Item) -> Self {
        let path = images.path(item);
        if let Some(shards) = images.shards() {
            let bytes = shards.place(item.index()).bytes;
            let modified = shards.checksum(item.index()).map_or(0, i64::from);
            return Self { path, bytes, modified };
        }
        let found = fs::metadata(images.file(item)).ok();
        let modified = found.as_ref().and_then(|found| found.modified().ok());
        let modified = modified.map_or(0, |time| match time.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i64,
            Err(before) => -(before.duration().as_nanos() as i64),
        });
        Self { path, bytes: found.map_or(0, |found| found.len()), modified }
    }
}

impl Index {
    /// Writes the index atomically.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path, origin: &Origin) -> Result<(), Error> {
        let text = || -> io::Result<Metadata> {
            let mut text = origin.to_text()?;
            text.insert("left_out".into(), serde_json::to_string(&self.left_out)?);
            Ok(text)
        };
        let mut text = text().map_err(Error::io("write", path))?;
        let content = BTreeMap::from([(FEATURES.to_owned(), self.features.clone())]);
        text.insert(CHECKSUM.into(), checksum(&text, &content));
        tensors::write(path, &text, &[(FEATURES.into(), &self.features)])
    }

    /// Reads an index. Returns `None` when the file does not exist.
    ///
    /// # Errors
    /// Why it cannot be used, as a clause whose subject is the index: it is damaged, was made from
    /// something else than `origin`, or does not have this number of features.
    pub fn read(path: &Path, origin: &Origin, features: usize) -> Result<Option<Self>, String> {
        let (text, mut content) = match tensors::read(path, FileKind::NeighborIndex) {
            Err(Error::Missing { .. }) => return Ok(None),
            Err(Error::Format { reason, .. }) => return Err(reason),
            Err(Error::Io { source, .. }) => return Err(format!("it cannot be read: {source}")),
            other => other.map_err(|error| error.to_string())?,
        };
        match compare_checksum(path, &text, &content) {
            Ok(true) => {}
            Ok(false) => return Err("it has no checksum".into()),
            Err(_) => return Err("its content does not match its checksum".into()),
        }
        origin.compare(&text)?;
        let left_out: Vec<String> = parsed(&text, "left_out")?;
        let is_image =
            |path: &String| origin.images.binary_search_by(|image| image.path.cmp(path)).is_ok();
        if !left_out.is_sorted_by(|a, b| a < b) || !left_out.iter().all(is_image) {
            return Err("its list of left out images is not valid".into());
        }
        let shape = [origin.images.len() - left_out.len(), features];
        match content.remove(FEATURES) {
            Some(found) if found.shape == shape && found.values.iter().all(|v| v.is_finite()) => {
                Ok(Some(Self { left_out, features: found }))
            }
            _ => Err(format!("it does not have finite features of shape {shape:?}")),
        }
    }
}

fn parsed<T: for<'a> Deserialize<'a>>(text: &Metadata, key: &str) -> Result<T, String> {
    let entry = text.get(key).ok_or_else(|| format!("its metadata lacks `{key}`"))?;
    serde_json::from_str(entry)
        .map_err(|error| format!("its `{key}` is not valid: {}", shown(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const WIDTH: usize = 3;

    /// A folder with two images and a file that cannot be decoded, and their index.
    fn fixture() -> (TempDir, [&'static str; 3], Index) {
        let folder = tempfile::tempdir().unwrap();
        let items = ["a/1.png", "a/2.png", "b/3.png"];
        for (item, bytes) in items.iter().zip(1..) {
            let path = folder.path().join(item);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![7; bytes]).unwrap();
        }
        let values = (0..2 * WIDTH).map(|i| i as f32).collect();
        let features = Array { shape: vec![2, WIDTH], values };
        (folder, items, Index { left_out: vec!["a/2.png".into()], features })
    }

    fn origin(folder: &TempDir, paths: &[&str]) -> Origin {
        let (images, items) =
            Images::of_files(folder.path(), paths.iter().map(|path| (path, 0))).unwrap();
        Origin::new("crc32:1".into(), ExifOrientation::Apply, &images, &items)
    }

    #[test]
    fn an_index_is_used_only_for_what_it_was_made_from() {
        let (folder, items, index) = fixture();
        let file = folder.path().join("x.neighbors");
        let now = origin(&folder, &items);
        assert_eq!(Index::read(&file, &now, WIDTH), Ok(None));
        index.write(&file, &now).unwrap();
        let read = |origin: &Origin| Index::read(&file, origin, WIDTH);
        assert_eq!(read(&now), Ok(Some(index)));

        let weights = Origin { weights: "crc32:2".into(), ..now.clone() };
        assert_eq!(read(&weights).unwrap_err(), "it was made with other weights");
        let orientation = Origin { orientation: ExifOrientation::Ignore, ..now.clone() };
        assert!(read(&orientation).unwrap_err().contains("EXIF orientation"));
        let moved = Origin { folder: "/elsewhere".into(), ..now.clone() };
        assert_eq!(read(&moved).unwrap_err(), "it was made for another folder");
        assert!(Index::read(&file, &now, 2).unwrap_err().contains("[2, 2]"));

        let differences = || read(&origin(&folder, &items)).unwrap_err();
        let image = folder.path().join("a/1.png");
        fs::write(&image, [7; 9]).unwrap();
        assert!(differences().ends_with("0 new, 0 missing, 1 changed"), "{}", differences());
        // The same size, another time.
        fs::write(&image, [8]).unwrap();
        let later =
            fs::metadata(&image).unwrap().modified().unwrap() + std::time::Duration::from_secs(1);
        fs::File::options().write(true).open(&image).unwrap().set_modified(later).unwrap();
        assert!(differences().ends_with("1 changed"), "{}", differences());
        let others = [items[0], "b/4.png"];
        let message = read(&origin(&folder, &others)).unwrap_err();
        assert!(message.ends_with("1 new, 2 missing, 1 changed"), "{message}");
    }

    #[test]
    fn a_damaged_index_is_refused() {
        let (folder, items, index) = fixture();
        let file = folder.path().join("x.neighbors");
        let now = origin(&folder, &items);
        index.write(&file, &now).unwrap();
        let intact = fs::read(&file).unwrap();
        let read = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            Index::read(&file, &now, WIDTH)
        };
        for position in 0..intact.len() {
            let mut damaged = intact.clone();
            damaged[position] ^= 1;
            read(&damaged).expect_err("one bit differs");
            read(&intact[..position]).expect_err("truncated");
        }
        assert_eq!(read(&intact), Ok(Some(index.clone())));

        // Files with a valid checksum.
        let written = |index: &Index| {
            index.write(&file, &now).unwrap();
            Index::read(&file, &now, WIDTH)
        };
        for left_out in [vec!["none.png".into()], vec!["b/3.png".into(), "a/2.png".into()]] {
            let error = written(&Index { left_out, ..index.clone() }).unwrap_err();
            assert_eq!(error, "its list of left out images is not valid");
        }
        let mut infinite = index.clone();
        infinite.features.values[1] = f32::INFINITY;
        assert!(written(&infinite).unwrap_err().contains("finite features of shape [2, 3]"));
        let all = Index { left_out: vec![], ..index };
        assert!(written(&all).unwrap_err().contains("[3, 3]"));
    }

    #[test]
    fn each_folder_has_an_index_beside_the_weights() {
        let of = |folder: &str| path(Path::new("runs/weights/best.pth"), Path::new(folder));
        let name = of("/data/flowers").to_str().unwrap().to_owned();
        assert!(name.starts_with("runs/weights/best.pth.") && name.ends_with(".neighbors"));
        assert_ne!(of("/data/flowers"), of("/data/birds"));
    }
}
