//! Shards and their index: valid files, and the functions that test a file.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use alexnet_data::{
    dataset::listing::Listing,
    decode::Options,
    pack::{PackOptions, pack},
};
use tempfile::TempDir;

use crate::{
    seeds::files,
    targets::{Environment, Outcome},
};

/// The name of the shard beside an index.
const SHARD: &str = "shard-000000.tar";

/// Packs three small images of two classes.
fn packed() -> TempDir {
    let place = TempDir::new().expect("a temporary folder");
    let image = image::RgbImage::from_pixel(9, 7, image::Rgb([90, 30, 200]));
    for path in ["a/1.png", "a/sub/ü.jpg", "b/2.gif"] {
        let path = place.path().join("images").join(path);
        fs::create_dir_all(path.parent().unwrap_or(place.path())).expect("a temporary folder");
        image.save(path).expect("a temporary folder");
    }
    let listing = Listing::read(&place.path().join("images")).expect("a data set");
    let out = place.path().join("shards");
    pack(&listing, &out, &PackOptions::default(), &|_, _| ()).expect("a temporary folder");
    place
}

fn read(place: &TempDir, name: &str) -> Vec<u8> {
    fs::read(place.path().join("shards").join(name)).expect("a packed file")
}

/// Returns a shard of ours and shards of Python's `webdataset`.
pub fn shards() -> Vec<Vec<u8>> {
    let goldens = "../data/tests/goldens/shards";
    let mut shards = vec![read(&packed(), SHARD)];
    shards.extend(files(&format!("{goldens}/numbers"), |name| name.ends_with(".tar")));
    shards.extend(files(&format!("{goldens}/named"), |name| name.contains("train")));
    shards
}

/// Returns an index.
pub fn indices() -> Vec<Vec<u8>> {
    vec![read(&packed(), "index.bin")]
}

/// Corrects the checksum of an index.
pub fn repair_index(bytes: &mut [u8]) {
    if let Some((header, body)) = bytes.split_at_mut_checked(16) {
        header[12..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    }
}

/// Tests a shard without an index.
pub fn shard(bytes: &[u8], environment: &Environment) -> Outcome {
    let folder = folder(environment);
    fs::write(folder.join("it.tar"), bytes).expect("a temporary folder");
    listed(&folder)
}

/// Tests an index beside the shard that it was written with.
pub fn index(bytes: &[u8], environment: &Environment) -> Outcome {
    thread_local! {
        static VALID: Vec<u8> = read(&packed(), SHARD);
    }
    let folder = folder(environment);
    VALID
        .with(|shard| fs::write(folder.join(SHARD), shard))
        .and_then(|()| fs::write(folder.join("index.bin"), bytes))
        .expect("a temporary folder");
    listed(&folder)
}

/// Creates an empty folder.
fn folder(environment: &Environment) -> PathBuf {
    let folder = environment.folder.join("shards");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("a temporary folder");
    folder
}

/// Lists the images and decodes each. All paths must be inside of the folder.
fn listed(folder: &Path) -> Outcome {
    let listing = match Listing::read(folder) {
        Ok(listing) => listing,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let images = &listing.images;
    let is_inside =
        |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if let Some(item) = listing.items().find(|item| !is_inside(&images.path(*item))) {
        return Outcome::Wrong(format!("{} leaves the folder", images.path(item)));
    }
    let decoded = listing.items().filter(|item| images.decode(*item, Options::default()).is_ok());
    Outcome::Read(format!("{} of {} images", decoded.count(), listing.items().count()))
}
