//! Packs the images of a data set into shards with an index. `docs/shards.md` describes the files.
//!
//! The images of each subset are packed in a random order that depends only on their number, so
//! that images next to each other in a shard are of different classes. Packing the same images
//! again gives the same bytes.

mod image;
mod shard;

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use alexnet_core::{
    files::{self, create_folders, is_temporary, remove_temporary, sync_folder, write_atomically},
    lock::Lock,
    rng::{Purpose, permutation},
    text::shown,
};
use rayon::prelude::*;

use self::{
    image::{Packable, describe, prepare},
    shard::ShardWriter,
};
use crate::{
    Error, Result,
    dataset::{Item, folder::EXTENSIONS, images::ImageList, listing::Listing, subsets::Subset},
    progress::Progress,
    shards::{
        BLOCK, INDEX, Location, Shard, Shards, UNFINISHED,
        index::{Index, IndexedShard, Record},
        samples::Samples,
        stamp,
    },
};

/// Images that are read and resized at the same time.
const CHUNK: usize = 64;

/// The name of the file that keeps other processes out.
const LOCK: &str = ".lock";

/// The most bytes that shards can have together, see [`Location`].
const MAX_BYTES: u64 = 1 << 41;

/// Options of packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// The largest size of a shard in bytes. A shard with one image may be larger.
    pub shard_bytes: u64,
    /// Larger images are resized so that their longer side has this number of pixels, and stored as
    /// JPEG; 0 stores all images byte for byte.
    pub max_side: u32,
    /// The quality of resized images, 1 to 100.
    pub quality: u8,
}

impl Default for PackOptions {
    /// Shards of 256 MiB, images byte for byte.
    fn default() -> Self {
        Self { shard_bytes: 256 << 20, max_side: 0, quality: 90 }
    }
}

/// What was packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Number of images.
    pub images: usize,
    /// Number of shards.
    pub shards: usize,
    /// Size of all shards.
    pub bytes: u64,
    /// Number of images in shards that an interrupted call had finished.
    pub kept: usize,
    /// Sorted paths of the images that cannot be decoded. They are stored byte for byte.
    pub undecodable: Vec<String>,
}

/// Packs all images of `listing` into shards in the folder `out`. After an interruption, the same
/// call continues: finished shards are kept.
///
/// Each shard and the index are complete or absent. The index is written last.
///
/// # Errors
/// [`Error::Exists`] if `out` holds something else; [`Error::AmongImages`] if it is in the folder of
/// the images; [`Error::Dataset`] if the shards would have more than 2 TiB; [`Error::Invalid`];
/// [`Error::Core`] if another process packs into `out` or a file cannot be written;
/// [`Error::Shards`] if a finished shard is damaged; [`Error::Io`] and [`Error::Image`] if an image
/// cannot be read.
pub fn pack(
    listing: &Listing,
    out: &Path,
    options: &PackOptions,
    progress: &Progress,
) -> Result<Packed> {
    check(options)?;
    listing.images.check_outside(out)?;
    create_folders(out)?;
    let lock = Lock::acquire(out.join(LOCK))?;
    start(out, &plan(listing, options))?;
    let packed = Packer::new(listing, out, options, progress).run()?;
    for name in [UNFINISHED, LOCK] {
        let path = out.join(name);
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    drop(lock);
    sync_folder(out).map_err(Error::io("sync", out))?;
    Ok(packed)
}

fn check(options: &PackOptions) -> Result<()> {
    let PackOptions { shard_bytes, quality, .. } = *options;
    let invalid = |field, value, reason| Err(Error::Invalid { field, value, reason });
    if shard_bytes == 0 {
        return invalid("shard_bytes", shard_bytes.to_string(), "it must be at least 1");
    }
    if !(1..=100).contains(&quality) {
        return invalid("quality", quality.to_string(), "it must be from 1 to 100");
    }
    Ok(())
}

/// Describes what is packed, so that another call can tell whether it would continue the same.
fn plan(listing: &Listing, options: &PackOptions) -> String {
    let mut hasher = crc32fast::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    listing.classes.iter().for_each(|class| add(class));
    for item in listing.items() {
        add(&listing.images.path(item));
        add(&listing.images.class(item).to_string());
    }
    let PackOptions { shard_bytes, max_side, quality } = options;
    format!(
        "Images are being packed here; {INDEX} is written when all of them are packed.\n\
         {} images with the checksum {:08x}\n\
         shard bytes {shard_bytes}, max side {max_side}, quality {quality}\n",
        listing.items().count(),
        hasher.finalize()
    )
}

/// Marks `out` as being packed, or checks that the same is being packed into it.
fn start(out: &Path, plan: &str) -> Result<()> {
    let exists = |holds| Err(Error::Exists { path: out.to_owned(), holds });
    let marker = out.join(UNFINISHED);
    match fs::read_to_string(&marker) {
        Ok(found) if found == plan => return Ok(remove_temporary(out)?),
        Ok(_) => return exists("other images, or with other options, are being packed into it"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("read", marker)(error)),
    }
    if out.join(INDEX).exists() {
        return exists("images are already packed into it");
    }
    let entries = fs::read_dir(out).map_err(Error::io("read", out))?;
    let mut names = entries.flatten().map(|entry| entry.file_name());
    // A call that was killed before the marker was complete leaves only a temporary file.
    if names.any(|name| name != LOCK && !is_temporary(&name)) {
        return exists("it is not empty");
    }
    remove_temporary(out)?;
    Ok(write_atomically(marker, |file| file.write_all(plan.as_bytes()))?)
}

/// The state of packing.
struct Packer<'a> {
    listing: &'a Listing,
    out: &'a Path,
    options: &'a PackOptions,
    progress: &'a Progress<'a>,
    /// All images, in the order of the index.
    all: Vec<Item>,
    /// Of each of them; those of images that are not packed yet are zeros.
    records: Vec<Record>,
    shards: Vec<IndexedShard>,
    done: usize,
    packed: Packed,
}

