"""Writes reference.json: what PyTorch 2.13 computes, in f64, for the network of `reference/tests.rs`.

    python crates/conformance/tests/goldens/reference.py > crates/conformance/tests/goldens/reference.json

Numbers are made by `pattern`, which the Rust test repeats. The first node pools repeated byte values, so windows tie; the
gradient of the input shows where ties go. core's alpha is the paper's, so PyTorch's is `size` times as large.
"""

import json

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

torch.set_default_dtype(torch.float64)
f32 = lambda value: float(np.float32(value))


def pattern(count, salt, scale):
    i = torch.arange(count)
    return ((i * 7919 + i * i * 31 + salt * 104729) % 201 - 100) * (scale / 128)


def network():
    net = nn.Sequential(
        nn.MaxPool2d(2, 1),
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.LocalResponseNorm(5, alpha=f32(0.1) * 5, beta=f32(0.75), k=2),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.LocalResponseNorm(4, alpha=f32(0.3) * 4, beta=f32(0.6), k=1),
        nn.Flatten(),
        nn.Linear(6 * 3 * 2, 7),
        nn.ReLU(),
        nn.Linear(7, 5),
    )
    with torch.no_grad():
        for salt, parameter in enumerate(net.parameters()):
            parameter.copy_(pattern(parameter.numel(), salt, 0.5).reshape(parameter.shape))
    return net


n, height, width = 2, 15, 12
i = np.arange(n * height * width * 3)
pixels = np.array([0, 64, 128, 255], dtype=np.float32)[(i * 7 + i * i * 3 // 7) % 4]
x = ((pixels / np.float32(255) - np.float32(0.5)) / np.float32(0.5)).reshape(n, height, width, 3)
x = torch.tensor(x.transpose(0, 3, 1, 2).astype(np.float64))
targets = torch.tensor([[0.5, 0.25, 0.25, 0, 0], [0, 0, 0, 0.125, 0.875]])

golden = {}
net = network()
x.requires_grad_(True)
logits = net(x)
loss = F.cross_entropy(logits, targets)
loss.backward()
flat = lambda tensor: tensor.detach().flatten().tolist()
golden["logits"] = flat(logits)
golden["loss"] = loss.item()
golden["input_gradient"] = flat(x.grad)[: 3 * height * width]
golden["gradients"] = {
    name: flat(p.grad) for name, p in net.named_parameters() if name in ("1.weight", "5.weight", "5.bias", "9.bias", "11.weight")
}
golden["gradient_norm"] = torch.nn.utils.clip_grad_norm_(net.parameters(), 1e9).item()
x = x.detach()

betas = (f32(0.9), f32(0.999))
runs = {
    "adam": (lambda p: torch.optim.Adam(p, lr=f32(0.01), betas=betas, eps=f32(1e-8), weight_decay=f32(0.02)), None),
    "adamw": (lambda p: torch.optim.AdamW(p, lr=f32(0.01), betas=betas, eps=f32(1e-8), weight_decay=f32(0.1)), None),
    "sgd": (lambda p: torch.optim.SGD(p, lr=f32(0.1), momentum=f32(0.9), weight_decay=f32(5e-4)), None),
    "sgd_clipped": (lambda p: torch.optim.SGD(p, lr=f32(0.1), momentum=f32(0.9), weight_decay=f32(5e-4)), f32(0.05)),
}
for name, (make, clip) in runs.items():
    net = network()
    optimizer = make(net.parameters())
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), targets)
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    golden[name] = {"losses": losses, "weight": flat(net[11].weight)}

# The moving average of the last layer's weights, moved after every third of ten clipped steps.
net = network()
optimizer = runs["adamw"][0](net.parameters())
average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(f32(0.7)))
for step in range(1, 11):
    optimizer.zero_grad()
    F.cross_entropy(net(x), targets).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), f32(0.05))
    optimizer.step()
    if step % 3 == 0:
        average.update_parameters(net)
golden["average"] = flat(average.module[11].weight)

print(json.dumps(golden, indent=1))
