//! The confusion matrix as a heat map.

use alexnet::core::metrics::Confusion;
use image::{RgbImage, imageops};

use super::{BLUE, Color, FAINT, INK, MUTED, WHITE, blend, fill, text};

const MARGIN: u32 = 24;
/// The approximate width of the matrix in pixels. With many classes it grows up to `LARGEST_SIDE`,
/// so that each cell has at least `NAMED_CELL` pixels and each class can be named. With even more
/// classes, only some are named.
const SIDE: u32 = 900;
const LARGEST_SIDE: u32 = 1600;
const LARGEST_CELL: u32 = 120;
const NAMED_CELL: u32 = 12;
const SMALLEST_TEXT: f32 = 9.0;
const LARGEST_TEXT: f32 = 20.0;
const TITLE: f32 = 24.0;
/// The maximum width of a class name in pixels; longer names are truncated.
const NAME_ROOM: f32 = 180.0;
const COLOR_BAR: u32 = 18;

/// Formats the number in a cell from its count and its share of the row.
type Number = fn(u64, f64) -> String;

/// Draws a confusion matrix: rows are true classes, columns predicted classes. The color of a cell
/// is its share of the row, its number the count.
pub fn confusion_matrix(confusion: &Confusion, classes: &[String]) -> RgbImage {
    draw(confusion, |count, _| count.to_string(), classes)
}

/// Like [`confusion_matrix`], with the share of the row as the number of a cell.
pub fn normalized_confusion_matrix(confusion: &Confusion, classes: &[String]) -> RgbImage {
    draw(
        confusion,
        |count, share| if count == 0 { "0".into() } else { format!("{share:.2}") },
        classes,
    )
}

fn draw(confusion: &Confusion, number: Number, classes: &[String]) -> RgbImage {
    let n = confusion.counts.len() as u32;
    let cell = cell(n);
    let side = n * cell;

    let size = (cell as f32 * 0.8).clamp(SMALLEST_TEXT + 1.0, LARGEST_TEXT);
    let names: Vec<String> =
        classes.iter().map(|name| text::shorten(name, size, NAME_ROOM)).collect();
    // If a line of text is taller than a cell, only each n-th class is named.
    let every = (size.ceil() as u32).div_ceil(cell) as usize;
    let widest = names.iter().map(|name| text::width(name, size)).fold(0.0, f32::max);
    let upright = widest + 8.0 <= cell as f32;
    let gap = 8;
    let axis = LARGEST_TEXT as u32 + gap;
    let title = TITLE as u32 + MARGIN;
    let left = MARGIN + axis + widest as u32 + gap;
    let top = MARGIN + title;
    let below = gap + if upright { size as u32 } else { widest as u32 } + gap + axis;
    let right = MARGIN + COLOR_BAR + gap + text::width("100 %", LARGEST_TEXT * 0.8) as u32 + MARGIN;
    let heading = format!("accuracy {:.3} on {} images", confusion.accuracy(), confusion.total());
    let width = (left + side + right).max(2 * MARGIN + text::width(&heading, TITLE) as u32);
    let mut canvas = RgbImage::from_pixel(width, top + side + below + MARGIN, WHITE);

    text::draw(&mut canvas, &heading, [MARGIN as f32, MARGIN as f32], TITLE, INK);
    draw_cells(&mut canvas, confusion, number, [left, top], cell);

    // Names and titles of the axes. Names of columns are rotated if they are wider than a cell.
    for (name, index) in names.iter().zip(0u32..).step_by(every) {
        let length = text::width(name, size);
        let middle = (index * cell) as f32 + cell as f32 / 2.0;
        let row = [(left - gap) as f32 - length, top as f32 + middle - size / 2.0];
        text::draw(&mut canvas, name, row, size, INK);
        let y = (top + side + gap) as f32;
        if upright {
            text::draw(&mut canvas, name, [left as f32 + middle - length / 2.0, y], size, INK);
        } else {
            let at = [left as f32 + middle - size / 2.0, y];
            draw_rotated(&mut canvas, name, at, size, INK);
        }
    }
    let centered = |text| (side as f32 - text::width(text, LARGEST_TEXT)) / 2.0;
    let at = [left as f32 + centered("predicted"), (top + side + below - axis + gap) as f32];
    text::draw(&mut canvas, "predicted", at, LARGEST_TEXT, MUTED);
    draw_rotated(
        &mut canvas,
        "true",
        [MARGIN as f32, top as f32 + centered("true")],
        LARGEST_TEXT,
        MUTED,
    );
    draw_scale(&mut canvas, [left + side + MARGIN, top], side);
    canvas
}

