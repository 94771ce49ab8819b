"""Writes operations.json: the operations of RandAugment and TrivialAugmentWide by torchvision 0.28 with Pillow 13.

    python crates/data/tests/goldens/operations.py > crates/data/tests/goldens/operations.json

A case is a policy, an operation, the index of its magnitude, its sign, the magnitude, and the CRC-32 of the pixels of each image of
`images` after the operation. operations.rs calculates the same images.
"""

import json
import zlib

import numpy as np
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import RandAugment, TrivialAugmentWide, _apply_op


def images():
    for size in [224, 17]:
        y, x = np.mgrid[:size, :size].astype(np.uint32)
        hashed = (x + 57 * y) * np.uint32(2_654_435_761)
        yield np.stack([hashed >> 8, hashed >> 16, hashed >> 24], -1) & 255
        yield np.stack([40 + x * 150 // size, 200 - y * 99 // size, 90 + (x ^ y) % 16], -1)
    yield np.stack([np.full_like(x, 7), 10 * (x > 5), 255 * (y > 5)], -1)


images = [Image.fromarray(pixels.astype(np.uint8)) for pixels in images()]
cases = []
for policy in [RandAugment(), TrivialAugmentWide()]:
    space = policy._augmentation_space(31, (224, 224)) if isinstance(policy, RandAugment) else policy._augmentation_space(31)
    for name, (magnitudes, signed) in space.items():
        for index in range(31) if magnitudes.ndim else [0]:
            for sign in [1, -1] if signed else [1]:
                magnitude = sign * (float(magnitudes[index].item()) if magnitudes.ndim else 0.0)
                results = [_apply_op(image, name, magnitude, InterpolationMode.NEAREST, None) for image in images]
                cases.append([type(policy).__name__, name, index, sign, magnitude, [zlib.crc32(result.tobytes()) for result in results]])
print(json.dumps({"images": [zlib.crc32(image.tobytes()) for image in images], "cases": cases}))
