//! The confusion matrix as a heat map.

use alexnet_core::metrics::Confusion;
use image::{RgbImage, imageops};

use super::{BLUE, Color, FAINT, INK, MUTED, WHITE, blend, fill, text};

const MARGIN: u32 = 24;
/// The matrix is about this wide, with cells of one pixel at least.
const SIDE: u32 = 900;
const LARGEST_CELL: u32 = 120;
const SMALLEST_TEXT: f32 = 9.0;
const LARGEST_TEXT: f32 = 20.0;
const TITLE: f32 = 24.0;
/// Names of classes get this many pixels at most.
const NAME_ROOM: f32 = 180.0;
const COLOR_BAR: u32 = 18;

/// Rows are true, columns predicted; a cell's colour is its share of its row, its number the count.
pub fn confusion_matrix(confusion: &Confusion, classes: &[String]) -> RgbImage {
    let n = confusion.counts.len() as u32;
    let cell = (SIDE / n.max(1)).clamp(1, LARGEST_CELL);
    let side = n * cell;

    let size = (cell as f32 * 0.8).clamp(SMALLEST_TEXT + 1.0, LARGEST_TEXT);
    let names: Vec<String> = classes.iter().map(|name| text::shorten(name, size, NAME_ROOM)).collect();
    // Where lines of text are taller than cells, only every so many classes are named.
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
    let heading = format!("accuracy {:.3} of {} pictures", confusion.accuracy(), confusion.total());
    let width = (left + side + right).max(2 * MARGIN + text::width(&heading, TITLE) as u32);
    let mut canvas = RgbImage::from_pixel(width, top + side + below + MARGIN, WHITE);

    text::draw(&mut canvas, &heading, [MARGIN as f32, MARGIN as f32], TITLE, INK);
    draw_cells(&mut canvas, confusion, [left, top], cell);

    // Names and titles of the axes. Columns are written on a canvas of their own where they must be turned.
    for (name, index) in names.iter().zip(0u32..).step_by(every) {
        let length = text::width(name, size);
        let middle = (index * cell) as f32 + cell as f32 / 2.0;
        let row = [(left - gap) as f32 - length, top as f32 + middle - size / 2.0];
        text::draw(&mut canvas, name, row, size, INK);
        let under = (top + side + gap) as f32;
        if upright {
            text::draw(&mut canvas, name, [left as f32 + middle - length / 2.0, under], size, INK);
        } else {
            let at = [left as f32 + middle - size / 2.0, under];
            draw_turned(&mut canvas, name, at, size, INK);
        }
    }
    let half = |length: f32| (side as f32 - length) / 2.0;
    let length = |word| text::width(word, LARGEST_TEXT);
    let at = [left as f32 + half(length("predicted")), (top + side + below - axis + gap) as f32];
    text::draw(&mut canvas, "predicted", at, LARGEST_TEXT, MUTED);
    draw_turned(&mut canvas, "true", [MARGIN as f32, top as f32 + half(length("true"))], LARGEST_TEXT, MUTED);
    draw_scale(&mut canvas, [left + side + MARGIN, top], side);
    canvas
}

fn draw_cells(canvas: &mut RgbImage, confusion: &Confusion, [left, top]: [u32; 2], cell: u32) {
    let largest = confusion.counts.iter().flatten().max().copied().unwrap_or_default().to_string();
    let wished = (cell as f32 * 0.34).min(LARGEST_TEXT);
    let size = wished.min(wished * cell as f32 * 0.85 / text::width(&largest, wished).max(1.0));
    let line = u32::from(cell >= 8);
    let side = confusion.counts.len() as u32 * cell;
    fill(canvas, [left, top], [side + line, side + line], FAINT);
    for (row, y) in confusion.counts.iter().zip((top..).step_by(cell as usize)) {
        let support: u64 = row.iter().sum();
        for (count, x) in row.iter().zip((left..).step_by(cell as usize)) {
            let share = *count as f32 / support.max(1) as f32;
            fill(canvas, [x + line, y + line], [cell - line, cell - line], heat(share));
            if size < SMALLEST_TEXT {
                continue;
            }
            let number = count.to_string();
            let color = match count {
                0 => blend(WHITE, MUTED, 0.6),
                _ if share > 0.45 => WHITE,
                _ => INK,
            };
            let middle = cell as f32 / 2.0;
            let at = [x as f32 + middle - text::width(&number, size) / 2.0, y as f32 + middle - size / 2.0];
            text::draw(canvas, &number, at, size, color);
        }
    }
}

/// What the colours mean.
fn draw_scale(canvas: &mut RgbImage, [x, y]: [u32; 2], height: u32) {
    for row in 0..height {
        let share = 1.0 - row as f32 / (height - 1).max(1) as f32;
        fill(canvas, [x, y + row], [COLOR_BAR, 1], heat(share));
    }
    let size = LARGEST_TEXT * 0.8;
    let beside = (x + COLOR_BAR + 8) as f32;
    text::draw(canvas, "100 %", [beside, y as f32], size, MUTED);
    text::draw(canvas, "0 %", [beside, (y + height) as f32 - size], size, MUTED);
}

fn heat(share: f32) -> Color {
    blend(WHITE, BLUE, share)
}

/// Writes from bottom to top; `x`, `y` is the upper left corner of the turned line.
fn draw_turned(canvas: &mut RgbImage, line: &str, [x, y]: [f32; 2], size: f32, color: Color) {
    let mut flat = RgbImage::from_pixel(text::width(line, size).ceil() as u32, size.ceil() as u32, WHITE);
    text::draw(&mut flat, line, [0.0; 2], size, color);
    imageops::replace(canvas, &imageops::rotate270(&flat), x as i64, y as i64);
}
