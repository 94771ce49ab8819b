//! Draws images in rows and columns, each with a caption.

use alexnet::core::{
    Batch, Images, Logits,
    metrics::{Answer, Evaluation, argmax},
};
use image::{RgbImage, imageops};

use super::{Color, FAINT, GREEN, INK, MUTED, RED, WHITE, fill, text};

/// Limits of the side of a tile in pixels. An image is shrunk to fit, or centered.
const SMALLEST: u32 = 112;
pub(super) const LARGEST: u32 = 256;
const GAP: u32 = 10;
const SIZE: f32 = 17.0;
const LINE: u32 = 20;

/// The most images of a batch that are shown, and the number of columns.
const SHOWN: usize = 16;
const COLUMNS: usize = 4;

/// A line of a caption.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its text, truncated if it is wider than the tile.
    pub text: String,
    /// Its color.
    pub color: Color,
}

/// An image with its caption below.
#[derive(Clone, Debug)]
pub struct Tile {
    /// An image of any size, or `None` for a tile of text.
    pub image: Option<RgbImage>,
    /// Its lines from top to bottom.
    pub caption: Vec<Line>,
}

impl Tile {
    /// Creates a tile of an image with a caption of one line.
    pub fn new(image: RgbImage, caption: impl Into<String>) -> Self {
        Self { image: Some(image), ..Self::text(caption) }
    }

    /// Creates a tile without an image.
    pub fn text(caption: impl Into<String>) -> Self {
        Self { image: None, caption: vec![Line { text: caption.into(), color: INK }] }
    }

    /// Adds a gray line to the caption.
    pub fn with_line(mut self, text: impl Into<String>) -> Self {
        self.caption.push(Line { text: text.into(), color: MUTED });
        self
    }
}

/// Draws tiles row by row. All tiles have the same size: that of the largest image, but at most 256
/// pixels; larger images are shrunk.
pub fn grid(tiles: &[Tile], columns: usize) -> RgbImage {
    let columns = columns.clamp(1, tiles.len().max(1)) as u32;
    let rows = (tiles.len() as u32).div_ceil(columns);
    let images = tiles.iter().filter_map(|tile| tile.image.as_ref());
    let largest = images.flat_map(|image| <[u32; 2]>::from(image.dimensions())).max();
    let side = largest.unwrap_or_default().clamp(SMALLEST, LARGEST);
    let lines = tiles.iter().map(|tile| tile.caption.len()).max().unwrap_or_default() as u32;
    let (across, down) = (side + GAP, side + lines * LINE + GAP);

    let mut canvas = RgbImage::from_pixel(columns * across + GAP, rows * down + GAP, WHITE);
    for (tile, index) in tiles.iter().zip(0u32..) {
        let (x, y) = (GAP + index % columns * across, GAP + index / columns * down);
        if let Some(image) = &tile.image {
            fill(&mut canvas, [x, y], [side, side], FAINT);
            let image = shrunk(image, side);
            let centered = |extent: u32| i64::from((side - extent) / 2);
            let [left, top] = [centered(image.width()), centered(image.height())];
            imageops::replace(&mut canvas, &image, i64::from(x) + left, i64::from(y) + top);
        }
        for (line, row) in tile.caption.iter().zip(0u32..) {
            let shortened = text::shorten(&line.text, SIZE, side as f32);
            let at = [x as f32, (y + side + row * LINE) as f32 + 2.0];
            text::draw(&mut canvas, &shortened, at, SIZE, line.color);
        }
    }
    canvas
}

/// Shrinks an image to the largest size that a grid shows.
pub fn thumbnail(image: &RgbImage) -> RgbImage {
    shrunk(image, LARGEST)
}

/// Returns a placeholder for an image that cannot be read.
pub(super) fn unreadable() -> RgbImage {
    let label = "no image";
    let mut placeholder = RgbImage::from_pixel(SMALLEST, SMALLEST, FAINT);
    let at = [(SMALLEST as f32 - text::width(label, SIZE)) / 2.0, (SMALLEST as f32 - SIZE) / 2.0];
    text::draw(&mut placeholder, label, at, SIZE, MUTED);
    placeholder
}

/// Shrinks an image to fit into a square of `side` pixels. A smaller image is not changed.
pub(super) fn shrunk(image: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= side {
        return image.clone();
    }
    let scaled =
        |extent: u32| ((u64::from(extent) * u64::from(side) / u64::from(longest)) as u32).max(1);
    imageops::thumbnail(image, scaled(width), scaled(height))
}

/// Returns image `index` of a batch without normalization, or a black image if the index is out of
/// range.
pub fn batch_image(images: &Images, index: usize) -> RgbImage {
    let (width, height) = (images.width as u32, images.height as u32);
    let bytes = images.height * images.width * 3;
    let pixels = images.pixels.chunks_exact(bytes.max(1)).nth(index);
    pixels
        .and_then(|pixels| RgbImage::from_raw(width, height, pixels.to_vec()))
        .unwrap_or_else(|| RgbImage::new(width, height))
}

/// Draws the first 16 images of a training batch after augmentation, with their classes. Images
/// without a target are left out.
pub fn training_batch(batch: &Batch, classes: &[String]) -> RgbImage {
    let targets = batch.targets.chunks_exact(classes.len().max(1));
    let tiles: Vec<Tile> = targets
        .enumerate()
        .filter(|(_, target)| target.iter().any(|share| *share != 0.0))
        .take(SHOWN)
        .map(|(index, target)| {
            Tile::new(batch_image(&batch.images, index), name(classes, argmax(target)))
        })
        .collect();
    grid(&tiles, COLUMNS)
}

