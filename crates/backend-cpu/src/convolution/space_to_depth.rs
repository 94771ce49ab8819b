//! A convolution with stride s is one with stride 1 on an image whose s×s blocks of pixels have become channels, with
//! weights padded to whole blocks: 11×11 with stride 4 over 3 channels is 3×3 over 48.

use std::ops::Range;

use rayon::prelude::*;

use super::Geometry;

/// Extents after the change: kernel ⌈k/s⌉, stride 1, no padding (it has become part of the image).
pub fn geometry(from: &Geometry) -> Geometry {
    let Geometry { input: [channels, ..], output, kernel, stride, groups, .. } = *from;
    let kernel = kernel.div_ceil(stride);
    let input = [channels * stride * stride, output[1] + kernel - 1, output[2] + kernel - 1];
    Geometry { input, output, kernel, stride: 1, padding: 0, groups }
}

/// For each line of each block in a row of blocks: its place in that row of the changed image, the place in the image, and
/// which of the block's columns lie inside.
fn for_each_line(from: &Geometry, row: usize, mut visit: impl FnMut(usize, usize, Range<usize>)) {
    let Geometry { input: [channels, height, width], stride, padding, .. } = *from;
    let [changed_channels, _, columns] = geometry(from).input;
    for line in 0..stride {
        let Some(y) = (row * stride + line).checked_sub(padding).filter(|y| *y < height) else { continue };
        for column in 0..columns {
            let left = column * stride;
            let inside =
                padding.saturating_sub(left).min(stride)..(width + padding).saturating_sub(left).min(stride);
            if inside.start < inside.end {
                let changed = column * changed_channels + (line * stride + inside.start) * channels;
                visit(changed, (y * width + left + inside.start - padding) * channels, inside);
            }
        }
    }
}

/// One image `[H, W, C]` to `changed [H', W', s·s·C]`.
pub fn image(from: &Geometry, image: &[f32], changed: &mut [f32]) {
    let [channels, _, columns] = geometry(from).input;
    changed.par_chunks_mut(columns * channels).enumerate().for_each(|(row, changed)| {
        changed.fill(0.0);
        for_each_line(from, row, |to, at, inside| {
            let len = inside.len() * from.input[0];
            changed[to..][..len].copy_from_slice(&image[at..][..len]);
        });
    });
}

/// The way back, for the gradient of an image.
pub fn image_gradient(from: &Geometry, changed: &[f32], image: &mut [f32]) {
    let [channels, _, columns] = geometry(from).input;
    // Pixels that no window touches have no place in the changed image.
    image.fill(0.0);
    for (row, changed) in changed.chunks_exact(columns * channels).enumerate() {
        for_each_line(from, row, |to, at, inside| {
            let len = inside.len() * from.input[0];
            image[at..][..len].copy_from_slice(&changed[to..][..len]);
        });
    }
}

/// For each pixel of the kernel: its place in the changed weights, in rows of `in/groups · out` numbers.
fn for_each_tap(from: &Geometry, mut visit: impl FnMut(usize, usize)) {
    let Geometry { kernel, stride, .. } = *from;
    let blocks = kernel.div_ceil(stride);
    for ky in 0..kernel {
        for kx in 0..kernel {
            let block = ky / stride * blocks + kx / stride;
            visit(ky * kernel + kx, (block * stride + ky % stride) * stride + kx % stride);
        }
    }
}

/// `weight [kh, kw, in/groups, out]` to `changed [⌈kh/s⌉, ⌈kw/s⌉, s·s·in/groups, out]`.
pub fn weight(from: &Geometry, weight: &[f32], changed: &mut [f32]) {
    let tap = weight.len() / (from.kernel * from.kernel);
    changed.fill(0.0);
    for_each_tap(from, |at, to| changed[to * tap..][..tap].copy_from_slice(&weight[at * tap..][..tap]));
}

/// The way back, for the gradient of the weights.
pub fn weight_gradient(from: &Geometry, changed: &[f32], weight: &mut [f32]) {
    let tap = weight.len() / (from.kernel * from.kernel);
    for_each_tap(from, |at, to| weight[at * tap..][..tap].copy_from_slice(&changed[to * tap..][..tap]));
}
