//! The index of shards: the place, size, class and checksum of each image, in one file. With it, a
//! data set of a million images opens without reading its shards.
//!
//! All numbers are little-endian. A text is its length in bytes as `u32` and its UTF-8.
//!
//! | part | content |
//! |---|---|
//! | header | `ALXSHARD`, the version `1` as `u32`, the CRC-32 of all that follows as `u32` |
//! | numbers | of classes, shards, folders and images as `u32` each; bytes of all names as `u64` |
//! | classes | a text for each |
//! | shards | for each: its file name as a text, its size as `u64`, the CRC-32 of its first 4,096 bytes as `u32` |
//! | folders | for each: its path as a text, the index of its first image as `u32` |
//! | name ends | for each image: the end of its name among the names as `u32` |
//! | names | of all images, without separators |
//! | images | for each, as `u32` unless noted: shard, class, offset (`u64`), bytes, CRC-32, width, height |
//!
//! Images are in the order of their data set. Width and height are 0 for an image that could not be
//! decoded when it was packed.

/// The first bytes of an index.
pub const MAGIC: &[u8; 8] = b"ALXSHARD";

/// The version of the format.
const VERSION: u32 = 1;

/// Length of the magic number, the version and the checksum.
const HEADER: usize = 16;

/// Length of the record of an image.
const RECORD: usize = 32;

/// The largest number of classes, shards and folders, and the longest text: sizes that no real
/// data set has.
const MOST: u32 = 1 << 24;

/// A shard of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedShard {
    /// The name of its file.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The CRC-32 of its first bytes.
    pub head: u32,
}

/// An image of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The index of its shard.
    pub shard: u32,
    /// The index of its class.
    pub class: u32,
    /// Its position in the shard.
    pub offset: u64,
    /// Its size.
    pub bytes: u32,
    /// The CRC-32 of its bytes.
    pub crc: u32,
    /// Its width in pixels, before it is turned as its metadata says.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
}

/// The content of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// The shards.
    pub shards: Vec<IndexedShard>,
    /// The folders of the images, each with the index of its first image.
    pub folders: Vec<(String, u32)>,
    /// The end of each name.
    pub ends: Vec<u32>,
    /// The names of the images, one after the other.
    pub names: String,
    /// The images.
    pub records: Vec<Record>,
}

impl Index {
    /// Returns the content of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file =
            Vec::with_capacity(HEADER + self.names.len() + (4 + RECORD) * self.records.len());
        file.extend(MAGIC);
        file.extend(VERSION.to_le_bytes());
        file.extend([0; 4]);
        self.write_body(&mut file);
        let crc = crc32fast::hash(&file[HEADER..]);
        file[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
        file
    }

    fn write_body(&self, body: &mut Vec<u8>) {
        let number = |body: &mut Vec<u8>, n: u32| body.extend(n.to_le_bytes());
        let text = |body: &mut Vec<u8>, text: &str| {
            number(body, text.len() as u32);
            body.extend(text.as_bytes());
        };
        for count in [self.classes.len(), self.shards.len(), self.folders.len(), self.records.len()]
        {
            number(body, count as u32);
        }
        body.extend((self.names.len() as u64).to_le_bytes());
        self.classes.iter().for_each(|class| text(body, class));
        for IndexedShard { name, bytes, head } in &self.shards {
            text(body, name);
            body.extend(bytes.to_le_bytes());
            number(body, *head);
        }
        for (path, first) in &self.folders {
            text(body, path);
            number(body, *first);
        }
        self.ends.iter().for_each(|end| number(body, *end));
        body.extend(self.names.as_bytes());
        for Record { shard, class, offset, bytes, crc, width, height } in &self.records {
            number(body, *shard);
            number(body, *class);
            body.extend(offset.to_le_bytes());
            [bytes, crc, width, height].iter().for_each(|n| number(body, **n));
        }
    }

