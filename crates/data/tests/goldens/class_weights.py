"""Writes class_weights.json: weighted losses of torch.nn.CrossEntropyLoss (PyTorch 2.13) and their gradients, and the
weights that scikit-learn calls balanced.

    python crates/data/tests/goldens/class_weights.py > crates/data/tests/goldens/class_weights.json
"""

import json

import torch
from torch.nn.functional import one_hot

CLASSES, IMAGES = 4, 7
labels = torch.tensor([0, 2, 1, 3, 2, 2, 0])
weight = torch.tensor([0.5, 2.0, 1.25, 3.0])
i, j = torch.arange(IMAGES)[:, None], torch.arange(CLASSES)[None]
logits = ((i * 7 + j * j * 5 + i * j * 3) % 23).float() / 8 - 1


def case(mixed, smoothing):
    """Mixed targets are those of mixup with the share 0.75: probabilities. Others are class indices."""
    target = labels
    if mixed:
        target = one_hot(labels, CLASSES).double()
        target = 0.75 * target + 0.25 * target.roll(1, 0)
    x = logits.double().requires_grad_()
    loss = torch.nn.CrossEntropyLoss(weight=weight.double(), label_smoothing=smoothing)(x, target)
    loss.backward()
    return {"mixed": mixed, "smoothing": smoothing, "loss": loss.item(), "gradient": x.grad.flatten().tolist()}


# sklearn.utils.class_weight.compute_class_weight("balanced"): n_samples / (n_classes * np.bincount(y))
balanced = IMAGES / (CLASSES * torch.bincount(labels).double())
print(
    json.dumps(
        {
            "classes": CLASSES,
            "labels": labels.tolist(),
            "weights": weight.tolist(),
            "balanced": balanced.tolist(),
            "logits": logits.flatten().tolist(),
            "cases": [case(mixed, smoothing) for mixed in (False, True) for smoothing in (0.0, 0.1)],
        }
    )
)
