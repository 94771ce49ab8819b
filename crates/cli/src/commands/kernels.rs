//! `alexnet kernels`: draws the filters of the first convolution.

use std::path::PathBuf;

use alexnet::{
    WeightsFile,
    core::{Array, text::shown_path},
};
use anyhow::{Context, Result};
use image::{Rgb, RgbImage};

use crate::{console::Console, figures};

/// The columns of the figure.
const COLUMNS: usize = 16;

/// Draw the filters of the first convolution
///
/// As in figure 3 of the paper: each square is a filter over red, green and blue. Gray is 0; the
/// largest weight of a filter has the full color.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Weights file [default: the best weights of the newest run]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// File to write the figure to
    #[arg(long, value_name = "PNG", default_value = "kernels.png")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// If the weights cannot be read or the figure cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let file = WeightsFile::read(args.weights.as_deref(), &mut Console::default())?;
    let weight = file.loaded.weights.parameters.get("features.0.weight");
    let filters = filters(weight.context("the network has no first convolution")?);
    figures::save(&figures::mosaic(&filters, COLUMNS), &args.out)?;
    say!("{} filters in {}", filters.len(), shown_path(&args.out))
}

/// Converts a weight `[outputs, 3, height, width]` to an image per output.
fn filters(weight: &Array) -> Vec<RgbImage> {
    let [_, channels, height, width] = weight.shape[..] else { return vec![] };
    let plane = height * width;
    let filters = weight.values.chunks_exact(channels * plane);
    filters
        .map(|filter| {
            let largest = filter.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
            RgbImage::from_fn(width as u32, height as u32, |x, y| {
                let position = y as usize * width + x as usize;
                let color = |channel: usize| {
                    let share = filter[channel * plane + position] / largest.max(f32::MIN_POSITIVE);
                    (127.5 + 127.5 * share).round().clamp(0.0, 255.0) as u8
                };
                Rgb([color(0), color(1), color(2)])
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_gray_and_the_largest_weight_is_full() {
        let values = vec![2.0, 0.0, -1.0, 0.0, 0.0, 0.0];
        let [filter] = &filters(&Array { shape: vec![1, 3, 1, 2], values })[..] else {
            panic!("one filter")
        };
        assert_eq!(filter.get_pixel(0, 0).0, [255, 64, 128]);
        assert_eq!(filter.get_pixel(1, 0).0, [128, 128, 128]);
        let zeros = Array { shape: vec![1, 3, 1, 1], values: vec![0.0; 3] };
        assert_eq!(filters(&zeros)[0].get_pixel(0, 0).0, [128; 3]);
    }
}
