//! `alexnet data check`: finds issues in a data set before training.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use alexnet::core::text::{escaped, shown_path};
use alexnet::data::{
    check::{
        Damage, EXTREME_RATIO, FEW_IMAGES, Group, Likeness, Oddity, Report, SplitBy, Subset,
        TINY_SIDE, check,
    },
    dataset::{folder::Why, images::split},
    decode,
    split::SplitOptions,
};
use alexnet::source::VAL_FRACTION;
use anyhow::Result;

use crate::{
    columns::{padded, width},
    console::Console,
    figures,
    options::{OrientationAction, Threads, data::source},
    output::{self, Format},
    parse, progress,
};

/// Find damaged files, duplicates, wrong labels, leaks between subsets, imbalance and odd sizes
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Images, as for `train`
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Share of each class for the validation set, unless the folder has train/ and val/
    #[arg(long, value_name = "SHARE", default_value_t = VAL_FRACTION, value_parser = parse::fraction)]
    val_fraction: f64,
    /// Random seed of the split, as for `train`
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse::at_least(0u64))]
    seed: u64,
    /// Whether to apply the EXIF or XMP orientation of images
    #[arg(long, value_name = "ACTION", value_enum, default_value = "apply")]
    exif_orientation: OrientationAction,
    /// Output format
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    format: Format,
    /// File to write a figure with the affected images to
    #[arg(long, value_name = "FILE")]
    gallery: Option<PathBuf>,
    /// Exit with code 1 if there are issues; imbalance and odd sizes do not count
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    threads: Threads,
}