/// Returns the side of a cell in pixels for `n` classes.
fn cell(n: u32) -> u32 {
    let n = n.max(1);
    (SIDE / n).max((LARGEST_SIDE / n).min(NAMED_CELL)).clamp(1, LARGEST_CELL)
}

fn draw_cells(
    canvas: &mut RgbImage,
    confusion: &Confusion,
    number: Number,
    [left, top]: [u32; 2],
    cell: u32,
) {
    let shares = confusion.normalized();
    let rows = || confusion.counts.iter().zip(&shares);
    let preferred = (cell as f32 * 0.34).min(LARGEST_TEXT);
    let mut size = 0.0;
    // If cells are too small for legible numbers, the numbers are not measured: a thousand classes
    // have a million of them.
    if preferred >= SMALLEST_TEXT {
        let cells = rows().flat_map(|(counts, shares)| counts.iter().zip(shares));
        let widths = cells.map(|(count, share)| text::width(&number(*count, *share), preferred));
        size = preferred.min(preferred * cell as f32 * 0.85 / widths.fold(1.0, f32::max));
    }
    let line = u32::from(cell >= NAMED_CELL);
    let side = confusion.counts.len() as u32 * cell;
    // The background shows as lines between and around the cells, or only as a frame around the
    // matrix if cells are small.
    let [x, y] = [left, top].map(|start| start + line - 1);
    fill(canvas, [x, y], [side + 2 - line, side + 2 - line], FAINT);
    for ((counts, shares), y) in rows().zip((top..).step_by(cell as usize)) {
        for ((count, share), x) in counts.iter().zip(shares).zip((left..).step_by(cell as usize)) {
            fill(canvas, [x + line, y + line], [cell - line, cell - line], heat(*share as f32));
            if size < SMALLEST_TEXT {
                continue;
            }
            let number = number(*count, *share);
            let color = match count {
                0 => blend(WHITE, MUTED, 0.6),
                _ if *share > 0.6 => WHITE,
                _ => INK,
            };
            let middle = cell as f32 / 2.0;
            let at = [
                x as f32 + middle - text::width(&number, size) / 2.0,
                y as f32 + middle - size / 2.0,
            ];
            text::draw(canvas, &number, at, size, color);
        }
    }
}

/// Draws the color scale.
fn draw_scale(canvas: &mut RgbImage, [x, y]: [u32; 2], height: u32) {
    for row in 0..height {
        let share = 1.0 - row as f32 / (height - 1).max(1) as f32;
        fill(canvas, [x, y + row], [COLOR_BAR, 1], heat(share));
    }
    let size = LARGEST_TEXT * 0.8;
    let label_x = (x + COLOR_BAR + 8) as f32;
    text::draw(canvas, "100 %", [label_x, y as f32], size, MUTED);
    text::draw(canvas, "0 %", [label_x, (y + height) as f32 - size], size, MUTED);
    let meaning = "share of the true class";
    let start = y as f32 + (height as f32 - text::width(meaning, size)) / 2.0;
    draw_rotated(canvas, meaning, [label_x, start], size, MUTED);
}

fn heat(share: f32) -> Color {
    blend(WHITE, BLUE, share)
}

