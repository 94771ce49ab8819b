//! A convolution with stride s is one with stride 1 on an image whose s×s blocks of pixels have become channels, with
//! weights padded to whole blocks: 11×11 with stride 4 over 3 channels is 3×3 over 48.

use super::Geometry;

/// Extents after the change: kernel ⌈k/s⌉, stride 1, no padding (it has become part of the image).
pub fn geometry(from: &Geometry) -> Geometry {
    let Geometry { input: [channels, ..], output, kernel, stride, groups, .. } = *from;
    let kernel = kernel.div_ceil(stride);
    let input = [channels * stride * stride, output[1] + kernel - 1, output[2] + kernel - 1];
    Geometry { input, output, kernel, stride: 1, padding: 0, groups }
}

/// For each pixel of one changed image and each line of its block: the place in the changed image, the place in the image,
/// and how many pixels of the line lie inside (as a range of the block's columns).
fn for_each_line(from: &Geometry, mut visit: impl FnMut(usize, usize, std::ops::Range<usize>)) {
    let Geometry { input: [channels, height, width], stride, padding, .. } = *from;
    let [changed_channels, rows, columns] = geometry(from).input;
    for row in 0..rows {
        for line in 0..stride {
            let Some(y) = (row * stride + line).checked_sub(padding).filter(|y| *y < height) else { continue };
            for column in 0..columns {
                let left = column * stride;
                let inside =
                    padding.saturating_sub(left).min(stride)..(width + padding).saturating_sub(left).min(stride);
                if inside.start < inside.end {
                    let changed = (row * columns + column) * changed_channels + line * stride * channels;
                    visit(changed, (y * width + left + inside.start - padding) * channels, inside);
                }
            }
        }
    }
}

/// One image `[H, W, C]` to `changed [H', W', s·s·C]`.
pub fn image(from: &Geometry, image: &[f32], changed: &mut [f32]) {
    let channels = from.input[0];
    changed.fill(0.0);
    for_each_line(from, |to, at, inside| {
        let len = inside.len() * channels;
        changed[to + inside.start * channels..][..len].copy_from_slice(&image[at..][..len]);
    });
}

/// The way back, for the gradient of an image.
pub fn image_gradient(from: &Geometry, changed: &[f32], image: &mut [f32]) {
    let channels = from.input[0];
    // Pixels that no window touches have no place in the changed image.
    image.fill(0.0);
    for_each_line(from, |to, at, inside| {
        let len = inside.len() * channels;
        image[at..][..len].copy_from_slice(&changed[to + inside.start * channels..][..len]);
    });
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