    /// Reads the content of the file, and checks that all numbers refer to something in it.
    ///
    /// # Errors
    /// What is wrong with the file, as a clause whose subject is the index.
    pub fn from_bytes(file: &[u8]) -> Result<Self, String> {
        let (header, body) = file.split_at_checked(HEADER).ok_or("it is truncated")?;
        if !header.starts_with(MAGIC) {
            return Err("it is not an index of shards".into());
        }
        let [version, crc] =
            [8, 12].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i])));
        if version != VERSION {
            return Err(format!(
                "it has version {version} of the format, and this program reads version {VERSION}"
            ));
        }
        if crc32fast::hash(body) != crc {
            return Err("its content does not match its checksum".into());
        }
        let index = Self::from_body(&mut Reader(body))
            .ok_or("it has numbers that refer to nothing in it")?;
        Ok(index)
    }

    fn from_body(body: &mut Reader) -> Option<Self> {
        let counts = [body.u32()?, body.u32()?, body.u32()?, body.u32()?];
        let name_bytes = usize::try_from(body.u64()?).ok()?;
        let [classes, shards, folders, images] = counts;
        if [classes, shards, folders].iter().any(|count| *count > MOST) {
            return None;
        }
        let classes = (0..classes).map(|_| body.text()).collect::<Option<Vec<_>>>()?;
        let shard = |body: &mut Reader| {
            Some(IndexedShard { name: body.text()?, bytes: body.u64()?, head: body.u32()? })
        };
        let shards = (0..shards).map(|_| shard(body)).collect::<Option<Vec<_>>>()?;
        let folders =
            (0..folders).map(|_| Some((body.text()?, body.u32()?))).collect::<Option<Vec<_>>>()?;
        let images = images as usize;
        let ends: Vec<u32> =
            body.take(images.checked_mul(4)?)?.chunks_exact(4).map(u32_of).collect();
        let names = str::from_utf8(body.take(name_bytes)?).ok()?.to_owned();
        let records: Vec<Record> = body
            .take(images.checked_mul(RECORD)?)?
            .chunks_exact(RECORD)
            .map(Record::from_bytes)
            .collect();
        let index = Self { classes, shards, folders, ends, names, records };
        (body.0.is_empty() && index.is_sound()).then_some(index)
    }

    /// Whether the folders cover the images, the names their text, and all images are in shards.
    fn is_sound(&self) -> bool {
        let Self { classes, shards, folders, ends, names, records } = self;
        let mut starts = folders.iter().map(|(_, first)| *first);
        let start = |n: u32| (n as usize) < records.len();
        let folders_cover = match folders.first() {
            None => records.is_empty(),
            Some((_, first)) => *first == 0 && starts.all(start),
        };
        let mut start = 0;
        let names_cover = ends.iter().all(|end| {
            let found =
                names.get(start as usize..*end as usize).is_some_and(|name| !name.is_empty());
            start = *end;
            found
        });
        let is_inside = |record: &Record| {
            let shard = shards.get(record.shard as usize);
            let end = record.offset.checked_add(record.bytes.into());
            (record.class as usize) < classes.len()
                && record.offset.is_multiple_of(super::BLOCK)
                && shard.zip(end).is_some_and(|(shard, end)| end <= shard.bytes)
        };
        folders_cover
            && folders.is_sorted_by(|(_, a), (_, b)| a < b)
            && names_cover
            && start as usize == names.len()
            && records.iter().all(is_inside)
    }
}

impl Record {
    fn from_bytes(record: &[u8]) -> Self {
        let number = |at: usize| u32_of(&record[at..at + 4]);
        Self {
            shard: number(0),
            class: number(4),
            offset: u64::from(number(8)) | u64::from(number(12)) << 32,
            bytes: number(16),
            crc: number(20),
            width: number(24),
            height: number(28),
        }
    }
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The part of the file that is not read yet. Each method returns `None` at its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(u32_of)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from(self.u32()?) | u64::from(self.u32()?) << 32)
    }

    fn text(&mut self) -> Option<String> {
        let bytes = self.u32().filter(|bytes| *bytes <= MOST)?;
        Some(str::from_utf8(self.take(bytes as usize)?).ok()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let record =
            |class, offset| Record { class, offset, bytes: 700, crc: 5, ..Record::default() };
        Index {
            classes: vec!["a".into(), "é".into()],
            shards: vec![IndexedShard { name: "shard-000000.tar".into(), bytes: 8192, head: 9 }],
            folders: vec![("a".into(), 0), ("é/sub".into(), 1)],
            ends: vec![5, 10, 18],
            names: "1.jpg2.jpgöö.png".into(),
            records: vec![record(0, 512), record(1, 4096), record(1, 2048)],
        }
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let file = index().to_bytes();
        assert_eq!(Index::from_bytes(&file).unwrap(), index());
        let none = Index::default();
        assert_eq!(Index::from_bytes(&none.to_bytes()).unwrap(), none);
        for end in 0..file.len() {
            assert!(Index::from_bytes(&file[..end]).is_err(), "{end}");
        }
        for position in 0..file.len() {
            let mut damaged = file.clone();
            damaged[position] ^= 16;
            assert!(Index::from_bytes(&damaged).is_err(), "{position}");
        }
    }

    #[test]
    fn numbers_that_refer_to_nothing_are_refused() {
        let refused = |change: fn(&mut Index)| {
            let mut index = index();
            change(&mut index);
            let message = Index::from_bytes(&index.to_bytes()).unwrap_err();
            assert!(message.contains("refer to nothing"), "{message}");
        };
        refused(|index| index.records[1].shard = 1);
        refused(|index| index.records[1].class = 2);
        refused(|index| index.records[1].offset = 8192 - 512);
        refused(|index| index.records[1].offset = 1000);
        refused(|index| index.records[1].offset = u64::MAX - 511);
        refused(|index| index.folders[0].1 = 1);
        refused(|index| index.folders[1].1 = 3);
        refused(|index| index.folders[1].1 = 0);
        refused(|index| index.folders.clear());
        refused(|index| index.ends[1] = 4);
        refused(|index| index.ends[1] = 5);
        // In the middle of a character.
        refused(|index| index.ends[1] = 11);
        refused(|index| index.ends[2] = 17);
        refused(|index| index.ends[2] = 19);
    }

    #[test]
    fn other_versions_and_other_files_are_named() {
        let mut file = index().to_bytes();
        file[8] = 2;
        assert!(Index::from_bytes(&file).unwrap_err().contains("it has version 2"));
        assert_eq!(
            Index::from_bytes(b"no index, but long enough").unwrap_err(),
            "it is not an index of shards"
        );
        assert_eq!(Index::from_bytes(b"ALXSHARD").unwrap_err(), "it is truncated");
    }
}
