//! Where the photos come from: what `--data` means.

use std::{
    fs,
    path::{Path, PathBuf},
};

use alexnet_core::{
    Error,
    text::{escaped, shown_path},
};
use alexnet_data::{
    archive::{self, Limits},
    dataset::{Dataset, listing::Listing},
    split::SplitOptions,
    synthetic,
};
use anyhow::{Context, Result, bail, ensure};

use crate::progress;

/// Where archives are unpacked and flowers are drawn, from the folder the command runs in.
pub const FOLDER: &str = "data";

/// Where the real photos are looked for.
pub const PHOTOS: &str = "flower_photos";

/// Where flowers are drawn when there are no photos.
pub const DRAWN: &str = "drawn_flowers";

/// The share of photos that validates unless another is asked for.
pub const VAL_FRACTION: f64 = 0.1;

/// How the names of archives end.
const ENDINGS: [&str; 4] = [".tar.gz", ".tgz", ".tar", ".zip"];

/// Reads what `--data` names: a folder in halves, a folder of class folders, or an archive, which is unpacked first. Without it
/// the real photos, if they are here, else flowers that were drawn.
///
/// # Errors
/// When there are no photos there.
pub fn read(data: Option<&Path>) -> Result<Listing> {
    let Some(folder) = folder(data, "")? else {
        bail!(
            "there are no images in {}: name a folder with `--data`, get the flower photos with `data fetch` (229 MB), or draw \
             some with `data synth --out {}`",
            shown_path(&Path::new(FOLDER).join(PHOTOS)),
            shown_path(&Path::new(FOLDER).join(DRAWN))
        );
    };
    listing(&folder)
}

/// [`read`], and split.
///
/// # Errors
/// As [`read`]; when a class is empty, or nothing is left to validate with.
pub fn open(data: Option<&Path>, val_fraction: f64, seed: u64) -> Result<Dataset> {
    split(read(data)?, val_fraction, seed)
}

/// [`open`], for training: flowers are drawn where there are no photos.
///
/// # Errors
/// As [`open`].
pub fn open_or_draw(data: Option<&Path>, val_fraction: f64, seed: u64) -> Result<Dataset> {
    let folder = match folder(data, ", or leave it out to train on drawn flowers")? {
        Some(folder) => folder,
        None => draw()?,
    };
    split(listing(&folder)?, val_fraction, seed)
}

/// Splits what was read, unless it comes split.
///
/// # Errors
/// When a class is empty, or nothing is left to validate with.
pub fn split(listing: Listing, val_fraction: f64, seed: u64) -> Result<Dataset> {
    Ok(listing.split(&SplitOptions { val_fraction, seed })?)
}

fn listing(folder: &Path) -> Result<Listing> {
    // Absolute, so that a run finds its photos from wherever it is resumed.
    let folder = fs::canonicalize(folder).map_err(Error::io("read", folder))?;
    ensure!(
        folder.to_str().is_some(),
        "the name of the folder {} is not UTF-8, so no run could keep it: rename it",
        shown_path(&folder)
    );
    let listing = Listing::read(&folder)?;
    for sentence in &listing.notes {
        note!("{}: {}", shown_path(&folder), escaped(sentence));
    }
    Ok(listing)
}

/// The folder that holds the images; none when none is named and none is here. `instead` is what else the command can do.
fn folder(data: Option<&Path>, instead: &str) -> Result<Option<PathBuf>> {
    match data {
        Some(path) if path.is_dir() => Ok(Some(path.to_owned())),
        Some(path) if path.exists() => unpack(path).map(Some),
        Some(path) => bail!(
            "there is nothing at {}: name a folder, a .tgz, a .tar or a .zip with `--data`{instead}",
            shown_path(path)
        ),
        None => {
            let places = [PHOTOS, DRAWN].map(|name| Path::new(FOLDER).join(name));
            let found = places.into_iter().find(|place| place.is_dir());
            if let Some(place) = &found {
                note!("using the images in {}", shown_path(place));
            }
            Ok(found)
        }
    }
}

/// Unpacks an archive to `data/NAME`, once.
///
/// # Errors
/// When it is no archive, or one that is refused.
pub fn unpack(path: &Path) -> Result<PathBuf> {
    let into = Path::new(FOLDER).join(stem(path)?);
    let bar = progress::Bytes::new(&format!("unpacking {}", shown_path(path)));
    let folder = archive::unpack(path, &into, &Limits::default(), &mut |done, total| bar.at(done, total))?;
    bar.finish();
    Ok(folder)
}

/// An archive's name without its ending.
fn stem(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("the name of {} is not UTF-8: rename it", shown_path(path)))?;
    let stem = ENDINGS.iter().find_map(|ending| {
        let (stem, end) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
        end.eq_ignore_ascii_case(ending).then_some(stem)
    });
    let stem = stem.unwrap_or(name);
    ensure!(
        !matches!(stem, "" | "." | ".."),
        "{} has no name before its ending, which the folder in {FOLDER}/ would be called: rename it",
        shown_path(path)
    );
    Ok(stem)
}

fn draw() -> Result<PathBuf> {
    let drawn = Path::new(FOLDER).join(DRAWN);
    note!(
        "there are no images in {}: using drawn flowers. `cargo xtask data fetch` gets the real ones (229 MB)",
        shown_path(&Path::new(FOLDER).join(PHOTOS))
    );
    let bar = progress::Items::new(&format!("drawing {}", shown_path(&drawn)));
    synthetic::generate(&drawn, synthetic::DEFAULT_PER_CLASS, 0, &|done, total| bar.at(done, total))?;
    bar.finish();
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_taken_off_once() {
        for (name, expected) in [
            ("a.tgz", "a"),
            ("x/a.TAR.GZ", "a"),
            ("a.tgz.tgz", "a.tgz"),
            ("a.Zip", "a"),
            ("a.tar", "a"),
            ("flowers", "flowers"),
            ("ä.tar.gz", "ä"),
            (".hidden.tgz", ".hidden"),
        ] {
            assert_eq!(stem(Path::new(name)).unwrap(), expected, "{name}");
        }
        for name in [".tgz", ".tar.gz", ".ZIP", "..tgz", "...zip"] {
            let message = stem(Path::new(name)).unwrap_err().to_string();
            assert!(message.contains("rename it"), "{name}: {message}");
        }
    }
}
