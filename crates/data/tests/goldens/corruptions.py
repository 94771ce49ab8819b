"""Writes corruptions.bin: corruptions of an image by NumPy 2.4 and Pillow 13, at three severities each.

    python crates/data/tests/goldens/corruptions.py > crates/data/tests/goldens/corruptions.bin

The file has the side of the image as u32 and its pixels, then for blur, brightness, contrast, JPEG and both scales, and each severity, the
pixels as f32.
"""

import colorsys
import io
import struct
import sys

import numpy as np
from PIL import Image

SIZE = 32
rng = np.random.default_rng(0)
y, x = np.mgrid[:SIZE, :SIZE]
smooth = np.stack([40 + 5 * x, 200 - 3 * y, 90 + x + y], -1)
pixels = np.clip(smooth + rng.normal(scale=25, size=smooth.shape), 0, 255).astype(np.uint8)
pixels[:4, :4] = 0
pixels[-4:, :4] = 255


def blur(sigma):
    """scipy.ndimage.gaussian_filter(mode="nearest", truncate=4)."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    result = np.pad(pixels.astype(float), ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    for axis in range(2):
        result = np.apply_along_axis(np.convolve, axis, result, weights / weights.sum(), mode="valid")
    return result


def brightness(increase):
    result = np.zeros(pixels.shape)
    for place in np.ndindex(SIZE, SIZE):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixels[place] / 255)
        result[place] = colorsys.hsv_to_rgb(hue, saturation, min(value + increase, 1))
    return 255 * result


def contrast(share):
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return (pixels - mean) * share + mean


def jpeg(quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def scale_up(factor):
    part = round(SIZE / factor)
    start = (SIZE - part) // 2
    image = Image.fromarray(pixels).crop((start, start, start + part, start + part))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def scale_down(factor):
    part = round(SIZE / factor)
    start = (SIZE - part) // 2
    small = np.asarray(Image.fromarray(pixels).resize((part, part), Image.Resampling.BILINEAR))
    return np.pad(small, ((start, SIZE - part - start), (start, SIZE - part - start), (0, 0)), mode="edge")


sys.stdout.buffer.write(struct.pack("<I", SIZE) + pixels.tobytes())
for corrupt, strengths in [(blur, (1, 3, 6)), (brightness, (0.1, 0.3, 0.5)), (contrast, (0.4, 0.2, 0.05)), (jpeg, (25, 15, 7)),
                           (scale_up, (1.2, 1.5, 2)), (scale_down, (1.2, 1.5, 2))]:
    for strength in strengths:
        sys.stdout.buffer.write(np.asarray(corrupt(strength)).astype("<f4").tobytes())
