//! Packing images into shards, reading them, and damaged shards.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use alexnet_core::{sum_order::Share, train::Batches};
use alexnet_data::{
    Error,
    dataset::{Dataset, holds_shards, listing::Listing},
    decode::Options,
    loader::{Loader, LoaderOptions, OnBadImage, Shuffle},
    pack::{PackOptions, Packed, pack},
    split::SplitOptions,
    synthetic::draw_flower,
};
use tempfile::TempDir;

/// Small enough for several shards of a few images.
const SMALL: PackOptions = PackOptions { shard_bytes: 40_000, max_side: 0, quality: 90 };

/// Creates a folder with `flowers/`, which has 24 images of three classes in two formats.
fn flowers() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for class in 0..3 {
        for image in 0..8 {
            let name = ["b", "a-b", "a"][class];
            let file = match image % 4 {
                0 => format!("{name}/sub/{image}.PNG"),
                1 => format!("{name}/é {image}.jpg"),
                _ => format!("{name}/{image}.jpeg"),
            };
            let path = place.path().join("flowers").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let side = 40 + 5 * image as u32;
            let flower = draw_flower(class, image, 0);
            let flower = image::imageops::thumbnail(&flower, side, 50);
            flower.save(&path).unwrap();
        }
    }
    place
}

fn packed(place: &Path, options: &PackOptions) -> (PathBuf, Packed) {
    let out = place.join("shards");
    let listing = Listing::read(&place.join("flowers")).unwrap();
    let packed = pack(&listing, &out, options, &|_, _| {}).unwrap();
    (out, packed)
}

