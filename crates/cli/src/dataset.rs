//! Where the photos come from: what `--data` means.

use std::{
    fs,
    path::{Path, PathBuf},
};

use alexnet_core::{Error, text::shown_path};
use alexnet_data::{
    archive::{self, Limits},
    draw,
    split::{Dataset, SplitOptions},
};
use anyhow::{Result, bail};

use crate::progress;

/// Where archives are unpacked and flowers are drawn, from the folder the command runs in.
pub const FOLDER: &str = "data";

/// Where the real photos are looked for.
pub const PHOTOS: &str = "flower_photos";

/// Where flowers are drawn when there are no photos.
pub const DRAWN: &str = "drawn_flowers";

/// The share of photos that validates unless another is asked for.
pub const VAL_FRACTION: f64 = 0.1;

/// Opens what `--data` names: a folder that is split, a folder of class folders, or an archive, which is unpacked first.
/// Without it the real photos, if they are here, else drawn flowers, which are made first.
///
/// # Errors
/// When there are no photos there.
pub fn open(data: Option<&Path>, val_fraction: f64, seed: u64) -> Result<Dataset> {
    let folder = match data {
        Some(path) => folder_of(path)?,
        None => real_or_drawn()?,
    };
    // Absolute, so that a run finds its photos from wherever it is resumed.
    let folder = fs::canonicalize(&folder).map_err(Error::io("read", &folder))?;
    Ok(Dataset::open(&folder, &SplitOptions { val_fraction, seed })?)
}

fn folder_of(path: &Path) -> Result<PathBuf> {
    if !path.exists() {
        bail!(
            "there is nothing at {}: name a folder or a .tgz with `--data`, or leave it out to train on drawn flowers",
            path.display()
        );
    }
    if path.is_dir() { Ok(path.to_owned()) } else { unpack(path) }
}

/// Unpacks an archive to `data/NAME`, once.
///
/// # Errors
/// When it is no archive, or one that is refused.
pub fn unpack(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.trim_end_matches(".tgz").trim_end_matches(".tar.gz");
    let into = Path::new(FOLDER).join(stem);
    let bar = progress::Bytes::new(&format!("unpacking {}", shown_path(path)));
    let folder = archive::unpack(path, &into, &Limits::default(), &mut |done, total| bar.at(done, total))?;
    bar.finish();
    Ok(folder)
}

fn real_or_drawn() -> Result<PathBuf> {
    let real = Path::new(FOLDER).join(PHOTOS);
    if real.is_dir() {
        note!("using the photos in {}", real.display());
        return Ok(real);
    }
    let drawn = Path::new(FOLDER).join(DRAWN);
    note!(
        "there are no photos in {}: using drawn flowers. `cargo xtask data fetch` gets the real ones (229 MB)",
        real.display()
    );
    let bar = progress::Items::new(&format!("drawing {}", drawn.display()));
    draw::synthesise(&drawn, draw::DEFAULT_PER_CLASS, 0, &|done, total| bar.at(done, total))?;
    bar.finish();
    Ok(drawn)
}
