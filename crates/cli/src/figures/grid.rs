//! Images in rows and columns, each with its caption.

use alexnet::core::{
    Batch, Images, Logits,
    metrics::{Answer, Evaluation, argmax},
};
use image::{RgbImage, imageops};

use super::{Color, FAINT, GREEN, INK, MUTED, RED, WHITE, fill, text};

/// Height and width of an image's place, within which it is shrunk or centred.
const SMALLEST: u32 = 112;
pub(super) const LARGEST: u32 = 256;
const GAP: u32 = 10;
const SIZE: f32 = 17.0;
const LINE: u32 = 20;

/// How many images of a batch are shown, and in how many columns.
const SHOWN: usize = 16;
const COLUMNS: usize = 4;

/// A line of a caption.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it says; too long a text is shortened.
    pub text: String,
    /// In which colour.
    pub color: Color,
}

/// An image with its caption below.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Of any size; without one there are only words.
    pub image: Option<RgbImage>,
    /// From top to bottom.
    pub caption: Vec<Line>,
}

impl Tile {
    /// An image with a caption of one line.
    pub fn new(image: RgbImage, caption: impl Into<String>) -> Self {
        Self { image: Some(image), ..Self::words(caption) }
    }

    /// A caption alone.
    pub fn words(caption: impl Into<String>) -> Self {
        Self { image: None, caption: vec![Line { text: caption.into(), color: INK }] }
    }

    /// The tile with a quiet line more.
    pub fn remark(mut self, text: impl Into<String>) -> Self {
        self.caption.push(Line { text: text.into(), color: MUTED });
        self
    }
}

/// Tiles row by row. All have the same place, wide enough for the largest image (up to 256 pixels, beyond which images
/// are shrunk).
pub fn grid(tiles: &[Tile], columns: usize) -> RgbImage {
    let columns = columns.clamp(1, tiles.len().max(1)) as u32;
    let rows = (tiles.len() as u32).div_ceil(columns);
    let images = tiles.iter().filter_map(|tile| tile.image.as_ref());
    let largest = images.flat_map(|image| <[u32; 2]>::from(image.dimensions())).max();
    let place = largest.unwrap_or_default().clamp(SMALLEST, LARGEST);
    let lines = tiles.iter().map(|tile| tile.caption.len()).max().unwrap_or_default() as u32;
    let (across, down) = (place + GAP, place + lines * LINE + GAP);

    let mut canvas = RgbImage::from_pixel(columns * across + GAP, rows * down + GAP, WHITE);
    for (tile, index) in tiles.iter().zip(0u32..) {
        let (x, y) = (GAP + index % columns * across, GAP + index / columns * down);
        if let Some(image) = &tile.image {
            fill(&mut canvas, [x, y], [place, place], FAINT);
            let image = shrunk(image, place);
            let centre = |extent: u32| i64::from((place - extent) / 2);
            let [left, top] = [centre(image.width()), centre(image.height())];
            imageops::replace(&mut canvas, &image, i64::from(x) + left, i64::from(y) + top);
        }
        for (line, row) in tile.caption.iter().zip(0u32..) {
            let shortened = text::shorten(&line.text, SIZE, place as f32);
            let at = [x as f32, (y + place + row * LINE) as f32 + 2.0];
            text::draw(&mut canvas, &shortened, at, SIZE, line.color);
        }
    }
    canvas
}

/// The image as large as a grid can show it.
pub fn thumbnail(image: &RgbImage) -> RgbImage {
    shrunk(image, LARGEST)
}

/// What stands in the place of an image that cannot be read.
pub(super) fn unreadable() -> RgbImage {
    let words = "no image";
    let mut place = RgbImage::from_pixel(SMALLEST, SMALLEST, FAINT);
    let at = [(SMALLEST as f32 - text::width(words, SIZE)) / 2.0, (SMALLEST as f32 - SIZE) / 2.0];
    text::draw(&mut place, words, at, SIZE, MUTED);
    place
}

/// The image, shrunk to fit into a square if need be.
pub(super) fn shrunk(image: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= side {
        return image.clone();
    }
    let scaled = |extent: u32| ((u64::from(extent) * u64::from(side) / u64::from(longest)) as u32).max(1);
    imageops::thumbnail(image, scaled(width), scaled(height))
}

/// Image `index` of a batch as it is, before normalization; black if there is no such image.
pub fn batch_image(images: &Images, index: usize) -> RgbImage {
    let (width, height) = (images.width as u32, images.height as u32);
    let bytes = images.height * images.width * 3;
    let pixels = images.pixels.chunks_exact(bytes.max(1)).nth(index);
    pixels
        .and_then(|pixels| RgbImage::from_raw(width, height, pixels.to_vec()))
        .unwrap_or_else(|| RgbImage::new(width, height))
}

/// The first 16 images of a training batch as the network meets them, with their classes.
pub fn training_batch(batch: &Batch, classes: &[String]) -> RgbImage {
    let targets = batch.targets.chunks_exact(classes.len().max(1));
    let tiles: Vec<Tile> = targets
        .take(SHOWN)
        .enumerate()
        .map(|(index, target)| Tile::new(batch_image(&batch.images, index), name(classes, argmax(target))))
        .collect();
    grid(&tiles, COLUMNS)
}

/// An image with what was said of it, green when that is true and red when not, and the true class.
pub fn answered(image: RgbImage, answer: &Answer, classes: &[String]) -> Tile {
    let said = Line {
        text: format!("{}  {:.3}", name(classes, answer.predicted), answer.probability),
        color: if answer.is_right() { GREEN } else { RED },
    };
    Tile { image: Some(image), caption: vec![said] }.remark(format!("true: {}", name(classes, answer.truth)))
}

/// The first 16 images of a validation batch, each [`answered`].
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

    /// Figures of 8×6 pixels, the whole of number i of brightness i.
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
        let step = |place: u32| (place + GAP, place + LINE + GAP);
        for (tiles, columns, place, shape) in [
            (vec![], 4, SMALLEST, (1, 0)),
            (vec![tile(5)], 0, SMALLEST, (1, 1)),
            (vec![tile(224); 3], 9, 224, (3, 1)),
            (vec![tile(224); 16], 4, 224, (4, 4)),
            (vec![tile(3000), tile(1), tile(0)], 2, LARGEST, (2, 2)),
        ] {
            let (across, down) = step(place);
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
            let centre = drawn.get_pixel(x + SMALLEST / 2, y + SMALLEST / 2);
            assert_eq!(*centre, Rgb([index as u8; 3]));
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
        // The letters are thin: their pixels are tinted rather than of the full colour.
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
    fn captions_tell_classes_apart() {
        let drawn = |truth| training_batch(&batch(1, &[truth]), &classes());
        assert_ne!(drawn(0), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn odd_batches_do_not_panic() {
        training_batch(&batch(0, &[]), &classes());
        training_batch(&batch(2, &[0; 5]), &classes());
        training_batch(&batch(2, &[0; 2]), &[]);
        predictions(&batch(3, &[0]), &Logits { values: vec![f32::NAN; 9], classes: 3 }, &classes());
        let empty = Images { pixels: vec![], height: 0, width: 0, normalization: Normalization::HALF };
        assert_eq!(batch_image(&empty, 3).dimensions(), (0, 0));
    }
}