/// Returns the path of the first image of a shard.
fn first_image(shard: &Path) -> String {
    let shard = fs::read(shard).unwrap();
    let text = String::from_utf8_lossy(&shard);
    let (_, path) = text.split_once(r#""path":""#).unwrap();
    path.split_once('"').unwrap().0.to_owned()
}

/// Path, class and pixels of each image of a subset.
fn content(listing: &Listing) -> Vec<(String, usize, Vec<u8>)> {
    let images = &listing.images;
    let image = |item| {
        let decoded = images.decode(item, Options::default()).unwrap();
        (images.path(item), images.class(item), decoded.image.into_raw())
    };
    listing.items().map(image).collect()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let file = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

#[test]
fn shards_list_and_hold_the_images_of_the_folder() {
    let place = flowers();
    let (out, packed) = packed(place.path(), &SMALL);
    assert_eq!((packed.images, packed.kept, packed.undecodable.len()), (24, 0, 0));
    let files = files(&out);
    let shards = files.iter().filter(|(name, _)| name.ends_with(".tar"));
    assert!(shards.clone().all(|(_, bytes)| bytes.len() <= 40_000 && bytes.len() % 512 == 0));
    assert_eq!((files.len(), packed.shards), (shards.clone().count() + 1, shards.clone().count()));
    assert!(packed.shards >= 3, "{packed:?}");
    assert_eq!(packed.bytes, shards.map(|(_, bytes)| bytes.len() as u64).sum::<u64>());

    let folder = Listing::read(&place.path().join("flowers")).unwrap();
    let indexed = Listing::read(&out).unwrap();
    assert_eq!(indexed.classes, ["a", "a-b", "b"]);
    assert!(indexed.notes.is_empty() && indexed.val.is_none(), "{indexed:?}");
    assert_eq!(content(&indexed), content(&folder));
    // Without the index, the shards are listed.
    fs::remove_file(out.join("index.bin")).unwrap();
    let listed = Listing::read(&out).unwrap();
    assert_eq!(listed.classes, folder.classes);
    assert_eq!(content(&listed), content(&folder));

    // The same split, and the same images in another folder.
    let options = SplitOptions { val_fraction: 0.25, seed: 3, ..SplitOptions::default() };
    let [folder, indexed, listed] =
        [folder, indexed, listed].map(|listing| listing.split(&options).unwrap());
    assert_eq!(indexed.checksum(), folder.checksum());
    assert_eq!(listed.checksum(), folder.checksum());
    let moved = indexed.clone().with_images(Arc::clone(&folder.images)).unwrap();
    assert_eq!(moved, folder);
    let saved = place.path().join("split.json");
    indexed.save(&saved).unwrap();
    let loaded = Dataset::load(&saved).unwrap();
    assert!(loaded.images.shards().is_none());
    let opened = loaded.opened().unwrap();
    assert!(opened.images.shards().is_some());
    assert_eq!(opened, listed);
}

#[test]
fn images_are_stored_byte_for_byte_and_packing_again_gives_the_same_bytes() {
    let place = flowers();
    fs::write(place.path().join("flowers/b/0.jpg"), "damaged").unwrap();
    let (out, packed) = packed(place.path(), &SMALL);
    assert_eq!(packed.undecodable, ["b/0.jpg"]);
    let mut found = BTreeMap::new();
    for (name, bytes) in files(&out).iter().filter(|(name, _)| name.ends_with(".tar")) {
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut sample: Vec<(String, Vec<u8>)> = vec![];
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = vec![];
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            sample.push((name, content));
        }
        assert_eq!(sample.len() % 3, 0, "{name}");
        for files in sample.chunks(3) {
            let [(image, bytes), (class, index), (label, json)] = files else { unreachable!() };
            let key = image.split('.').next().unwrap();
            assert_eq!([class, label], [&format!("{key}.cls"), &format!("{key}.json")]);
            let json: serde_json::Value = serde_json::from_slice(json).unwrap();
            let class: usize = str::from_utf8(index).unwrap().parse().unwrap();
            assert_eq!(json["class"], ["a", "a-b", "b"][class]);
            let path = json["path"].as_str().unwrap();
            assert!(image.ends_with(&path.rsplit_once('.').unwrap().1.to_lowercase()), "{image}");
            found.insert(path.to_owned(), bytes.clone());
        }
    }
    assert_eq!(found.len(), 25);
    for (path, bytes) in &found {
        assert!(*bytes == fs::read(place.path().join("flowers").join(path)).unwrap(), "{path}");
    }
    // The shards of shards.
    let again = place.path().join("again");
    pack(&Listing::read(&out).unwrap(), &again, &SMALL, &|_, _| {}).unwrap();
    assert!(files(&again) == files(&out));
}

#[test]
fn subsets_have_their_own_shards() {
    let place = flowers();
    let options = SplitOptions { val_fraction: 0.25, seed: 0, ..SplitOptions::default() };
    let dataset = Dataset::open(&place.path().join("flowers"), &options).unwrap();
    let split = place.path().join("split");
    dataset.copy_to(&split, &mut |_| {}).unwrap();
    let out = place.path().join("shards");
    let folder = Listing::read(&split).unwrap();
    pack(&folder, &out, &SMALL, &|_, _| {}).unwrap();
    let names: Vec<String> = files(&out).into_keys().collect();
    assert_eq!(names[0], "index.bin");
    assert!(names[1..].iter().all(|name| name.starts_with("train-0") || name.starts_with("val-0")));
    for with_index in [true, false] {
        let listing = Listing::read(&out).unwrap();
        assert_eq!(listing.notes, folder.notes);
        assert_eq!(content(&listing), content(&folder), "{with_index}");
        let sizes = |listing: &Listing| (listing.train.len(), listing.val.as_ref().map(Vec::len));
        assert_eq!(sizes(&listing), sizes(&folder));
        assert!(listing.split(&options).unwrap().comes_split());
        let _ = fs::remove_file(out.join("index.bin"));
    }
    // A copy of shards is a folder of images.
    let copy = place.path().join("copy");
    Dataset::open(&out, &options).unwrap().copy_to(&copy, &mut |_| {}).unwrap();
    assert_eq!(content(&Listing::read(&copy).unwrap()), content(&folder));
}

#[test]
fn larger_images_are_resized_once() {
    let place = flowers();
    let (out, _) = packed(place.path(), &PackOptions { max_side: 60, ..SMALL });
    let [before, after] =
        [place.path().join("flowers"), out].map(|path| Listing::read(&path).unwrap());
    let mut resized = 0;
    for (item, same) in before.items().zip(after.items()) {
        let [before, after] = [(&before, item), (&after, same)]
            .map(|(listing, item)| listing.images.decode(item, Options::default()).unwrap().image);
        if before.width().max(before.height()) <= 60 {
            assert!(before == after);
        } else {
            assert_eq!(after.width().max(after.height()), 60);
            resized += 1;
        }
    }
    assert_eq!(resized, 9);
}

#[test]
fn a_finished_shard_is_kept() {
    let place = flowers();
    let (out, first) = packed(place.path(), &SMALL);
    let expected = files(&out);
    let listing = Listing::read(&place.path().join("flowers")).unwrap();
    let stopped = place.path().join("stopped");
    let done = AtomicUsize::new(0);
    let count = first.images / 2;
    // A panic of the caller stands for a killed process: nothing is cleaned up.
    let stop = |now: usize, _: usize| {
        done.store(now, Ordering::Relaxed);
        assert!(now < count, "killed");
    };
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = pack(&listing, &stopped, &SMALL, &stop);
    }));
    assert!(killed.is_err());
    let left = files(&stopped);
    assert!(!left.contains_key("index.bin") && left.contains_key("shard-000000.tar"));
    assert!(left.keys().any(|name| name.contains(".tar.tmp-")), "{:?}", left.keys());
    let message = Listing::read(&stopped).unwrap_err().to_string();
    assert!(message.contains("were not packed completely: pack them again into it"), "{message}");
    let other_options = PackOptions { max_side: 20, ..SMALL };
    let error = pack(&listing, &stopped, &other_options, &|_, _| {}).unwrap_err().to_string();
    assert!(error.contains("other images, or with other options"), "{error}");

    let image = first_image(&stopped.join("shard-000000.tar"));
    let changed = place.path().join("flowers").join(image);
    let bytes = fs::read(&changed).unwrap();
    let modified = fs::metadata(&changed).unwrap().modified().unwrap();
    let write = |content: &[u8], modified| {
        fs::write(&changed, content).unwrap();
        fs::File::options().append(true).open(&changed).unwrap().set_modified(modified).unwrap();
    };
    for (content, modified) in
        [(&bytes[1..], modified), (&bytes[..], SystemTime::now() + Duration::from_secs(9))]
    {
        write(content, modified);
        let error = pack(&listing, &stopped, &SMALL, &|_, _| {}).unwrap_err().to_string();
        assert!(error.contains("was changed after it was packed: remove it, then"), "{error}");
    }
    write(&bytes, modified);

    // Of a shard that is not written again, because the images have become smaller.
    fs::write(stopped.join(".shard-000099.tar.tmp-1-0"), "half").unwrap();
    let continued = pack(&listing, &stopped, &SMALL, &|_, _| {}).unwrap();
    assert!(continued.kept > 0 && continued.kept < continued.images, "{continued:?}");
    assert_eq!(Packed { kept: 0, ..continued }, first);
    assert!(files(&stopped) == expected);
    let again = pack(&listing, &stopped, &SMALL, &|_, _| {}).unwrap_err().to_string();
    assert!(again.contains("images are already packed into it"), "{again}");
}

