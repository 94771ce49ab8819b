//! `alexnet data preview`: draws images as they are in their files, as used for training, and as
//! used for validation.

use std::{path::PathBuf, sync::Arc};

use alexnet::TrainConfig;
use alexnet::core::{
    Batch,
    rng::{Purpose, permutation},
    text::shown_path,
    train::Batches,
};
use alexnet::data::{
    dataset::{Dataset, Item},
    framing::Framing,
    loader::{Loader, LoaderOptions},
    preprocess::evaluation_image,
};
use anyhow::Result;
use image::RgbImage;

use crate::{
    config::Source,
    console::Console,
    figures::{self, Tile},
    options::{AugmentationOptions, OrientationAction, data::source},
    parse,
};

/// Write a figure of images as stored, as used for training and as used for validation
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Images, as for `train`
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// File to write the figure to
    #[arg(long, value_name = "PNG")]
    out: PathBuf,
    /// Whether to apply the EXIF or XMP orientation of images
    #[arg(long, value_name = "ACTION", value_enum, default_value = "apply")]
    exif_orientation: OrientationAction,
    /// Random seed of the selection of images and of their augmentation
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse::at_least(0u64))]
    seed: u64,
    /// For the validation image, resize the shorter side to N pixels and crop the center; 0: resize
    /// the whole image
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse::at_least(0u32))]
    val_resize_crop: u32,
    #[command(flatten)]
    augmentation: AugmentationOptions,
    #[command(flatten)]
    pub source: Source,
}

/// The number of images; each has a row.
const ROWS: usize = 6;

/// Augmented views of each image.
const VIEWS: u64 = 4;

/// Runs the command.
///
/// # Errors
/// If images cannot be read or the figure cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let size = 224;
    let resize_crop = (args.val_resize_crop > 0).then_some(args.val_resize_crop);
    let framing = Framing { size, resize_crop };
    let mut config = TrainConfig { seed: args.seed, ..TrainConfig::default() };
    args.augmentation.apply(&mut config);
    let listing = source(args.data.as_ref()).listing(&mut Console::default())?;
    listing.images.check_outside(&args.out)?;
    let dataset = listing.divided(&config.split_options())?;
    let order = permutation(args.seed, Purpose::Synthetic, 1, 0, dataset.train.len());
    let shown: Vec<Item> = order.into_iter().take(ROWS).map(|i| dataset.train[i]).collect();
    let (images, classes) = (Arc::clone(&dataset.images), dataset.classes.clone());
    let dataset = Dataset { train: shown.clone(), ..dataset };
    // One batch per epoch, so that mixup and cutmix can combine its images.
    let options = LoaderOptions {
        batch_size: ROWS,
        seed: config.seed,
        size,
        resize_crop,
        augmentation: config.augmentation,
        cache_bytes: usize::MAX,
        exif_orientation: args.exif_orientation.into(),
        ..LoaderOptions::default()
    };
    let loader = Loader::new(dataset, options)?;
    let mut views: Vec<Vec<Tile>> = vec![Vec::new(); shown.len()];
    for epoch in 0..VIEWS {
        let order = permutation(args.seed, Purpose::Shuffle, epoch, 0, shown.len());
        for batch in loader.whole_steps(epoch) {
            let batch = batch?;
            for (row, item) in order.iter().enumerate() {
                let image = figures::batch_image(&batch.images, row);
                views[*item]
                    .push(Tile::new(image, format!("training: {}", target(&batch, row, &classes))));
            }
        }
    }
    let mut tiles = Vec::new();
    for (item, views) in shown.iter().zip(views) {
        let original = images.decode(*item, loader.decoding())?.image;
        let validation =
            RgbImage::from_raw(size as u32, size as u32, evaluation_image(&original, framing))
                .unwrap_or_default();
        tiles.push(Tile::new(original, classes[images.class(*item)].clone()));
        tiles.extend(views);
        tiles.push(Tile::new(validation, "validation"));
    }
    figures::save(&figures::grid(&tiles, VIEWS as usize + 2), &args.out)?;
    say!("{}", shown_path(&args.out))
}

/// Describes the target of image `row`: its class, or its classes with their shares. The share that
/// label smoothing distributes over all classes is left out.
fn target(batch: &Batch, row: usize, classes: &[String]) -> String {
    let n = classes.len();
    let target = &batch.targets[row * n..][..n];
    let smoothed = target.iter().copied().fold(1.0, f32::min);
    let of = |class: usize| {
        (target[class] - smoothed) / (1.0 - smoothed * n as f32).max(f32::MIN_POSITIVE)
    };
    let mut shares: Vec<(usize, f32)> =
        (0..n).map(|c| (c, of(c))).filter(|(_, share)| *share > 0.005).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    match shares.as_slice() {
        [(class, _)] => classes[*class].clone(),
        shares => shares
            .iter()
            .map(|(c, share)| format!("{share:.2} {}", classes[*c]))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