/// Creates a tile of an image with its predicted class, green if correct and red if not, and its
/// true class.
pub fn answered(image: RgbImage, answer: &Answer, classes: &[String]) -> Tile {
    let predicted = Line {
        text: format!("{}  {:.3}", name(classes, answer.predicted), answer.probability),
        color: if answer.is_right() { GREEN } else { RED },
    };
    Tile { image: Some(image), caption: vec![predicted] }
        .with_line(format!("true: {}", name(classes, answer.truth)))
}

/// Draws the first 16 images of a validation batch as tiles of [`answered`].
pub fn predictions(batch: &Batch, logits: &Logits, classes: &[String]) -> RgbImage {
    let mut evaluation = Evaluation::new(logits.classes);
    evaluation.add(logits, &batch.targets);
    let tile = |(index, answer)| answered(batch_image(&batch.images, index), answer, classes);
    let tiles: Vec<Tile> = evaluation.answers().iter().take(SHOWN).enumerate().map(tile).collect();
    grid(&tiles, COLUMNS)
}

fn name(classes: &[String], class: usize) -> &str {
    classes.get(class).map_or("?", String::as_str)
}

#[cfg(test)]
mod tests {
    use alexnet::core::Normalization;
    use image::Rgb;

    use super::*;

    /// Returns a batch of images of 8×6 pixels; all pixels of image i have the value i.
    fn batch(n: u8, truths: &[usize]) -> Batch {
        let images = Images {
            pixels: (0..n).flat_map(|i| [i; 8 * 6 * 3]).collect(),
            height: 6,
            width: 8,
            normalization: Normalization::HALF,
        };
        let target = |truth: &usize| [0, 1, 2].map(|class| f32::from(u8::from(class == *truth)));
        Batch { images, targets: truths.iter().flat_map(target).collect() }
    }

    fn classes() -> Vec<String> {
        ["daisy", "roses", "a flower with a name that no caption of this width can hold"]
            .map(String::from)
            .to_vec()
    }

    #[test]
    fn a_grid_is_as_large_as_its_tiles_need() {
        let tile = |side| Tile::new(RgbImage::new(side, side), "roses");
        let step = |side: u32| (side + GAP, side + LINE + GAP);
        for (tiles, columns, side, shape) in [
            (vec![], 4, SMALLEST, (1, 0)),
            (vec![tile(5)], 0, SMALLEST, (1, 1)),
            (vec![tile(224); 3], 9, 224, (3, 1)),
            (vec![tile(224); 16], 4, 224, (4, 4)),
            (vec![tile(3000), tile(1), tile(0)], 2, LARGEST, (2, 2)),
        ] {
            let (across, down) = step(side);
            let (width, height) = grid(&tiles, columns).dimensions();
            assert_eq!(width, shape.0 * across + GAP);
            // Without tiles there is no caption.
            assert_eq!(height, shape.1 * down + GAP);
        }
    }

    #[test]
    fn images_are_centered_and_in_order() {
        let drawn = training_batch(&batch(20, &[0; 20]), &classes());
        for index in 0..SHOWN as u32 {
            let x = GAP + index % 4 * (SMALLEST + GAP);
            let y = GAP + index / 4 * (SMALLEST + LINE + GAP);
            let center = drawn.get_pixel(x + SMALLEST / 2, y + SMALLEST / 2);
            assert_eq!(*center, Rgb([index as u8; 3]));
            assert_eq!(*drawn.get_pixel(x + 1, y + 1), FAINT);
        }
    }

    #[test]
    fn large_images_keep_their_proportions() {
        assert_eq!(shrunk(&RgbImage::new(1000, 500), 256).dimensions(), (256, 128));
        assert_eq!(shrunk(&RgbImage::new(1, 9000), 256).dimensions(), (1, 256));
        assert_eq!(shrunk(&RgbImage::new(256, 20), 256).dimensions(), (256, 20));
    }

    #[test]
    fn right_is_green_and_wrong_is_red() {
        let logits = |best: usize| Logits {
            values: [0, 1, 2].map(|class| if class == best { 3.0 } else { 0.0 }).to_vec(),
            classes: 3,
        };
        // Letters are thin, so their pixels are only tinted with the color.
        let tints = |best| {
            let drawn = predictions(&batch(1, &[1]), &logits(best), &classes());
            let tinted = |more: usize, less: usize| {
                drawn.pixels().any(|pixel| i32::from(pixel[more]) > i32::from(pixel[less]) + 40)
            };
            [tinted(1, 0), tinted(0, 1)]
        };
        assert_eq!(tints(1), [true, false]);
        assert_eq!(tints(2), [false, true]);
    }

    #[test]
    fn captions_differ_by_class() {
        let drawn = |truth| training_batch(&batch(1, &[truth]), &classes());
        assert_ne!(drawn(0), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn empty_and_inconsistent_batches_do_not_panic() {
        training_batch(&batch(0, &[]), &classes());
        training_batch(&batch(2, &[0; 5]), &classes());
        training_batch(&batch(2, &[0; 2]), &[]);
        predictions(&batch(3, &[0]), &Logits { values: vec![f32::NAN; 9], classes: 3 }, &classes());
        let empty =
            Images { pixels: vec![], height: 0, width: 0, normalization: Normalization::HALF };
        assert_eq!(batch_image(&empty, 3).dimensions(), (0, 0));
    }
}
