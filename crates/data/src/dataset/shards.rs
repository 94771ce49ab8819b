//! Lists the images in a folder of shards: from their index, or from the shards.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use alexnet_core::{files, text::shown};
use rayon::prelude::*;

use super::{
    folder::{EXTENSIONS, check_unicode_forms, is_image},
    images::{Folder, ImageList, Images, Item, split},
    subsets::{Subset, describe},
};
use crate::{
    Error, Result,
    shards::{
        BLOCK, INDEX, Location, Shard, Shards, UNFINISHED,
        index::{Index, IndexedShard, MAGIC, Record},
        is_class_name, is_inside, is_name,
        samples::{Sample, Samples},
        stamp,
    },
};

/// The most shards with problems that notes name.
const NAMED: usize = 5;

/// Returns whether a folder holds shards instead of images: it has an index, is being packed, or has
/// `tar` files but no images and no sub-folders.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be read.
pub fn holds_shards(folder: &Path) -> Result<bool> {
    if is_index(&folder.join(INDEX)) || folder.join(UNFINISHED).is_file() {
        return Ok(true);
    }
    let mut has_shards = false;
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b".") {
            continue;
        }
        if is_image(&path) || path.is_dir() {
            return Ok(false);
        }
        has_shards |= is_shard(&path);
    }
    Ok(has_shards)
}

/// Returns whether a file starts as an index of ours. Other programs also write files of its name.
fn is_index(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    let read = files::open(path).and_then(|(mut file, _)| file.read_exact(&mut start));
    read.is_ok() && start == *MAGIC
}