/// Draws a line of text from bottom to top; `x`, `y` is the upper left corner of the rotated line.
fn draw_rotated(canvas: &mut RgbImage, line: &str, [x, y]: [f32; 2], size: f32, color: Color) {
    let mut flat =
        RgbImage::from_pixel(text::width(line, size).ceil() as u32, size.ceil() as u32, WHITE);
    text::draw(&mut flat, line, [0.0; 2], size, color);
    imageops::replace(canvas, &imageops::rotate270(&flat), x as i64, y as i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| if i % 3 == 0 { "ж".repeat(40) } else { format!("class {i}") }).collect()
    }

    #[test]
    fn any_number_of_classes_is_drawn() {
        for n in [0, 1, 2, 5, 12, 40, 102, 300, 1000] {
            let mut confusion = Confusion::new(n);
            (0..n).for_each(|class| confusion.add(class, class / 2));
            for named in [0, n] {
                for draw in [confusion_matrix, normalized_confusion_matrix] {
                    let (width, height) = draw(&confusion, &names(named)).dimensions();
                    let limits = if n > 5 { 700..2100 } else { 60..1100 };
                    assert!(
                        limits.contains(&width) && limits.contains(&height),
                        "{n}: {width}×{height}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_color_is_the_share_of_the_row() {
        let mut canvas = RgbImage::new(100, 100);
        let confusion = Confusion { counts: vec![vec![1, 3], vec![0, 1_000_000]] };
        draw_cells(&mut canvas, &confusion, |_, _| String::new(), [10, 10], 40);
        let color =
            |row: u32, column: u32| *canvas.get_pixel(10 + 40 * column + 3, 10 + 40 * row + 3);
        assert_eq!([color(0, 0), color(0, 1)], [heat(0.25), heat(0.75)]);
        assert_eq!([color(1, 0), color(1, 1)], [heat(0.0), heat(1.0)]);
        assert_ne!(heat(0.25), heat(0.75));
    }

    /// The numbers are shares of the row: 1 and 3 of 4, not of the columns' 2 and 3.
    #[test]
    fn the_normalized_matrix_has_shares_as_numbers() {
        let drawn = |counts: [[u64; 2]; 2]| {
            let confusion = Confusion { counts: counts.map(|row| row.to_vec()).to_vec() };
            let matrix = normalized_confusion_matrix(&confusion, &[]);
            // Without the heading, which has the number of images.
            let below = 2 * MARGIN + TITLE as u32;
            imageops::crop_imm(&matrix, 0, below, matrix.width(), matrix.height() - below)
                .to_image()
        };
        let matrix = drawn([[1, 3], [1, 0]]);
        assert!(matrix == drawn([[25, 75], [7, 0]]));
        assert!(matrix != drawn([[1, 1], [3, 0]]));
    }

    #[test]
    fn counts_stay_inside_their_cells_or_are_left_out() {
        let colors = |cell: u32, count: u64| {
            let mut canvas = RgbImage::from_pixel(3 * cell, 3 * cell, WHITE);
            let confusion = Confusion { counts: vec![vec![count]] };
            draw_cells(&mut canvas, &confusion, |count, _| count.to_string(), [cell, cell], cell);
            let outside = |&(x, y, _): &(u32, u32, &Color)| {
                x < cell || y < cell || x > 2 * cell || y > 2 * cell
            };
            let written =
                canvas.enumerate_pixels().filter(outside).any(|(_, _, pixel)| *pixel != WHITE);
            assert!(!written, "cell {cell}, count {count}");
            let inside = |x: u32| canvas.get_pixel(x, 3 * cell / 2);
            (cell + 2..2 * cell - 1).filter(|x| *inside(*x) != heat(1.0)).count()
        };
        assert!(colors(60, 7) > 0);
        assert!(colors(60, 1_234_567) > colors(60, 7));
        assert_eq!(colors(60, 123_456_789_012), 0);
        assert_eq!(colors(12, 7), 0);
    }
}