/// Runs the command.
///
/// # Errors
/// If the images cannot be found or read, or the report or the gallery cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    args.threads.start()?;
    let listing = source(args.data.as_ref()).listing(&mut Console::default())?;
    let images = Arc::clone(&listing.images);
    if let Some(gallery) = &args.gallery {
        images.check_outside(gallery)?;
    }
    let options = SplitOptions {
        val_fraction: args.val_fraction,
        seed: args.seed,
        ..SplitOptions::default()
    };
    let bar = progress::Items::new("checking images");
    let decoding =
        decode::Options { orientation: args.exif_orientation.into(), ..decode::Options::default() };
    let report = check(listing, &options, decoding, &|done, total| bar.at(done, total))?;
    bar.finish();
    match args.format {
        Format::Text => print(&report, args.exif_orientation)?,
        Format::Json => output::json(&serde_json::to_string_pretty(&report)?)?,
    }
    if let Some(path) = &args.gallery {
        let by_path = images.by_path();
        let read = |path: &str| {
            let item = by_path.find(split(path))?;
            Some(images.decode(item, decoding).ok()?.image)
        };
        let (gallery, left_out) = figures::gallery(&report, read);
        figures::save(&gallery, path)?;
        match left_out {
            0 => note!("gallery: {}", shown_path(path)),
            more => note!("gallery: {} ({more} more images are not in it)", shown_path(path)),
        }
    }
    Ok(if args.strict && report.issues > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(report: &Report, orientation: OrientationAction) -> Result<()> {
    print_classes(report)?;
    say!("")?;
    headline("damaged", report.damaged.len())?;
    for image in &report.damaged {
        let kind = match image.kind {
            Damage::Empty => "empty",
            Damage::Truncated => "truncated",
            Damage::Checksum => "wrong checksum",
            Damage::Undecodable => "not decodable",
            Damage::Unreadable => "not readable",
        };
        let decodes = if image.decodes { "; it can be decoded in part" } else { "" };
        say!("  {}: {kind}: {}{decodes}", escaped(&image.path), escaped(&image.reason))?;
    }
    headline("wrong extension", report.wrong_extension.len())?;
    for image in &report.wrong_extension {
        say!("  {}: its content is {}", escaped(&image.path), image.content)?;
    }
    headline("not used as images", report.not_images.len())?;
    for file in &report.not_images {
        let path = escaped(&file.path);
        match (file.why, file.content) {
            (Why::DanglingLink, _) => say!("  {path}: the target of the link does not exist")?,
            (Why::Special, _) => say!("  {path}: it is not a regular file")?,
            (Why::NoClass, _) => say!("  {path}: it is not in a class folder")?,
            (Why::Extension, Some(content)) => {
                say!(
                    "  {path}: its content is {content}, but its extension is not that of an image"
                )?;
            }
            (Why::Extension, None) if file.is_image() => {
                say!("  {path}: its format is not supported; convert it to JPEG or PNG")?;
            }
            (Why::Extension, None) => say!("  {path}")?,
        }
    }
    headline("groups of duplicates", report.duplicates.len())?;
    if !report.duplicates.is_empty() {
        let count = |wanted: fn(&&Group) -> bool| report.duplicates.iter().filter(wanted).count();
        let [conflicts, leaks] =
            [count(|group| group.across_classes), count(|group| group.across_split)];
        say!("  in several classes: {conflicts}; on both sides of the split: {leaks}")?;
    }
    for group in &report.duplicates {
        print_group(group)?;
    }
    headline("odd sizes", report.sizes.len())?;
    for image in &report.sizes {
        let oddity = match image.oddity {
            Oddity::Tiny => format!("tiny, a side below {TINY_SIDE} pixels"),
            Oddity::Extreme => format!("extreme, a side more than {EXTREME_RATIO} times the other"),
            Oddity::Huge => "huge, slow to train with".into(),
        };
        say!("  {}: {}×{}, {oddity}", escaped(&image.path), image.width, image.height)?;
    }
    match (report.turned, orientation) {
        (0, _) => say!("turned by their EXIF orientation: none")?,
        (n, OrientationAction::Apply) => say!("turned by their EXIF orientation: {n}")?,
        (n, OrientationAction::Ignore) => {
            say!("not turned although they have an EXIF orientation: {n}")?;
        }
    }
    say!("")?;
    match report.issues {
        0 => say!("no issues"),
        n => say!("issues: {n}"),
    }
}

fn print_classes(report: &Report) -> Result<()> {
    say!(
        "{} images of {} classes in {}",
        report.images,
        report.classes.len(),
        shown_path(&report.root)
    )?;
    match report.split {
        SplitBy::Folders => say!("split by its folders")?,
        SplitBy::Seed { seed, val_fraction } => {
            say!("split as `train --seed {seed} --val-fraction {val_fraction}` does")?;
        }
    }
    let names: Vec<String> =
        report.classes.iter().map(|class| escaped(&class.name).to_string()).collect();
    let columns = names.iter().map(|name| width(name)).fold(5, usize::max);
    let tested = report.classes.iter().any(|class| class.test > 0);
    let of_test = |cell: &str| if tested { format!(" {cell:>7}") } else { String::new() };
    let test = of_test("test");
    say!(
        "\n{} {:>7} {:>7} {:>7} {:>8}{test}",
        padded("class", columns),
        "images",
        "share",
        "train",
        "validate"
    )?;
    for (name, class) in names.iter().zip(&report.classes) {
        let note = match class {
            class if class.images == 0 => "  empty: it cannot be learned",
            class if class.val == 0 => "  no validation image",
            class if class.images < FEW_IMAGES => "  few",
            _ => "",
        };
        say!(
            "{} {:>7} {:>5.1} % {:>7} {:>8}{}{note}",
            padded(name, columns),
            class.images,
            100.0 * class.share,
            class.train,
            class.val,
            of_test(&class.test.to_string())
        )?;
    }
    say!("largest : smallest = {:.2}", report.imbalance)
}

fn headline(what: &str, count: usize) -> Result<()> {
    match count {
        0 => say!("{what}: none"),
        _ => say!("{what}: {count}"),
    }
}

fn print_group(group: &Group) -> Result<()> {
    let mut what = vec![];
    what.extend(group.across_classes.then_some("label conflict"));
    what.extend(group.across_split.then_some("leak"));
    if what.is_empty() {
        what.push("within a class, on one side");
    }
    say!("  {}", what.join(", "))?;
    for image in &group.images {
        let subset = match image.subset {
            Subset::Train => "training set",
            Subset::Val => "validation set",
            Subset::Test => "test set",
        };
        say!("    {} ({subset})", escaped(&image.path))?;
    }
    for link in &group.links {
        let how = match link.likeness {
            Likeness::Bytes => "the same bytes".into(),
            Likeness::Pixels => "the same pixels".into(),
            Likeness::Near { bits, mirrored } => {
                format!("{bits} bits apart{}", if mirrored { ", mirrored" } else { "" })
            }
        };
        match group.images.len() {
            2 => say!("      {how}")?,
            _ => {
                let [a, b] = [link.a, link.b].map(|image| escaped(&group.images[image].path));
                say!("      {how}: {a} and {b}")?;
            }
        }
    }
    Ok(())
}
