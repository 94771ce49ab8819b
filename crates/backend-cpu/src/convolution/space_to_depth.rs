//! Converts a convolution with stride s to one with stride 1. Each s×s block of pixels of the image
//! becomes one pixel with s² times as many channels, and the weights are padded to full blocks. For
//! example, 11×11 with stride 4 over 3 channels becomes 3×3 over 48 channels.

use std::ops::Range;

use rayon::prelude::*;

use super::Geometry;

/// Returns the geometry after the conversion: kernel ⌈k/s⌉, stride 1, no padding (the padding is
/// part of the blocked image).
pub fn geometry(from: &Geometry) -> Geometry {
    let Geometry { input: [channels, ..], output, kernel, stride, groups, .. } = *from;
    let kernel = kernel.div_ceil(stride);
    let input = [channels * stride * stride, output[1] + kernel - 1, output[2] + kernel - 1];
    Geometry { input, output, kernel, stride: 1, padding: 0, groups }
}

/// Calls `visit` for each line of each block in a row of blocks with its offset in that row of the
/// blocked image, its offset in the image, and the columns of the block that are inside the image.
fn for_each_line(from: &Geometry, row: usize, mut visit: impl FnMut(usize, usize, Range<usize>)) {
    let Geometry { input: [channels, height, width], stride, padding, .. } = *from;
    let [blocked_channels, _, columns] = geometry(from).input;
    for line in 0..stride {
        let Some(y) = (row * stride + line).checked_sub(padding).filter(|y| *y < height) else {
            continue;
        };
        for column in 0..columns {
            let left = column * stride;
            let inside = padding.saturating_sub(left).min(stride)
                ..(width + padding).saturating_sub(left).min(stride);
            if inside.start < inside.end {
                let offset = column * blocked_channels + (line * stride + inside.start) * channels;
                visit(offset, (y * width + left + inside.start - padding) * channels, inside);
            }
        }
    }
}

/// Converts one image `[H, W, C]` to `blocked [H', W', s·s·C]`.
pub fn image(from: &Geometry, image: &[f32], blocked: &mut [f32]) {
    let [channels, _, columns] = geometry(from).input;
    blocked.par_chunks_mut(columns * channels).enumerate().for_each(|(row, blocked)| {
        blocked.fill(0.0);
        for_each_line(from, row, |to, at, inside| {
            let len = inside.len() * from.input[0];
            copy(&image[at..][..len], &mut blocked[to..][..len]);
        });
    });
}

/// Copies a line of a block.
fn copy(from: &[f32], to: &mut [f32]) {
    // A line of 4 pixels with 3 channels, which all lines of an image have except at its edges. With
    // a known size, the copy needs no call.
    match (<&[f32; 12]>::try_from(from), <&mut [f32; 12]>::try_from(&mut *to)) {
        (Ok(from), Ok(to)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// The inverse of [`image`], for the gradient of an image.
pub fn image_gradient(from: &Geometry, blocked: &[f32], image: &mut [f32]) {
    let [channels, _, columns] = geometry(from).input;
    // Pixels that are in no window are not part of the blocked image.
    image.fill(0.0);
    for (row, blocked) in blocked.chunks_exact(columns * channels).enumerate() {
        for_each_line(from, row, |to, at, inside| {
            let len = inside.len() * from.input[0];
            image[at..][..len].copy_from_slice(&blocked[to..][..len]);
        });
    }
}

/// Calls `visit` for each pixel of the kernel with its index in the weights and in the blocked
/// weights, in rows of `in/groups · out` numbers.
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

/// Converts `weight [kh, kw, in/groups, out]` to `blocked [⌈kh/s⌉, ⌈kw/s⌉, s·s·in/groups, out]`.
pub fn weight(from: &Geometry, weight: &[f32], blocked: &mut [f32]) {
    let tap = weight.len() / (from.kernel * from.kernel);
    blocked.fill(0.0);
    for_each_tap(from, |at, to| {
        blocked[to * tap..][..tap].copy_from_slice(&weight[at * tap..][..tap])
    });
}

/// The inverse of [`weight`], for the gradient of the weights.
pub fn weight_gradient(from: &Geometry, blocked: &[f32], weight: &mut [f32]) {
    let tap = weight.len() / (from.kernel * from.kernel);
    for_each_tap(from, |at, to| {
        weight[at * tap..][..tap].copy_from_slice(&blocked[to * tap..][..tap])
    });
}
