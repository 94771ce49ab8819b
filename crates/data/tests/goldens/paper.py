"""Writes paper.bin: the preprocessing of the paper by torchvision 0.28 with Pillow 13, and its color noise by NumPy.

    python crates/data/tests/goldens/paper.py > crates/data/tests/goldens/paper.bin

Numbers are little-endian u32. A case of resizing is 0, width, height, short side, size, left, top, then the pixels of the image; of
`Resize(short)`, `CenterCrop(size)`; of the crop at (left, top) of `Resize(short)`, `CenterCrop(short)`; and of
`FiveCrop(size)` of the same, with the mirror images. A case of color noise is 1, width, height, three f32 (alpha), then the pixels and the noisy pixels as f32.
"""

import struct
import sys

import numpy as np
from PIL import Image
from torchvision.transforms import functional as F

rng = np.random.default_rng(0)
out = sys.stdout.buffer
sizes = [(67, 41, 24, 20), (41, 67, 24, 20), (20, 20, 20, 20), (19, 90, 33, 21), (90, 19, 33, 20), (61, 60, 47, 16), (3, 50, 18, 17),
         (52, 37, 31, 12), (37, 53, 30, 13)]
for width, height, short, size in sizes:
    image = Image.fromarray(rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8))
    left, top = rng.integers(0, short - size + 1, size=2)
    resized = F.resize(image, short)
    square = F.center_crop(resized, short)
    parts = [F.center_crop(resized, size), F.crop(square, top, left, size, size), *F.five_crop(square, size)]
    parts += [F.hflip(part) for part in parts[2:]]
    out.write(struct.pack("<7I", 0, width, height, short, size, left, top) + image.tobytes() + b"".join(part.tobytes() for part in parts))

# Lighting of fb.resnet.torch: the colors, between 0 and 1, plus the eigenvectors times alpha times the eigenvalues.
vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
values = np.array([0.2175, 0.0188, 0.0045])
for alpha in [(0, 0, 0), (0.1, 0, 0), (0, -0.3, 0), (0, 0, 2), (-0.25, 0.125, 0.5), (3, 0, 0)]:
    pixels = rng.integers(0, 256, size=(11, 7, 3), dtype=np.uint8)
    noisy = pixels / 255 + vectors @ (np.array(alpha) * values)
    out.write(struct.pack("<3I3f", 1, 7, 11, *alpha) + pixels.tobytes() + np.clip(255 * noisy, 0, 255).astype("<f4").tobytes())
