"""Writes networks.json: what PyTorch 2.13 and torchvision 0.28 compute, in f64, for the variants at their true size.

    python crates/conformance/tests/goldens/networks.py > crates/conformance/tests/goldens/networks.json

Parameters, pixels and the sampled elements are made by `mix`, which `src/cases/pytorch.rs` repeats. Dropout is off.
core's alpha is the paper's, so PyTorch's is `size` times as large. The images are the first ones for which no unit is
at a kink, so that an engine in f32 sends every gradient the same way: its sums are off by up to some 5e-6 of a layer's root
mean square.
"""

import itertools
import json

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
f32 = lambda value: float(np.float32(value))

IMAGES = 2
SAMPLES = 24
# Two images teach these widths fast: at ten times this rate PyTorch's own f32 strays from its f64 by thousandths.
LEARNING_RATE = f32(2e-5)
# The least distance from a kink, in units of the layer's root mean square.
MARGIN = 1e-5


def mix(index, salt):
    """32 bits that look like chance, for each index."""
    index = np.asarray(index, dtype=np.uint32)

    def scramble(h):
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
        h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
        return h ^ (h >> np.uint32(16))

    return scramble(scramble(np.full_like(index, salt)) ^ index)


def fill(parameter, salt):
    """Multiples of 2⁻¹⁵ of a power of two: about 1/√fan_in for linear layers, twice that for convolutions, 1/16 for biases."""
    fan_in = parameter[0].numel()
    near_its_root = 2.0 ** -((fan_in.bit_length() - 1) // 2)
    scale = {1: 1 / 16, 2: near_its_root, 4: 2 * near_its_root}[parameter.dim()]
    bits = mix(np.arange(parameter.numel()), salt) >> np.uint32(16)
    values = (bits.astype(np.float64) - 32768) / 32768 * scale
    parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))


def image(draw, size):
    """Bytes [H, W, 3], normalised with mean and standard deviation 0.5 in f32, as [1, 3, H, W]."""
    pixels = mix(np.arange(size * size * 3), 1000 + draw) >> np.uint32(24)
    x = (pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    x = x.reshape(1, size, size, 3).transpose(0, 3, 1, 2)
    return torch.from_numpy(x.astype(np.float64)).contiguous()


class AlexNet(nn.Module):
    def __init__(self, features, classifier):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def features(widths, padding, groups, reduce):
    w1, w2, w3, w4, w5 = widths
    return [
        nn.Conv2d(3, w1, 11, stride=4, padding=padding), nn.ReLU(), *reduce(),
        nn.Conv2d(w1, w2, 5, padding=2, groups=groups), nn.ReLU(), *reduce(),
        nn.Conv2d(w2, w3, 3, padding=1), nn.ReLU(),
        nn.Conv2d(w3, w4, 3, padding=1, groups=groups), nn.ReLU(),
        nn.Conv2d(w4, w5, 3, padding=1, groups=groups), nn.ReLU(),
        nn.MaxPool2d(3, 2),
    ]  # fmt: skip


def tutorial(classes):
    drop = lambda: nn.Dropout(0.0)
    return AlexNet(
        features([48, 128, 192, 192, 128], 2, 1, lambda: [nn.MaxPool2d(3, 2)]),
        [
            drop(), nn.Linear(128 * 6 * 6, 2048), nn.ReLU(),
            drop(), nn.Linear(2048, 2048), nn.ReLU(),
            nn.Linear(2048, classes),
        ],
    )  # fmt: skip


def original(classes):
    drop = lambda: nn.Dropout(0.0)
    norm = lambda: nn.LocalResponseNorm(5, alpha=f32(1e-4) * 5, beta=0.75, k=2.0)
    return AlexNet(
        features([96, 256, 384, 384, 256], 0, 2, lambda: [nn.MaxPool2d(3, 2), norm()]),
        [
            nn.Linear(256 * 6 * 6, 4096), nn.ReLU(), drop(),
            nn.Linear(4096, 4096), nn.ReLU(), drop(),
            nn.Linear(4096, classes),
        ],
    )  # fmt: skip


def lead(x):
    """The smallest lead of a maximum over the next value of its window; ties at the zeros of a ReLU hand on no gradient."""
    first, second = F.unfold(x.transpose(0, 1), 3, stride=2).topk(2, dim=1).values.unbind(1)
    return (first - second)[first > 0].min()


def away_from_kinks(net, x):
    for module in [*net.features, nn.Flatten(), *net.classifier]:
        nearest = None
        if isinstance(module, nn.ReLU):
            nearest = x.abs().min()
        elif isinstance(module, nn.MaxPool2d):
            nearest = lead(x)
        if nearest is not None and nearest < MARGIN * x.square().mean().sqrt():
            return False
        x = module(x)
    return True


def golden(name, make, size, classes):
    net = make(classes)
    with torch.no_grad():
        for salt, parameter in enumerate(net.parameters()):
            fill(parameter, salt)
    with torch.no_grad():
        draws = (draw for draw in itertools.count() if away_from_kinks(net, image(draw, size)))
        draws = list(itertools.islice(draws, IMAGES))
    x = torch.cat([image(draw, size) for draw in draws])
    targets = torch.zeros(IMAGES, classes)
    targets[0, 1], targets[0, 3], targets[1, 4] = 0.75, 0.25, 1.0

    logits = net(x)
    loss = F.cross_entropy(logits, targets)
    loss.backward()
    gradients = {}
    for salt, (key, parameter) in enumerate(net.named_parameters()):
        gradient = parameter.grad.flatten()
        places = mix(np.arange(SAMPLES), 100 + salt) % np.uint32(gradient.numel())
        gradients[key] = {
            "norm": gradient.norm().item(),
            "samples": gradient[torch.from_numpy(places.astype(np.int64))].tolist(),
        }
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1e30).item()

    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, betas=(f32(0.9), f32(0.999)), eps=f32(1e-8))
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        step = F.cross_entropy(net(x), targets)
        step.backward()
        optimizer.step()
        losses.append(step.item())
    return {
        "variant": name,
        "classes": classes,
        "draws": draws,
        "targets": targets.flatten().tolist(),
        "logits": logits.flatten().tolist(),
        "loss": loss.item(),
        "gradient_norm": norm,
        "gradients": gradients,
        "losses": losses,
    }


torchvisions = lambda classes: torchvision.models.alexnet(num_classes=classes, dropout=0.0)
goldens = [
    golden("tutorial", tutorial, 224, 5),
    golden("original", original, 227, 10),
    golden("torchvision", torchvisions, 224, 10),
]
print(json.dumps(goldens, indent=1))