/// Returns the names of the shards in a folder, sorted.
fn shards_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = vec![];
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if is_shard(&path) {
            let name = path.file_name().and_then(|name| name.to_str()).map(String::from);
            let not_utf8 = || "the name of one of its shards is not UTF-8; rename it".into();
            names.push(name.ok_or_else(|| refuse(folder, not_utf8()))?);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns whether a path is a file that is not hidden and ends in `.tar`.
fn is_shard(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.ends_with(b".tar") && !name.starts_with(b".") && path.is_file()
}

/// The images in a folder of shards.
pub struct InShards {
    /// The images.
    pub images: Images,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// Training images.
    pub train: Vec<Item>,
    /// Validation images, if the images are in subsets that include one.
    pub val: Option<Vec<Item>>,
    /// Test images.
    pub test: Vec<Item>,
    /// Notes about what was assumed and what is missing, one sentence each.
    pub notes: Vec<String>,
}

/// Lists the images in a folder of shards.
///
/// # Errors
/// [`Error::Shards`] if the index or, without one, a shard cannot be used; [`Error::Dataset`] if
/// the images are no data set; [`Error::Io`].
pub fn find(root: &Path) -> Result<InShards> {
    let index = root.join(INDEX);
    if index.is_file() {
        return of_index(root, &index);
    }
    if root.join(UNFINISHED).is_file() {
        let reason = "its images were not packed completely: pack them again into it, which \
                      continues, or remove it";
        return Err(refuse(root, reason.into()));
    }
    of_samples(root)
}

fn of_index(root: &Path, path: &Path) -> Result<InShards> {
    let unusable = |reason: String| Error::Shards { path: path.to_owned(), reason };
    let without = "copy it again, or remove it: the images are then listed from the shards, without checksums";
    let file = fs::read(path).map_err(Error::io("read", path))?;
    let index = Index::from_bytes(&file)
        .map_err(|reason| unusable(format!("cannot be used, because {reason}: {without}")))?;
    drop(file);
    let Index { classes, shards, folders, ends, names, records } = index;
    let damaged = |what: String| unusable(format!("cannot be used, because {what}: {without}"));
    if let Some(shard) = shards.iter().find(|shard| !is_name(&shard.name)) {
        return Err(damaged(format!("it has a shard with the name `{}`", shard.name)));
    }
    let problems: Vec<Option<Problem>> =
        shards.par_iter().map(|shard| problem(root, shard)).collect();
    let is_other = |problem: &Option<Problem>| problem.as_ref().is_some_and(|it| it.is_other);
    if let Some(Some(Problem { what, .. })) = problems.first()
        && problems.iter().all(is_other)
    {
        return Err(unusable(format!(
            "belongs to other shards than those beside it: {} {what}. Copy the shards and the \
             index of one data set into a folder, or remove the index: the images are then listed \
             from the shards, without checksums",
            shards[0].name
        )));
    }
    let problems = problems.into_iter().map(|problem| problem.map(|problem| problem.what));
    let problems: Vec<Option<String>> = problems.collect();
    let mut notes = notes_of(&shards, &problems);
    let known: BTreeSet<&str> = shards.iter().map(|shard| shard.name.as_str()).collect();
    let extra = shards_in(root)?.iter().filter(|name| !known.contains(name.as_str())).count();
    if extra > 0 {
        notes.push(format!("{extra} shards are not in {INDEX} and are skipped"));
    }
    let sizes: Vec<u64> = shards.iter().map(|shard| shard.bytes).collect();
    let names_of = shards.into_iter().map(|shard| shard.name).zip(problems);
    let shards = numbered(root, names_of, &sizes)?;
    let location = |record: &Record| Location {
        block: shards[record.shard as usize].first_block + (record.offset / BLOCK) as u32,
        bytes: record.bytes,
        crc: record.crc,
    };
    let locations = records.iter().map(location).collect();
    let undecodable = (0..).zip(&records).filter(|(_, record)| record.width == 0);
    let undecodable = undecodable.map(|(index, _)| index).collect();
    // A folder may have images of several classes only if it is the root, so folders are divided.
    let mut list = ImageList { folders: vec![], names, ends };
    let mut folders = folders.into_iter().peekable();
    let mut current = String::new();
    for (image, record) in (0..).zip(&records) {
        let is_next = folders.next_if(|(_, first)| *first == image).map(|(path, _)| current = path);
        let class = list.folders.last().map(|folder| folder.class);
        if is_next.is_some() || class != Some(record.class) {
            let path = current.as_str().into();
            list.folders.push(Folder { path, class: record.class, first: image });
        }
    }
    drop(records);
    let images = list.in_shards(root.into(), Shards::indexed(shards, locations, undecodable));
    divided(images, classes, notes).map_err(damaged)
}

/// What is wrong with a shard of an index.
struct Problem {
    /// A clause whose subject is the shard.
    what: String,
    /// Whether the file is missing or starts with other bytes. Otherwise a part of it is as indexed.
    is_other: bool,
}

/// Compares the size and the first bytes of a shard with the index.
fn problem(root: &Path, shard: &IndexedShard) -> Option<Problem> {
    let (what, is_other) = match stamp(&root.join(&shard.name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ("is missing: copy it into the folder of the others".into(), true)
        }
        Err(error) => (format!("cannot be read: {error}"), false),
        Ok((_, head)) if head != shard.head => (
            format!("is not the shard that {INDEX} describes: copy that one into the folder"),
            true,
        ),
        Ok((bytes, _)) if bytes != shard.bytes => (
            format!(
                "has {bytes} bytes instead of the {} that {INDEX} states: copy it again",
                shard.bytes
            ),
            false,
        ),
        Ok(_) => return None,
    };
    Some(Problem { what, is_other })
}

fn notes_of(shards: &[IndexedShard], problems: &[Option<String>]) -> Vec<String> {
    let named = shards.iter().zip(problems);
    let mut notes: Vec<String> = named
        .filter_map(|(shard, problem)| {
            problem.as_ref().map(|problem| format!("the shard {} {problem}", shard.name))
        })
        .collect();
    let more = notes.len().saturating_sub(NAMED);
    notes.truncate(NAMED);
    if more > 0 {
        notes.push(format!("{more} more shards are missing or changed"));
    }
    notes
}

/// Numbers the blocks of shards of these sizes.
fn numbered(
    root: &Path,
    shards: impl Iterator<Item = (String, Option<String>)>,
    sizes: &[u64],
) -> Result<Vec<Shard>> {
    let mut next = 0;
    let mut all = vec![];
    for ((name, problem), bytes) in shards.zip(sizes) {
        all.push((name, problem, next));
        next = bytes.div_ceil(BLOCK).saturating_add(next);
    }
    // Checked once, because the blocks of all shards are below the last number.
    if u32::try_from(next).is_err() {
        return Err(refuse(root, "its shards have more than 2 TiB; divide them".into()));
    }
    let shard = |(name, problem, first)| Shard { name, first_block: first as u32, problem };
    Ok(all.into_iter().map(shard).collect())
}

/// An image of a shard without an index.
struct Found {
    class: u32,
    path: Box<str>,
    location: Location,
}

fn of_samples(root: &Path) -> Result<InShards> {
    let names = shards_in(root)?;
    let read: Vec<(u64, Samples)> =
        names.par_iter().map(|name| samples(&root.join(name))).collect::<Result<_>>()?;
    let sizes: Vec<u64> = read.iter().map(|(bytes, _)| *bytes).collect();
    let shards = numbered(root, names.iter().cloned().map(|name| (name, None)), &sizes)?;
    let (classes, class_of) = classes_of(read.iter().map(|(_, samples)| samples));
    let subsets = subsets_of(&names);
    let skipped: usize = read.iter().map(|(_, samples)| samples.skipped).sum();

    let mut found = vec![];
    for (shard, ((_, samples), name)) in read.into_iter().zip(&names).enumerate() {
        let stem = name.strip_suffix(".tar").unwrap_or(name);
        for Sample { name, path, class, offset, bytes } in samples.samples {
            let class = class_of[&samples.classes[class as usize]];
            let path = path.unwrap_or_else(|| {
                // Names may repeat in other shards.
                let path = format!("{}/{stem}/{name}", classes[class as usize]);
                match &subsets {
                    None => path,
                    Some(subsets) => format!("{}/{path}", subsets[shard].folder()),
                }
                .into()
            });
            let block = shards[shard].first_block + (offset / BLOCK) as u32;
            let location = Location { block, bytes, crc: 0 };
            found.push(Found { class, path, location });
        }
    }
    let class = |found: &Found| &classes[found.class as usize];
    let is_split = found.iter().any(|image| !starts_with_class(&image.path, class(image)));
    let key = |found: &Found| (is_split.then(|| Subset::of(first(&found.path))), found.class);
    found.par_sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| split(&a.path).cmp(&split(&b.path))));
    if let Some(pair) = found.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(refuse(root, format!("`{}` is in its shards twice; remove one", pair[0].path)));
    }
    let mut list = ImageList::default();
    let mut locations = Vec::with_capacity(found.len());
    for Found { class, path, location, .. } in found {
        let (folder, name) = split(&path);
        list.push(root, folder, name, class as usize)?;
        locations.push(location);
    }
    let images = list.in_shards(root.into(), Shards::listed(shards, locations));
    let note = format!("{skipped} samples without an image, or links, were skipped");
    let notes = Vec::from_iter((skipped > 0).then_some(note));
    divided(images, classes, notes).map_err(|reason| refuse(root, reason))
}

