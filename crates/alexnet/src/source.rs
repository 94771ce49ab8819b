//! Where images come from: a folder, an archive, the default folders, or drawn flowers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use alexnet_core::Error as CoreError;
use alexnet_data::{
    archive::{self, Limits},
    dataset::Dataset,
    dataset::listing::Listing,
    split::SplitOptions,
    synthetic,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Note, Observer, Result,
    observer::{Work, shared},
};

/// Where archives are unpacked and flowers are drawn, relative to the working directory.
pub const FOLDER: &str = "data";

/// The folder in [`FOLDER`] that is searched for the flower photos.
pub const PHOTOS: &str = "flower_photos";

/// The folder in [`FOLDER`] where flowers are drawn when there are no photos.
pub const DRAWN: &str = "drawn_flowers";

/// The default fraction of images used for validation.
pub const VAL_FRACTION: f64 = 0.1;

/// The extensions of archives.
const ENDINGS: [&str; 4] = [".tar.gz", ".tgz", ".tar", ".zip"];

/// Where images come from: a folder with `train/` and `val/` (or other usual names of splits), a
/// folder of class folders, or a `.tgz`, `.tar` or `.zip` of either. The default is
/// `data/flower_photos`, or drawn flowers if that is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DataSource(Option<PathBuf>);

impl DataSource {
    /// The folder or archive, if one was given.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// Whether no folder or archive was given.
    pub fn is_default(&self) -> bool {
        self.0.is_none()
    }

    /// Lists the images. An archive is first unpacked to `data/NAME`, once.
    ///
    /// # Errors
    /// [`Error::NoImages`] when no path was given and the default folders are missing,
    /// [`Error::NoData`] when the path does not exist; errors of [`archive::unpack`] and
    /// [`Listing::read`].
    pub fn listing(&self, observer: &mut dyn Observer) -> Result<Listing> {
        let Some(folder) = self.folder(observer)? else {
            return Err(Error::NoImages { looked_in: Path::new(FOLDER).join(PHOTOS) });
        };
        listing(&folder, observer)
    }

    /// Lists the images and splits them into training and validation images, unless the folder is
    /// split already.
    ///
    /// # Errors
    /// As [`DataSource::listing`]; when a class is empty, or no image is left for validation.
    pub fn open(&self, options: &SplitOptions, observer: &mut dyn Observer) -> Result<Dataset> {
        split(self.listing(observer)?, options, observer)
    }

    /// [`DataSource::open`] for training: draws flowers when no path was given and the default
    /// folders are missing.
    ///
    /// # Errors
    /// As [`DataSource::open`].
    pub fn open_or_draw(
        &self,
        options: &SplitOptions,
        observer: &mut dyn Observer,
    ) -> Result<Dataset> {
        let folder = match self.folder(observer)? {
            Some(folder) => folder,
            None => draw_flowers(observer)?,
        };
        split(listing(&folder, observer)?, options, observer)
    }

    /// The folder of the images; `None` when no path was given and the default folders are missing.
    fn folder(&self, observer: &mut dyn Observer) -> Result<Option<PathBuf>> {
        match self.path() {
            Some(path) if path.is_dir() => Ok(Some(path.to_owned())),
            Some(path) if path.exists() => unpack(path, observer).map(Some),
            Some(path) => Err(Error::NoData { path: path.to_owned() }),
            None => {
                let places = [PHOTOS, DRAWN].map(|name| Path::new(FOLDER).join(name));
                let found = places.into_iter().find(|place| place.is_dir());
                if let Some(folder) = found.clone() {
                    observer.note(Note::UsingImages { folder });
                }
                Ok(found)
            }
        }
    }
}

impl<P: Into<PathBuf>> From<P> for DataSource {
    fn from(path: P) -> Self {
        Self(Some(path.into()))
    }
}

fn listing(folder: &Path, observer: &mut dyn Observer) -> Result<Listing> {
    // Absolute, so that a resumed run finds its images from any working directory.
    let folder = fs::canonicalize(folder).map_err(CoreError::io("read", folder))?;
    if folder.to_str().is_none() {
        return Err(Error::NotUtf8 { path: folder, what: "the folder" });
    }
    let listing = Listing::read(&folder)?;
    for what in &listing.notes {
        observer.note(Note::Folder { folder: folder.clone(), what: what.clone() });
    }
    Ok(listing)
}

fn split(listing: Listing, options: &SplitOptions, observer: &mut dyn Observer) -> Result<Dataset> {
    if listing.val.is_some() && options.val_fraction != VAL_FRACTION {
        observer.note(Note::ShareUnused { folder: listing.root().to_owned() });
    }
    Ok(listing.split(options)?)
}

/// Unpacks an archive to `data/NAME`, once.
///
/// # Errors
/// When it is not an archive, or violates the limits.
pub fn unpack(path: &Path, observer: &mut dyn Observer) -> Result<PathBuf> {
    let into = Path::new(FOLDER).join(stem(path)?);
    let mut progress = |done, total| observer.progress(Work::Unpacking(path), done, total);
    Ok(archive::unpack(path, &into, &Limits::default(), &mut progress)?)
}

/// The name of an archive without its extension.
fn stem(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::NotUtf8 { path: path.to_owned(), what: "the archive" })?;
    let stem = ENDINGS.iter().find_map(|ending| {
        let (stem, end) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
        end.eq_ignore_ascii_case(ending).then_some(stem)
    });
    let stem = stem.unwrap_or(name);
    match stem {
        "" | "." | ".." => {
            Err(Error::NamelessArchive { path: path.to_owned(), into: FOLDER.into() })
        }
        stem => Ok(stem),
    }
}

fn draw_flowers(observer: &mut dyn Observer) -> Result<PathBuf> {
    let drawn = Path::new(FOLDER).join(DRAWN);
    observer.note(Note::UsingDrawnFlowers { looked_in: Path::new(FOLDER).join(PHOTOS) });
    synthetic::generate(
        &drawn,
        synthetic::DEFAULT_PER_CLASS,
        0,
        &shared(observer, Work::Drawing(&drawn)),
    )?;
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
