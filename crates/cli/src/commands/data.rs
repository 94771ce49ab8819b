//! `alexnet data`: get, split, check, draw and look at photos.

mod check;
mod split;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use alexnet_core::{
    Normalization,
    rng::{Purpose, permutation},
    train::Batches,
};
use alexnet_data::{
    augment::Policy,
    decode::decode,
    draw,
    fetch::{self, FLOWER_PHOTOS, Verdict},
    loader::{Loader, LoaderOptions, OnBadImage, evaluation_picture},
    split::{Dataset, Item},
};
use anyhow::Result;
use image::RgbImage;

use crate::{
    dataset,
    pictures::{self, Tile},
    progress,
};

/// Gets, splits, checks, draws and shows photos.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Download the flower photos (229 MB) and unpack them to data/flower_photos
    Fetch {
        /// Use this archive instead of downloading one
        #[arg(long, value_name = "FILE")]
        archive: Option<PathBuf>,
    },
    Split(split::Args),
    Check(check::Args),
    /// Draw flowers: five classes of pictures to try everything with
    Synth {
        /// Folder to draw into
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Pictures of each class
        #[arg(long, value_name = "N", default_value_t = draw::DEFAULT_PER_CLASS as u32, value_parser = clap::value_parser!(u32).range(1..))]
        per_class: u32,
        /// Decides every picture
        #[arg(long, value_name = "S", default_value_t = 0)]
        seed: u64,
    },
    /// Show photos as they are, as training sees them, and as validation sees them
    Preview {
        /// Photos, as for `train`
        #[arg(long, value_name = "PATH")]
        data: Option<PathBuf>,
        /// Picture to write
        #[arg(long, value_name = "PNG")]
        out: PathBuf,
        /// Decides which photos and crops
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

/// Runs the command.
///
/// # Errors
/// When photos cannot be had, read or written.
pub fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Fetch { archive } => fetch_photos(archive.as_deref())?,
        Command::Split(args) => split::run(args)?,
        Command::Check(args) => return check::run(args),
        Command::Synth { out, per_class, seed } => {
            let bar = progress::Items::new("drawing");
            draw::synthesise(out, *per_class as usize, *seed, &|done, total| bar.at(done, total))?;
            bar.finish();
            say!(
                "{} pictures of {} classes in {}",
                draw::CLASSES.len() * *per_class as usize,
                draw::CLASSES.len(),
                out.display()
            )?;
        }
        Command::Preview { data, out, seed } => {
            preview(dataset::open(data.as_deref(), dataset::VAL_FRACTION, *seed)?, out, *seed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fetch_photos(archive: Option<&Path>) -> Result<()> {
    let archive = match archive {
        Some(path) => {
            if let Verdict::Other { bytes, sha256 } = fetch::verify(path, &FLOWER_PHOTOS)? {
                note!(
                    "note: {} is not the official archive ({bytes} bytes, SHA-256 {sha256}); it is used all the same",
                    path.display()
                );
            }
            path.to_owned()
        }
        None => {
            fs::create_dir_all(dataset::FOLDER)
                .map_err(alexnet_core::Error::io("create", dataset::FOLDER))?;
            let path = Path::new(dataset::FOLDER).join("flower_photos.tgz");
            let bar = progress::Bytes::new("downloading");
            fetch::fetch(&FLOWER_PHOTOS, &path, &mut |done, total| bar.at(done, total))?;
            bar.finish();
            path
        }
    };
    let folder = dataset::unpack(&archive)?;
    say!("the photos are in {}", folder.display())?;
    Ok(())
}

/// Photos in the preview, a row each.
const ROWS: usize = 6;

/// Training views of each.
const VIEWS: u64 = 4;

fn preview(dataset: Dataset, out: &Path, seed: u64) -> Result<()> {
    let size = 224;
    let order = permutation(seed, Purpose::Synthetic, 1, 0, dataset.train.len());
    let shown: Vec<Item> = order.into_iter().take(ROWS).map(|i| dataset.train[i].clone()).collect();
    let (root, classes) = (dataset.root.clone(), dataset.classes.clone());
    let dataset = Dataset { train: shown.clone(), ..dataset };
    let loader = Loader::new(
        dataset,
        LoaderOptions {
            batch_size: 1,
            seed,
            size,
            normalization: Normalization::HALF,
            policy: Policy::TUTORIAL,
            cache_bytes: usize::MAX,
            on_bad_image: OnBadImage::Error,
        },
    )?;
    let mut views: Vec<Vec<RgbImage>> = vec![Vec::new(); shown.len()];
    for epoch in 0..VIEWS {
        let order = permutation(seed, Purpose::Shuffle, epoch, 0, shown.len());
        for (batch, item) in loader.train(epoch, 0).zip(order) {
            views[item].push(pictures::picture(&batch?.images, 0));
        }
    }
    let mut tiles = Vec::new();
    for (item, views) in shown.iter().zip(views) {
        let photo = decode(root.join(&item.path))?;
        let whole = RgbImage::from_raw(size as u32, size as u32, evaluation_picture(&photo, size))
            .unwrap_or_default();
        tiles.push(Tile::new(photo, classes[item.class].clone()));
        tiles.extend(views.into_iter().map(|view| Tile::new(view, "training")));
        tiles.push(Tile::new(whole, "validation"));
    }
    pictures::save(&pictures::grid(&tiles, VIEWS as usize + 2), out)?;
    say!("{}", out.display())?;
    Ok(())
}