impl<'a> Packer<'a> {
    fn new(
        listing: &'a Listing,
        out: &'a Path,
        options: &'a PackOptions,
        progress: &'a Progress<'a>,
    ) -> Self {
        let all: Vec<Item> = listing.items().collect();
        let records = vec![Record::default(); all.len()];
        let packed = Packed { images: all.len(), ..Packed::default() };
        Self { listing, out, options, progress, all, records, shards: vec![], done: 0, packed }
    }

    fn run(mut self) -> Result<Packed> {
        let Listing { train, val, test, .. } = self.listing;
        let is_split = val.is_some() || !test.is_empty();
        let subsets = [
            (Subset::Train, train.len()),
            (Subset::Val, val.as_ref().map_or(0, Vec::len)),
            (Subset::Test, test.len()),
        ];
        let mut first = 0;
        for (subset, count) in subsets {
            let name = if is_split { subset.folder() } else { "shard" };
            let order = permutation(0, Purpose::Pack, subset as u64, 0, count);
            let order: Vec<usize> = order.into_iter().map(|index| first + index).collect();
            self.pack_subset(name, &order)?;
            first += count;
        }
        self.packed.shards = self.shards.len();
        let index = self.index()?.to_bytes();
        write_atomically(self.out.join(INDEX), |file| file.write_all(&index))?;
        self.packed.undecodable.sort_unstable();
        Ok(self.packed)
    }

    /// Packs the images with these indices, in this order.
    fn pack_subset(&mut self, name: &str, order: &[usize]) -> Result<()> {
        let file = |shard: usize| format!("{name}-{shard:06}.tar");
        let (mut shard, mut rest) = (0, order);
        while !rest.is_empty() && self.out.join(file(shard)).exists() {
            rest = &rest[self.keep(file(shard), rest)?..];
            shard += 1;
        }
        let mut open: Option<ShardWriter> = None;
        for chunk in rest.chunks(CHUNK) {
            let images = &self.listing.images;
            let read = |index: &usize| prepare(images, self.all[*index], self.options);
            let read: Vec<Packable> = chunk.par_iter().map(read).collect::<Result<_>>()?;
            for (index, image) in chunk.iter().zip(&read) {
                if let Some(full) =
                    open.take_if(|writer| !writer.has_room(image, self.options.shard_bytes))
                {
                    self.add_shard(full.finish()?)?;
                }
                let writer = match &mut open {
                    Some(writer) => writer,
                    None => {
                        shard += 1;
                        open.insert(ShardWriter::create(self.out, file(shard - 1))?)
                    }
                };
                let item = self.all[*index];
                let (path, class) =
                    (self.listing.images.path(item), self.listing.images.class(item));
                let key = format!("{:0width$}", self.done, width = self.key_width());
                let offset =
                    writer.add(&key, image, (class, &self.listing.classes[class]), &path)?;
                self.add(*index, offset, image);
            }
        }
        match open {
            Some(last) => self.add_shard(last.finish()?),
            None => Ok(()),
        }
    }

    /// Returns the number of digits of a key, at least the usual six.
    fn key_width(&self) -> usize {
        self.all.len().saturating_sub(1).to_string().len().max(6)
    }

    /// Adds an image of the shard that follows the added ones.
    fn add(&mut self, index: usize, offset: u64, image: &Packable) {
        let class = self.listing.images.class(self.all[index]);
        let [width, height] = image.size.unwrap_or_default();
        self.records[index] = Record {
            shard: self.shards.len() as u32,
            class: class as u32,
            offset,
            bytes: image.bytes.len() as u32,
            crc: crc32fast::hash(&image.bytes),
            width,
            height,
        };
        if image.size.is_none() {
            self.packed.undecodable.push(self.listing.images.path(self.all[index]));
        }
        self.done += 1;
        (self.progress)(self.done, self.all.len());
    }

