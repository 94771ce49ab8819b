//! `alexnet data`: downloads, splits, checks, packs, draws and shows images.

mod check;
mod pack;
pub mod preview;
mod split;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use alexnet::core::text::shown_path;
use alexnet::data::{
    fetch::{self, FLOWER_PHOTOS, Verdict},
    synthetic,
};
use alexnet::source;
use anyhow::{Result, anyhow};

use crate::{console::Console, parse, progress};

/// Download, split, check, pack, draw and preview images
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Download the flower photos (229 MB) and unpack them to data/flower_photos
    Fetch {
        /// Archive to unpack instead of downloading one
        #[arg(long, value_name = "FILE")]
        archive: Option<PathBuf>,
    },
    Split(split::Args),
    Check(check::Args),
    Pack(pack::Args),
    /// Draw flowers: a synthetic data set of five classes
    Synth {
        /// Folder to write the images to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Number of images per class
        #[arg(long, value_name = "N", default_value_t = synthetic::DEFAULT_PER_CLASS as u32, value_parser = parse::at_least(1u32))]
        per_class: u32,
        /// Random seed of the images
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse::at_least(0u64))]
        seed: u64,
    },
    Preview(preview::Args),
}

/// Runs the command.
///
/// # Errors
/// If images cannot be downloaded, read or written.
pub fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Fetch { archive } => fetch_photos(archive.as_deref())?,
        Command::Split(args) => split::run(args)?,
        Command::Check(args) => return check::run(args),
        Command::Pack(args) => pack::run(args)?,
        Command::Synth { out, per_class, seed } => {
            let bar = progress::Items::new("drawing");
            synthetic::generate(out, *per_class as usize, *seed, &|done, total| {
                bar.at(done, total)
            })?;
            bar.finish();
            say!(
                "{} images of {} classes in {}",
                synthetic::CLASSES.len() * *per_class as usize,
                synthetic::CLASSES.len(),
                shown_path(out)
            )?;
        }
        Command::Preview(args) => preview::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn fetch_photos(archive: Option<&Path>) -> Result<()> {
    let archive = match archive {
        Some(path) => {
            if let Verdict::Other { bytes, sha256 } = fetch::verify(path, &FLOWER_PHOTOS)? {
                note!(
                    "note: {} is not the official archive ({bytes} bytes, SHA-256 {sha256}); it is used anyway",
                    shown_path(path)
                );
            }
            path.to_owned()
        }
        None => {
            fs::create_dir_all(source::FOLDER)
                .map_err(alexnet::core::Error::io("create", source::FOLDER))?;
            let path = Path::new(source::FOLDER).join("flower_photos.tgz");
            let bar = progress::Bytes::new("downloading");
            fetch::fetch(&FLOWER_PHOTOS, &path, &mut |done, total| bar.at(done, total)).map_err(
                |error| {
                    anyhow!(
                        "{error}; if you have a copy of the archive, use it with `--archive FILE`"
                    )
                },
            )?;
            bar.finish();
            path
        }
    };
    let folder = source::unpack(&archive, &mut Console::default())?;
    say!("the images are in {}", shown_path(&folder))?;
    Ok(())
}