#[test]
fn packing_overwrites_nothing() {
    let place = flowers();
    let listing = Listing::read(&place.path().join("flowers")).unwrap();
    let inside = pack(&listing, &place.path().join("flowers/x"), &SMALL, &|_, _| {});
    assert!(inside.unwrap_err().to_string().contains("because the images are in "));
    let mine = place.path().join("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("words.txt"), "words").unwrap();
    let error = pack(&listing, &mine, &SMALL, &|_, _| {}).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(fs::read_dir(&mine).unwrap().count(), 2, "and the lock file");
}

/// The temporary file is that of a call that was killed before it had marked the folder as its own.
#[test]
fn packing_that_was_killed_at_its_start_can_be_repeated() {
    let place = flowers();
    let (shards, _) = packed(place.path(), &SMALL);
    let killed = place.path().join("killed");
    fs::create_dir(&killed).unwrap();
    fs::write(killed.join(".packing.tmp-1-x"), "images are").unwrap();
    let listing = Listing::read(&place.path().join("flowers")).unwrap();
    pack(&listing, &killed, &SMALL, &|_, _| {}).unwrap();
    assert!(files(&killed) == files(&shards));
}

fn loader(dataset: Dataset, options: LoaderOptions) -> Loader {
    Loader::new(dataset, LoaderOptions { size: 16, batch_size: 5, ..options }).unwrap()
}

/// The training batches of two epochs and the validation batches.
fn batches(folder: &Path, options: LoaderOptions) -> Vec<alexnet_core::Batch> {
    let dataset = Dataset::open(
        folder,
        &SplitOptions { val_fraction: 0.25, seed: 0, ..SplitOptions::default() },
    )
    .unwrap();
    let loader = loader(dataset, options);
    let training = (0..2).flat_map(|epoch| loader.train(epoch, 0, Share::WHOLE));
    let mut all: Vec<_> = training.map(|step| step.unwrap().batch).collect();
    all.extend(loader.validation(Share::WHOLE).map(Result::unwrap));
    all
}

#[test]
fn batches_are_those_of_the_folder() {
    let place = flowers();
    let (out, _) = packed(place.path(), &SMALL);
    let options = LoaderOptions::default();
    assert!(batches(&out, options) == batches(&place.path().join("flowers"), options));
}

#[test]
fn an_epoch_of_blocks_has_each_image_once() {
    let place = flowers();
    let (out, _) = packed(place.path(), &SMALL);
    let options = LoaderOptions { shuffle: Shuffle::Blocks, ..LoaderOptions::default() };
    let flowers = place.path().join("flowers");
    let split = SplitOptions { val_fraction: 0.25, seed: 0, ..SplitOptions::default() };
    let dataset = Dataset::open(&flowers, &split).unwrap();
    let error = Loader::new(dataset, options).err().unwrap().to_string();
    assert_eq!(error, "shuffle cannot be blocks: the images are not in shards");

    let full = batches(&out, LoaderOptions::default());
    let blocks = batches(&out, options);
    assert!(blocks == batches(&out, options) && blocks != full);
    let classes = |batches: &[alexnet_core::Batch]| {
        batches.iter().fold(vec![0.0; 3], |mut sums, batch| {
            batch.targets.chunks(3).for_each(|row| {
                sums.iter_mut().zip(row).for_each(|(sum, share)| *sum += share);
            });
            sums
        })
    };
    assert_eq!(classes(&blocks), classes(&full));
}

/// Returns the message and the skipped images of an epoch.
fn damaged(out: &Path) -> (String, Vec<String>) {
    let dataset = Dataset::open(
        out,
        &SplitOptions { val_fraction: 0.25, seed: 0, ..SplitOptions::default() },
    )
    .unwrap();
    let message = loader(dataset.clone(), LoaderOptions::default())
        .train(0, 0, Share::WHOLE)
        .find_map(Result::err)
        .map_or_else(String::new, |error| error.to_string());
    let skip = LoaderOptions { on_bad_image: OnBadImage::Skip, ..LoaderOptions::default() };
    let loader = loader(dataset, skip);
    loader.train(0, 0, Share::WHOLE).for_each(|step| drop(step.unwrap()));
    loader.validation(Share::WHOLE).for_each(|batch| drop(batch.unwrap()));
    let name = |(path, _): &(PathBuf, String)| {
        path.strip_prefix(out).unwrap().to_string_lossy().into_owned()
    };
    let mut skipped: Vec<String> = loader.skipped().iter().map(name).collect();
    skipped.sort();
    (message, skipped)
}

/// The images of a shard, with their positions.
fn images_of(out: &Path, shard: usize) -> Vec<(u64, u64, String)> {
    let listing = Listing::read(out).unwrap();
    let images = &listing.images;
    let place = |item: alexnet_data::dataset::Item| images.shards().unwrap().place(item.index());
    let of_shard = listing.items().filter(|item| place(*item).shard == shard);
    let mut found: Vec<_> =
        of_shard.map(|item| (place(item).offset, place(item).bytes, images.path(item))).collect();
    found.sort();
    found
}

#[test]
fn a_damaged_shard_costs_only_its_damaged_images() {
    let place = flowers();
    let (out, _) = packed(place.path(), &SMALL);
    let shard = out.join("shard-000001.tar");
    let intact = fs::read(&shard).unwrap();
    let images = images_of(&out, 1);
    assert!(images.len() > 3);

    // One bit of an image, behind the first bytes.
    let (offset, bytes, name) = &images[2];
    let mut changed = intact.clone();
    changed[(offset + bytes / 2) as usize] ^= 1;
    fs::write(&shard, &changed).unwrap();
    let (message, skipped) = damaged(&out);
    assert_eq!(skipped, [name.as_str()]);
    assert!(
        message.contains(name.as_str())
            && message.contains("its bytes in the shard shard-000001.tar from byte")
            && message.contains("do not match their checksum in index.bin: copy the shard again"),
        "{message}"
    );

    // A truncated shard.
    let (offset, ..) = images[3];
    fs::write(&shard, &intact[..offset as usize + 1]).unwrap();
    let notes = Listing::read(&out).unwrap().notes;
    assert!(
        notes[0].contains("the shard shard-000001.tar has") && notes[0].contains("copy it again"),
        "{notes:?}"
    );
    let mut lost: Vec<String> = images[3..].iter().map(|(.., name)| name.clone()).collect();
    lost.sort();
    let (message, skipped) = damaged(&out);
    assert_eq!(skipped, lost);
    assert!(message.contains("the shard shard-000001.tar ends before byte"), "{message}");

    // A missing shard.
    fs::remove_file(&shard).unwrap();
    let notes = Listing::read(&out).unwrap().notes;
    assert_eq!(
        notes,
        ["the shard shard-000001.tar is missing: copy it into the folder of the others"]
    );
    let mut lost: Vec<String> = images.iter().map(|(.., name)| name.clone()).collect();
    lost.sort();
    let (message, skipped) = damaged(&out);
    assert_eq!(skipped, lost);
    assert!(message.contains("the shard shard-000001.tar is missing: copy it"), "{message}");

    fs::write(&shard, &intact).unwrap();
    assert_eq!(damaged(&out), (String::new(), vec![]));
}

#[test]
fn the_start_of_a_truncated_shard_is_read_also_if_there_is_no_other() {
    let place = flowers();
    let (out, packed) = packed(place.path(), &PackOptions::default());
    assert_eq!(packed.shards, 1);
    let shard = out.join("shard-000000.tar");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    let (_, skipped) = damaged(&out);
    assert!((4..20).contains(&skipped.len()), "{skipped:?}");
}

#[test]
fn the_index_of_another_set_is_refused() {
    let place = flowers();
    let (out, _) = packed(place.path(), &SMALL);
    let other = place.path().join("other");
    fs::write(place.path().join("flowers/a/8.jpg"), "more").unwrap();
    let listing = Listing::read(&place.path().join("flowers")).unwrap();
    pack(&listing, &other, &SMALL, &|_, _| {}).unwrap();
    let own = fs::read(out.join("index.bin")).unwrap();
    fs::copy(other.join("index.bin"), out.join("index.bin")).unwrap();
    let message = Listing::read(&out).unwrap_err().to_string();
    assert!(
        message
            .contains("index.bin belongs to other shards than those beside it: shard-000000.tar")
            && message.contains("or remove the index"),
        "{message}"
    );
    // An index of another version, and a damaged one.
    let mut changed = own.clone();
    changed[8] = 9;
    fs::write(out.join("index.bin"), &changed).unwrap();
    let message = Listing::read(&out).unwrap_err().to_string();
    assert!(message.contains("it has version 9 of the format"), "{message}");
    fs::write(out.join("index.bin"), &own[..own.len() - 1]).unwrap();
    let message = Listing::read(&out).unwrap_err().to_string();
    assert!(
        message.contains("does not match its checksum: copy it again, or remove it"),
        "{message}"
    );
    // One changed shard is noted, and only its images are lost.
    fs::write(out.join("index.bin"), &own).unwrap();
    let shard = out.join("shard-000000.tar");
    let intact = fs::read(&shard).unwrap();
    fs::copy(other.join("shard-000000.tar"), &shard).unwrap();
    let notes = Listing::read(&out).unwrap().notes;
    assert!(notes[0].contains("is not the shard that index.bin describes"), "{notes:?}");
    fs::write(&shard, intact).unwrap();
    // A shard that the index does not know.
    fs::copy(other.join("shard-000000.tar"), out.join("zebra.tar")).unwrap();
    let notes = Listing::read(&out).unwrap().notes;
    assert_eq!(notes, ["1 shards are not in index.bin and are skipped"]);
}

/// `goldens/shards.py` wrote them with Python's `webdataset`.
#[test]
fn shards_of_webdataset_are_listed() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/shards");
    let listing = Listing::read(&goldens.join("numbers")).unwrap();
    // Sorted as numbers.
    assert_eq!(listing.classes, ["2", "10"]);
    let found: Vec<(String, usize)> =
        content(&listing).into_iter().map(|(path, class, _)| (path, class)).collect();
    let expected = [
        ("2/photos-000000/photos/0.jpg", 0),
        ("2/photos-000000/photos/2.jpg", 0),
        ("2/photos-000001/photos/4.jpg", 0),
        ("10/photos-000000/photos/1.jpg", 1),
        ("10/photos-000001/photos/3.png", 1),
        ("10/photos-000001/photos/5.jpg", 1),
    ];
    assert_eq!(found, expected.map(|(path, class)| (path.to_owned(), class)));
    let gray = |item| {
        let image = listing.images.decode(item, Options::default()).unwrap().image;
        assert_eq!(image.dimensions(), (24, 16));
        u32::from(image.get_pixel(12, 8).0[0])
    };
    // The images are of one color each.
    let colors: Vec<u32> = listing.items().map(gray).collect();
    for (color, expected) in colors.iter().zip([0, 80, 160, 40, 120, 200]) {
        assert!(color.abs_diff(expected) <= 2, "{colors:?}");
    }

    let named = Listing::read(&goldens.join("named")).unwrap();
    assert_eq!(named.classes, ["daisy", "tulips"]);
    let paths = |items: &[alexnet_data::dataset::Item]| -> Vec<String> {
        items.iter().map(|item| named.images.path(*item)).collect()
    };
    assert_eq!(
        paths(&named.train),
        ["train/daisy/set-train-0/a.jpg", "train/tulips/set-train-0/b.jpg"]
    );
    assert_eq!(paths(named.val.as_ref().unwrap()), ["val/daisy/set-val-0/a.jpg"]);
    assert_eq!(
        named.notes,
        ["the data set is already split: train/ for training, val/ for validation"]
    );
}