/// Lists the samples of a shard. Returns its size with them.
fn samples(path: &PathBuf) -> Result<(u64, Samples)> {
    let (file, bytes) = files::open(path).map_err(Error::io("read", path))?;
    let samples = Samples::read(file, bytes, |extension| EXTENSIONS.contains(&extension))
        .map_err(|reason| Error::Shards { path: path.to_owned(), reason })?;
    Ok((bytes, samples))
}

/// Returns the classes of all samples, sorted as folders are, and the index of each. Classes that
/// are numbers without names are sorted as numbers.
fn classes_of<'a>(
    shards: impl Iterator<Item = &'a Samples>,
) -> (Vec<String>, HashMap<String, u32>) {
    let mut all = BTreeSet::new();
    let mut are_named = false;
    for samples in shards {
        are_named |= samples.are_named;
        all.extend(samples.classes.iter().cloned());
    }
    let mut classes: Vec<String> = all.into_iter().collect();
    if !are_named && classes.iter().all(|class| class.parse::<u64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<u64>().unwrap_or_default());
    }
    let indices = classes.iter().cloned().zip(0..).collect();
    (classes, indices)
}

/// Returns the subset of each shard, if all shards have the name of a subset in theirs, such as
/// `imagenet-val-000000.tar`, and one of them is for training and another one is not.
fn subsets_of(names: &[String]) -> Option<Vec<Subset>> {
    let named = |name: &String| name.split(['-', '_', '.']).find_map(Subset::of);
    let subsets: Vec<Subset> = names.iter().map(named).collect::<Option<_>>()?;
    let training = subsets.iter().filter(|subset| **subset == Subset::Train).count();
    (1..subsets.len()).contains(&training).then_some(subsets)
}

