//! Sorting of images into a folder for each class.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use alexnet::core::{Error, files::create_folders, text::shown_path};
use anyhow::{Result, ensure};

use super::{NONE, is_stdin};
use crate::inputs::{Found, Image, free_file_name};

/// Copies images, or makes links to them, in a folder for each class.
pub struct Sorter<'a> {
    folder: &'a Path,
    link: bool,
    taken: BTreeSet<PathBuf>,
}

impl<'a> Sorter<'a> {
    /// Creates the folder, which must be empty or missing, so that nothing is overwritten.
    ///
    /// # Errors
    /// If it is not empty or cannot be created, or if an input is not a file.
    pub fn new(folder: &'a Path, link: bool, found: &[Found]) -> Result<Self> {
        for Image { path, in_shards, .. } in found.iter().flatten() {
            ensure!(
                !is_stdin(path) && in_shards.is_none(),
                "`--sort-into` needs image files: {} is not a file",
                if is_stdin(path) { "standard input".into() } else { shown_path(path).to_string() }
            );
        }
        create_folders(folder)?;
        let mut entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
        ensure!(
            entries.next().is_none(),
            "{} is not empty; name a new folder with `--sort-into`",
            shown_path(folder)
        );
        Ok(Self { folder, link, taken: BTreeSet::new() })
    }

    /// Copies an image into the folder of its class, or of those without a class.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn add(&mut self, image: &Image, class: Option<&str>) -> Result<()> {
        let target = self.folder.join(free_file_name(&folder_name(class), image, &mut self.taken));
        if let Some(parent) = target.parent() {
            create_folders(parent)?;
        }
        let made = if self.link { link(&image.path, &target) } else { copy(&image.path, &target) };
        Ok(made.map_err(Error::io("write", &target))?)
    }
}

/// Returns the name of the folder of a class. The name of a class comes from a weights file, so it
/// may be a path that leaves the folder.
fn folder_name(class: Option<&str>) -> PathBuf {
    let name = class.unwrap_or(NONE).replace(['/', '\\', '\0'], "_");
    match name.as_str() {
        "" | "." | ".." => "_".into(),
        _ => name.into(),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to).map(drop)
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from.canonicalize()?, to)
}

/// Symbolic links need a privilege on Windows.
#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_class_is_inside() {
        for (class, name) in
            [("roses", "roses"), ("a/../..", "a_.._.."), ("..", "_"), ("", "_"), ("雛菊", "雛菊")]
        {
            assert_eq!(folder_name(Some(class)), Path::new(name));
        }
        assert_eq!(folder_name(None), Path::new(NONE));
    }
}
