//! `alexnet data pack`: packs images into shards.

use std::path::PathBuf;

use alexnet::{
    core::text::{shown, shown_path},
    data::{
        Error as DataError,
        pack::{PackOptions, Packed, pack},
        shards::UNFINISHED,
    },
};
use anyhow::Result;

use crate::{
    console::Console,
    options::{Threads, data::source},
    parse, progress,
};

/// Pack images into shards, large files that are read faster than many small ones
///
/// The shards are tar files as the Python library webdataset reads them, with an index beside them.
/// `--data` accepts a folder of shards like a folder of images, with the same results. After an
/// interruption, the same command continues.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Images, as for `train`
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder for the shards, empty or not existing yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Largest size of a shard, such as 100MB or 1GiB
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse::bytes)]
    shard_size: u64,
    /// Resize larger images once, so that their longer side has N pixels, and store them as JPEG; 0
    /// stores all images byte for byte
    #[arg(long, value_name = "N", default_value_t = PackOptions::default().max_side, value_parser = parse::at_least(0u32))]
    max_side: u32,
    /// JPEG quality of resized images, 1 to 100
    #[arg(long, value_name = "N", requires = "max_side", default_value_t = PackOptions::default().quality, value_parser = parse::between(1u8, 100u8))]
    quality: u8,
    #[command(flatten)]
    threads: Threads,
}

/// Runs the command.
///
/// # Errors
/// If images cannot be found or read, or shards cannot be written.
pub fn run(args: &Args) -> Result<()> {
    args.threads.start()?;
    let listing = source(args.data.as_ref()).listing(&mut Console::default())?;
    let Args { shard_size: shard_bytes, max_side, quality, .. } = *args;
    let options = PackOptions { shard_bytes, max_side, quality };
    let bar = progress::Items::new("packing");
    let packed = pack(&listing, &args.out, &options, &|done, total| bar.at(done, total));
    bar.finish();
    let packed = packed.inspect_err(|error| {
        if !matches!(error, DataError::Exists { .. }) && args.out.join(UNFINISHED).is_file() {
            note!("the finished shards are kept: the same command continues");
        }
    })?;
    let Packed { images, shards, bytes, kept, undecodable } = packed;
    if kept > 0 {
        note!("{kept} of the images were already in shards of an interrupted command");
    }
    if let Some(first) = undecodable.first() {
        note!(
            "{} images cannot be decoded and were stored as they are, such as {}; `data check` \
             lists them",
            undecodable.len(),
            shown(first)
        );
    }
    say!(
        "{images} images of {} classes in {shards} shards, {:.1} MB, in {}",
        listing.classes.len(),
        bytes as f64 / 1e6,
        shown_path(&args.out)
    )
}