/// Returns the first part of a path.
fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// Whether a path starts with the folder of its class, not with that of a subset.
fn starts_with_class(path: &str, class: &str) -> bool {
    first(path) == class
}

/// Returns the subset that a folder is in.
///
/// # Errors
/// If it is not the folder of its class in a subset.
fn subset_in(folder: &str, class: &str) -> Result<Subset, String> {
    let is_nested = folder.split('/').nth(1) == Some(class);
    let subset = Subset::of(first(folder)).filter(|_| is_nested);
    subset.ok_or_else(|| format!("`{folder}` is no folder of its class `{class}`"))
}

/// Divides images into their subsets.
///
/// # Errors
/// Why they are no data set, as a sentence.
fn divided(
    images: Images,
    classes: Vec<String>,
    mut notes: Vec<String>,
) -> Result<InShards, String> {
    if classes.len() < 2 {
        return Err(format!("it has {} classes; at least two are needed", classes.len()));
    }
    if let Some(class) = classes.iter().find(|class| !is_class_name(class)) {
        return Err(format!("its class `{}` cannot be the name of a folder", shown(class)));
    }
    check_unicode_forms(images.root(), &classes).map_err(Error::reason)?;
    if let Some(folder) = images.folders().iter().find(|folder| !is_inside(&folder.path)) {
        return Err(format!("the path `{}` leaves the data set", folder.path));
    }
    if let Some(item) = images.items().find(|item| !is_name(images.parts(*item).1)) {
        return Err(format!("`{}` has no name of a file", images.path(item)));
    }
    let folders =
        || images.folders().iter().map(|folder| (folder, &classes[folder.class as usize]));
    let is_split = folders().any(|(folder, class)| !starts_with_class(&folder.path, class));
    let subset = |(folder, class): (&Folder, &String)| match is_split {
        true => subset_in(&folder.path, class),
        false => Ok(Subset::Train),
    };
    let subsets: Vec<Subset> = folders().map(subset).collect::<Result<_, String>>()?;
    let order = images.folders().iter().zip(&subsets);
    if !order.is_sorted_by_key(|(folder, subset)| (*subset, folder.class)) {
        return Err("its images are not in the order of their subsets and classes".into());
    }
    // The first image after those of the subsets before this one, and the name of its folder.
    let start = |subset: Subset| {
        let folder = images.folders().get(subsets.partition_point(|other| *other < subset));
        folder.map_or(images.len(), |folder| folder.first as usize)
    };
    let name = |subset: Subset| {
        let folder = subsets.iter().position(|other| *other == subset)?;
        Some(first(&images.folders()[folder].path).to_owned())
    };
    let [train, val, test] = [Subset::Train, Subset::Val, Subset::Test].map(name);
    if is_split {
        let train = train.ok_or("it has no training images")?;
        notes.insert(0, describe(&train, val.as_deref(), test.as_deref()));
    }
    let [validation, tested] = [Subset::Val, Subset::Test].map(start);
    let mut items: Vec<Item> = images.items().collect();
    let tests = items.split_off(tested);
    let validating = items.split_off(validation);
    let val = val.map(|_| validating);
    Ok(InShards { images, classes, train: items, val, test: tests, notes })
}

fn refuse(path: &Path, reason: String) -> Error {
    Error::Dataset { path: path.to_owned(), reason }
}
