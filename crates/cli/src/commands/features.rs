//! `alexnet features`: draws the output of a convolutional layer for an image.

use std::path::PathBuf;

use alexnet::{
    core::text::shown_path,
    explain::{ConvLayer, Map, color},
};
use anyhow::Result;
use image::{Rgb, RgbImage};

use crate::{console::Console, figures, inputs::check_other, options::ClassifierOptions};

/// The columns of the figure.
const COLUMNS: usize = 16;

/// Draw the output of a convolutional layer for an image
///
/// Each square is a channel after the ReLU, from dark (0) to bright (the largest value of the
/// layer).
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Image file
    #[arg(value_name = "FILE")]
    image: PathBuf,
    /// Convolutional layer
    #[arg(long, value_name = "NAME", value_enum, default_value = "conv1")]
    layer: ConvLayer,
    /// File to write the figure to
    #[arg(long, value_name = "PNG", default_value = "features.png")]
    out: PathBuf,
    #[command(flatten)]
    classifier: ClassifierOptions,
}

/// Runs the command.
///
/// # Errors
/// If the weights or the image cannot be read, or the figure cannot be written.
pub fn run(args: &Args) -> Result<()> {
    check_other(&args.out, &args.image)?;
    let mut classifier = args.classifier.load(&mut Console::default())?;
    let map = classifier.activations(&args.image, args.layer)?;
    let channels = channels(&map);
    figures::save(&figures::mosaic(&channels, COLUMNS), &args.out)?;
    let Map { height, width, .. } = map;
    say!(
        "{} channels of {height}×{width} in {}, largest value {:.3}",
        channels.len(),
        shown_path(&args.out),
        map.max()
    )
}

/// Returns an image per channel, all with the same scale.
fn channels(map: &Map) -> Vec<RgbImage> {
    let largest = map.max().max(f32::MIN_POSITIVE);
    let planes = map.values.chunks_exact(map.height * map.width);
    let image = |plane: &[f32]| {
        RgbImage::from_fn(map.width as u32, map.height as u32, |x, y| {
            Rgb(color(plane[y as usize * map.width + x as usize] / largest))
        })
    };
    planes.map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_have_a_common_scale() {
        let map = Map { channels: 2, height: 1, width: 2, values: vec![0.0, 4.0, 0.0, 2.0] };
        let [first, second] = &channels(&map)[..] else { panic!("two channels") };
        assert_eq!(first.get_pixel(0, 0).0, color(0.0));
        assert_eq!(first.get_pixel(1, 0).0, color(1.0));
        assert_eq!(second.get_pixel(1, 0).0, color(0.5));
    }
}
