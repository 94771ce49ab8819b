//! A figure of the images that `data check` reports.

use alexnet::data::check::{Group, Likeness, Oddity, Report, Subset};
use image::RgbImage;

use super::{
    Color, INK, MUTED, RED,
    grid::{LARGEST, Line, Tile, grid, shrunk, unreadable},
};

const COLUMNS: usize = 4;

/// The most tiles in the figure.
const MOST: usize = 120;

/// Draws groups of duplicates, each in one row, then damaged files, wrong extensions and odd sizes.
/// `image` returns the image of a path. Returns the figure and the number of images that it has no
/// room for.
pub fn gallery(report: &Report, image: impl Fn(&str) -> Option<RgbImage>) -> (RgbImage, usize) {
    let tile = |path: &str, class: &str, what: &str, color: Color| {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let line = |text: &str, color| Line { text: text.into(), color };
        Tile {
            image: Some(image(path).map_or_else(unreadable, |image| shrunk(&image, LARGEST))),
            caption: vec![line(what, color), line(class, INK), line(name, MUTED)],
        }
    };
    let (mut tiles, mut left_out) = (Vec::new(), 0);
    for group in &report.duplicates {
        let shown = group.images.len().min(COLUMNS);
        let rest_of_row = COLUMNS - tiles.len() % COLUMNS;
        let skipped = if shown > rest_of_row { rest_of_row } else { 0 };
        if tiles.len() + skipped + shown > MOST {
            left_out += group.images.len();
            continue;
        }
        left_out += group.images.len() - shown;
        tiles.extend((0..skipped).map(|_| Tile { image: None, caption: vec![] }));
        let (what, color) = describe(group);
        for image in &group.images[..shown] {
            let subset = match image.subset {
                Subset::Train => "training set",
                Subset::Val => "validation set",
                Subset::Test => "test set",
            };
            tiles.push(tile(&image.path, &format!("{}, {subset}", image.class), &what, color));
        }
    }
    let damaged =
        report.damaged.iter().map(|image| (&image.path, &image.class, image.reason.clone(), RED));
    let named = report
        .wrong_extension
        .iter()
        .map(|image| (&image.path, &image.class, format!("this is {}", image.content), RED));
    let odd = report.sizes.iter().map(|image| {
        let oddity = match image.oddity {
            Oddity::Tiny => "tiny",
            Oddity::Extreme => "extreme",
            Oddity::Huge => "huge",
        };
        let what = format!("{oddity}: {}×{}", image.width, image.height);
        (&image.path, &image.class, what, MUTED)
    });
    for (path, class, what, color) in damaged.chain(named).chain(odd) {
        if tiles.len() < MOST {
            tiles.push(tile(path, class, &what, color));
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        tiles.push(Tile::text(format!("{left_out} more are not shown")));
    }
    if tiles.is_empty() {
        tiles.push(Tile::text("no images to show"));
    }
    (grid(&tiles, COLUMNS), left_out)
}

fn describe(group: &Group) -> (String, Color) {
    let how = match group.links.iter().map(|link| link.likeness).max() {
        Some(Likeness::Near { bits, mirrored: false }) => format!("{bits} bits apart"),
        Some(Likeness::Near { bits, mirrored: true }) => format!("mirrored, {bits} bits apart"),
        _ => "the same".into(),
    };
    match (group.across_classes, group.across_split) {
        (true, true) => (format!("conflict, leak, {how}"), RED),
        (true, false) => (format!("conflict, {how}"), RED),
        (false, true) => (format!("leak, {how}"), RED),
        (false, false) => (how, INK),
    }
}
