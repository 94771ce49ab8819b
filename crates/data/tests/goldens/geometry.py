"""Writes geometry.json: flips and rotations by torchvision 0.28 with Pillow 13.

    python crates/data/tests/goldens/geometry.py > crates/data/tests/goldens/geometry.json
"""

import json

import numpy as np
from PIL import Image
from torchvision.transforms import functional as F

rng = np.random.default_rng(0)
cases = []
for width, height in [(16, 16), (15, 15), (14, 9), (5, 11), (1, 1)]:
    pixels = rng.integers(1, 256, size=(height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    of = lambda result: np.asarray(result).flatten().tolist()
    angles = [0.0, 90.0, -90.0, 180.0, 1e-9, 0.3, -0.3, 12.5, -29.999, 45.0, 133.7, -171.25]
    cases.append({"width": width, "height": height, "pixels": of(image), "vflip": of(F.vflip(image)),
                  "rotated": [[angle, of(F.rotate(image, angle))] for angle in angles]})
print(json.dumps(cases))
