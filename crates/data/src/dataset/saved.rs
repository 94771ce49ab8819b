//! The file `split.json`. It is written and read image by image, because the text of a large data
//! set takes several times the memory of its list.

use std::{
    fmt,
    fs::File,
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use alexnet_core::files::write_atomically;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};

use super::{
    Dataset, Images, Item,
    images::{ImageList, split},
};
use crate::{Error, Result};

impl Dataset {
    /// Writes `split.json`, with a checksum.
    ///
    /// # Errors
    /// [`Error::Core`] when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| {
            let mut writer = BufWriter::new(file);
            let saved = Saved { dataset: self, crc32: Some(self.checksum()) };
            serde_json::to_writer_pretty(&mut writer, &saved)?;
            writer.write_all(b"\n")?;
            writer.flush()
        })?;
        Ok(())
    }

    /// Reads `split.json`. The images are those of the list in it; [`Dataset::opened`] finds them in
    /// shards.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Dataset`] if the file is not a split, was changed after it was
    /// written, or refers to a class that it does not list. Files of earlier versions have no
    /// checksum and are not checked for changes.
    pub fn load(path: &Path) -> Result<Self> {
        let refuse = |reason| Error::Dataset { path: path.to_owned(), reason };
        let file = File::open(path).map_err(Error::io("read", path))?;
        let Loaded { dataset, crc32 } =
            serde_json::from_reader(BufReader::new(file)).map_err(|error| match error.is_io() {
                true => Error::io("read", path)(error.into()),
                false => refuse(format!("it is not a valid split: {error}")),
            })?;
        if crc32.is_some_and(|written| written != dataset.checksum()) {
            let reason = "it was changed after it was written; restore the original file".into();
            return Err(refuse(reason));
        }
        let class = |item| dataset.images.class(item);
        if let Some(item) = dataset.all().find(|item| class(*item) >= dataset.classes.len()) {
            let (path, class) = (dataset.images.path(item), class(item));
            return Err(refuse(format!("`{path}` is of class {class}, which is not listed")));
        }
        Ok(dataset)
    }
}

/// The content of `split.json`: a data set and its checksum.
struct Saved<'a> {
    dataset: &'a Dataset,
    crc32: Option<String>,
}

impl Serialize for Dataset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Saved { dataset: self, crc32: None }.serialize(serializer)
    }
}

impl Serialize for Saved<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Dataset { images, classes, train, val, test } = self.dataset;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("root", images.root())?;
        map.serialize_entry("classes", classes)?;
        map.serialize_entry("train", &Items(images, train))?;
        map.serialize_entry("val", &Items(images, val))?;
        if !test.is_empty() {
            map.serialize_entry("test", &Items(images, test))?;
        }
        if let Some(crc32) = &self.crc32 {
            map.serialize_entry("crc32", crc32)?;
        }
        map.end()
    }
}

struct Items<'a>(&'a Images, &'a [Item]);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(images, items) = *self;
        let mut list = serializer.serialize_seq(Some(items.len()))?;
        for item in items {
            list.serialize_element(&SavedItem {
                path: images.path(*item),
                class: images.class(*item),
            })?;
        }
        list.end()
    }
}

/// An image in the file.
#[derive(Serialize, Deserialize)]
struct SavedItem {
    path: String,
    class: usize,
}

/// A data set that was read, with the checksum in its file.
struct Loaded {
    dataset: Dataset,
    crc32: Option<String>,
}

impl<'de> Deserialize<'de> for Dataset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Loaded::deserialize(deserializer)?.dataset)
    }
}

impl<'de> Deserialize<'de> for Loaded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FileVisitor)
    }
}

struct FileVisitor;

impl<'de> Visitor<'de> for FileVisitor {
    type Value = Loaded;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a split")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Loaded, M::Error> {
        let mut list = ImageList::default();
        let (mut root, mut classes, mut crc32) = (None::<PathBuf>, None, None);
        let (mut train, mut val, mut test) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let subset = match key.as_str() {
                "train" => &mut train,
                "val" => &mut val,
                "test" => &mut test,
                "root" => {
                    root = Some(map.next_value()?);
                    continue;
                }
                "classes" => {
                    classes = Some(map.next_value()?);
                    continue;
                }
                "crc32" => {
                    crc32 = map.next_value()?;
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if subset.is_some() {
                return Err(M::Error::custom(format!("it lists `{key}` twice")));
            }
            *subset = Some(map.next_value_seed(ItemsSeed(&mut list))?);
        }
        let missing = M::Error::missing_field;
        let images = list.in_files(root.ok_or_else(|| missing("root"))?);
        let dataset = Dataset {
            images: Arc::new(images),
            classes: classes.ok_or_else(|| missing("classes"))?,
            train: train.ok_or_else(|| missing("train"))?,
            val: val.ok_or_else(|| missing("val"))?,
            test: test.unwrap_or_default(),
        };
        Ok(Loaded { dataset, crc32 })
    }
}

/// Reads images into a list.
struct ItemsSeed<'a>(&'a mut ImageList);

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = Vec<Item>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Item>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = Vec<Item>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of images")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Vec<Item>, S::Error> {
        let mut items = vec![];
        while let Some(SavedItem { path, class }) = list.next_element()? {
            let (folder, name) = split(&path);
            let item = self.0.push(Path::new(""), folder, name, class);
            items.push(item.map_err(|error| S::Error::custom(error.reason()))?);
        }
        Ok(items)
    }
}