    fn add_shard(&mut self, shard: IndexedShard) -> Result<()> {
        self.packed.bytes += shard.bytes;
        self.shards.push(shard);
        if self.packed.bytes > MAX_BYTES {
            let reason = "its shards would have more than 2 TiB; divide the images";
            return Err(Error::Dataset { path: self.out.to_owned(), reason: reason.into() });
        }
        Ok(())
    }

    /// Adds a shard that an interrupted call has finished. It has the first of the images `order`.
    /// Returns their number.
    fn keep(&mut self, name: String, order: &[usize]) -> Result<usize> {
        let path = self.out.join(&name);
        let unusable = |reason| Error::Shards { path: path.clone(), reason };
        let again = "remove it, then its images are packed again";
        let (bytes, samples) = finished(&path)?;
        let images = &self.listing.images;
        let are_expected = samples.iter().zip(order).all(|((path, _), index)| {
            path.as_deref().is_some_and(|path| path == images.path(self.all[*index]))
        });
        if samples.is_empty() || samples.len() > order.len() || !are_expected {
            let what = "does not have the images that are packed into it";
            return Err(unusable(format!("{what}: {again}")));
        }
        let items = order.iter().map(|index| self.all[*index]);
        if let Some(item) = self.first_changed(&path, items.zip(&samples))? {
            let image = images.path(item);
            let what = format!("{} was changed after it was packed", shown(&image));
            return Err(unusable(format!("{what}: {again}")));
        }
        let shard = Shard { name: name.clone(), first_block: 0, problem: None };
        let locations: Vec<Location> = samples.iter().map(|(_, location)| *location).collect();
        let shards = Shards::listed(vec![shard], locations);
        let found = (0..samples.len()).into_par_iter().map(|image| {
            let (bytes, _memory) = shards.read(self.out, image)?;
            Ok((describe(bytes), shards.place(image).offset))
        });
        let found = found.collect::<Result<Vec<_>, String>>().map_err(unusable)?;
        for ((image, offset), index) in found.iter().zip(order) {
            self.add(*index, *offset, image);
        }
        let (_, head) = stamp(&path).map_err(Error::io("read", &path))?;
        self.packed.kept += samples.len();
        self.add_shard(IndexedShard { name, bytes, head })?;
        Ok(samples.len())
    }

    /// Returns the first image file that is newer than a shard with these images, or has another
    /// size in it although images are stored byte for byte.
    fn first_changed<'s>(
        &self,
        shard: &Path,
        mut samples: impl Iterator<Item = (Item, &'s Finished)>,
    ) -> Result<Option<Item>> {
        if self.listing.images.shards().is_some() {
            return Ok(None);
        }
        let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
        let packed = modified(shard).map_err(Error::io("read", shard))?;
        let changed = samples.find(|(item, (_, location))| {
            let file = fs::metadata(self.listing.images.file(*item));
            file.is_ok_and(|file| {
                let is_newer = file.modified().is_ok_and(|modified| modified > packed);
                is_newer || self.options.max_side == 0 && file.len() != u64::from(location.bytes)
            })
        });
        Ok(changed.map(|(item, _)| item))
    }

    /// Returns the index of the packed images.
    fn index(&mut self) -> Result<Index> {
        let images = &self.listing.images;
        let mut list = ImageList::default();
        for item in &self.all {
            let (folder, name) = images.parts(*item);
            list.push(images.root(), folder, name, images.class(*item))?;
        }
        let ImageList { folders, names, ends } = list;
        let folders =
            folders.into_iter().map(|folder| (folder.path.into(), folder.first)).collect();
        Ok(Index {
            classes: self.listing.classes.clone(),
            shards: std::mem::take(&mut self.shards),
            folders,
            ends,
            names,
            records: std::mem::take(&mut self.records),
        })
    }
}

/// The path of an image of a finished shard, and where it is.
type Finished = (Option<Box<str>>, Location);

/// Lists the images of a finished shard. Returns its size with them.
fn finished(path: &PathBuf) -> Result<(u64, Vec<Finished>)> {
    let (file, bytes) = files::open(path).map_err(Error::io("read", path))?;
    let samples = Samples::read(file, bytes, |extension| EXTENSIONS.contains(&extension))
        .map_err(|reason| Error::Shards { path: path.clone(), reason })?;
    let samples = samples.samples.into_iter().map(|sample| {
        let block = (sample.offset / BLOCK) as u32;
        (sample.path, Location { block, bytes: sample.bytes, crc: 0 })
    });
    Ok((bytes, samples.collect()))
}