#[test]
fn shards_that_cannot_be_listed_are_named() {
    let place = tempfile::tempdir().unwrap();
    let shard = place.path().join("a.tar");
    let write = |files: &[(&str, &str)]| {
        let mut archive = tar::Builder::new(vec![]);
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            // `append_data` would refuse or change some of the names.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        }
        fs::write(&shard, archive.into_inner().unwrap()).unwrap();
    };
    let refused = || Listing::read(place.path()).unwrap_err().to_string();
    let long = "x".repeat(256);
    let two = [("0.jpg", ""), ("0.cls", "a"), ("1.jpg", ""), ("1.cls", "b")];
    for (files, reason) in [
        (vec![("0.jpg", "")], "a.tar has the sample `0` without a class"),
        (
            vec![("0.jpg", ""), ("0.cls", "../x")],
            "with a class that cannot be the name of a folder",
        ),
        (vec![("0.jpg", ""), ("0.cls", &long)], "with a class that cannot be the name of a folder"),
        (vec![("0.jpg", ""), ("0.cls", "a")], "it has 1 classes; at least two are needed"),
        (vec![("0.cls", "a")], "it has 0 classes"),
        ([&two[..], &two[..2]].concat(), "`a/a/0.jpg` is in its shards twice"),
        (vec![("../0.jpg", ""), ("../0.cls", "a")], "with a path that leaves its folder"),
        (vec![("./../0.jpg", ""), ("./../0.cls", "a")], "with a path that leaves its folder"),
        (vec![("/0.jpg", ""), ("/0.cls", "a")], "with a path that leaves its folder"),
        (vec![(".//0.jpg", ""), (".//0.cls", "a")], "with a path that leaves its folder"),
        (
            vec![("0.jpg", ""), ("0.json", r#"{"path": "../x.jpg", "class": "a"}"#)],
            "with a path that leaves its folder",
        ),
        (
            [&two[..], &[("2.jpg", ""), ("2.json", r#"{"path": "b/2.jpg", "class": "a"}"#)]]
                .concat(),
            "is no folder of its class `a`",
        ),
    ] {
        write(&files);
        let message = refused();
        assert!(message.contains(reason), "expected `{reason}`: {message}");
    }
    write(&two);
    assert_eq!(Listing::read(place.path()).unwrap().classes, ["a", "b"]);
    // The names that `tar -C folder .` writes.
    write(&[("./0.jpg", ""), ("./0.cls", "a"), ("./1.jpg", ""), ("./1.cls", "b")]);
    let listing = Listing::read(place.path()).unwrap();
    let paths: Vec<String> = listing.items().map(|item| listing.images.path(item)).collect();
    assert_eq!(paths, ["a/a/0.jpg", "b/a/1.jpg"]);
    assert!(listing.notes.is_empty());
    let no_image = [("2.bin", ""), ("2.cls", "a"), ("3.JPG", ""), ("3.CLS", "b")];
    write(&[&two[..], &no_image].concat());
    let listing = Listing::read(place.path()).unwrap();
    assert_eq!(listing.items().count(), 3);
    assert_eq!(listing.notes, ["1 samples without an image, or links, were skipped"]);
    write(&two);
    let bytes = fs::read(&shard).unwrap();
    for end in [bytes.len() - 1024, bytes.len() - 1536, 700] {
        fs::write(&shard, &bytes[..end]).unwrap();
        let message = refused();
        assert!(message.contains("a.tar is "), "{end}: {message}");
        assert!(message.ends_with("copy it again"), "{end}: {message}");
    }
    assert!(holds_shards(place.path()).unwrap());
    fs::write(place.path().join("loose.jpg"), "").unwrap();
    assert!(!holds_shards(place.path()).unwrap());
}
