//! What a check of photos found, side by side.

use alexnet::data::check::{Group, Half, Likeness, Oddity, Report};
use image::RgbImage;

use super::{
    Color, INK, MUTED, RED,
    grid::{LARGEST, Line, Tile, grid, shrunk, unreadable},
};

const COLUMNS: usize = 4;

/// Tiles in all; a person looks at no more.
const MOST: usize = 120;

/// Groups of duplicates, each in one row, then damaged files, wrong extensions and odd sizes; `photo` gives the picture of a
/// path. Also how many photos there was no room for.
pub fn gallery(report: &Report, photo: impl Fn(&str) -> Option<RgbImage>) -> (RgbImage, usize) {
    let tile = |path: &str, class: &str, what: &str, color: Color| {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let line = |text: &str, color| Line { text: text.into(), color };
        Tile {
            picture: Some(photo(path).map_or_else(unreadable, |picture| shrunk(&picture, LARGEST))),
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
        tiles.extend((0..skipped).map(|_| Tile { picture: None, caption: vec![] }));
        let (what, color) = describe(group);
        for photo in &group.images[..shown] {
            let half = match photo.half {
                Half::Train => "trains",
                Half::Val => "validates",
                Half::Test => "is for tests",
            };
            tiles.push(tile(&photo.path, &format!("{}, {half}", photo.class), &what, color));
        }
    }
    let damaged = report.damaged.iter().map(|photo| (&photo.path, &photo.class, photo.reason.clone(), RED));
    let named = report
        .wrong_extension
        .iter()
        .map(|photo| (&photo.path, &photo.class, format!("this is {}", photo.content), RED));
    let odd = report.sizes.iter().map(|photo| {
        let oddity = match photo.oddity {
            Oddity::Tiny => "tiny",
            Oddity::Extreme => "extreme",
            Oddity::Huge => "huge",
        };
        let what = format!("{oddity}: {}×{}", photo.width, photo.height);
        (&photo.path, &photo.class, what, MUTED)
    });
    for (path, class, what, color) in damaged.chain(named).chain(odd) {
        if tiles.len() < MOST {
            tiles.push(tile(path, class, &what, color));
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        tiles.push(Tile::words(format!("{left_out} more are not shown")));
    }
    if tiles.is_empty() {
        tiles.push(Tile::words("nothing was found"));
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
