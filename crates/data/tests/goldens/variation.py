"""Writes variation.json: color jitter, mixing and label smoothing by Pillow 13, torchvision 0.28 and PyTorch 2.13.

    python crates/data/tests/goldens/variation.py > crates/data/tests/goldens/variation.json
"""

import json

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional as F
from torchvision.transforms import v2

f32 = lambda value: float(np.float32(value))
rng = np.random.default_rng(0)


def colours():
    """Yields adjustments one after the other, of noise, of a dark image and of a bright image."""
    functions = {"brightness": F.adjust_brightness, "contrast": F.adjust_contrast, "saturation": F.adjust_saturation}
    for order in [("brightness", "contrast", "saturation"), ("saturation", "brightness", "contrast"),
                  ("contrast", "saturation", "brightness")]:
        for factors in [(0.6, 1.4, 0.25), (1.3, 0.7, 1.9), (1, 0, 1), (0, 1.1, 1), (2.5, 0.33, 0)]:
            for low, high in [(0, 256), (0, 40), (200, 256)]:
                pixels = rng.integers(low, high, size=(7, 9, 3), dtype=np.uint8)
                image = Image.fromarray(pixels)
                adjustments = [(name, f32(factor)) for name, factor in zip(order, factors)]
                for name, factor in adjustments:
                    image = functions[name](image, factor)
                yield {"pixels": pixels.flatten().tolist(), "adjustments": adjustments,
                       "result": np.asarray(image).flatten().tolist()}


def mixed():
    """Yields batches of four images with the loss of random logits for the mixed targets, smoothed by CrossEntropyLoss."""
    size, classes = 12, 5
    for kind, share, box in [("mixup", 0.3, None), ("mixup", 0.85, None), ("cutmix", None, (2, 3, 9, 12)),
                             ("cutmix", None, (0, 0, 12, 5)), ("cutmix", None, (4, 4, 4, 4))]:
        for smoothing in [0.0, 0.1]:
            pixels = rng.integers(0, 256, size=(4, size, size, 3), dtype=np.uint8)
            labels = torch.tensor(rng.integers(0, classes, size=4))
            images = torch.tensor(pixels).permute(0, 3, 1, 2).double()
            if kind == "mixup":
                transform = v2.MixUp(num_classes=classes)
                transform.make_params = lambda inputs: {"lam": share}
            else:
                left, top, right, bottom = box
                transform = v2.CutMix(num_classes=classes)
                own = 1 - (right - left) * (bottom - top) / size**2
                transform.make_params = lambda inputs: {"box": box, "lam_adjusted": own}
            images, targets = transform(images, labels)
            logits = torch.tensor(rng.normal(size=(4, classes)).astype(np.float32))
            loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(logits.double(), targets.double())
            yield {"size": size, "classes": classes, "share": share, "box": box, "smoothing": smoothing,
                   "pixels": pixels.flatten().tolist(), "labels": labels.tolist(),
                   "mixed": images.permute(0, 2, 3, 1).flatten().tolist(), "targets": targets.flatten().tolist(),
                   "logits": logits.flatten().tolist(), "loss": loss.item()}


print(json.dumps({"colours": list(colours()), "mixed": list(mixed())}))
