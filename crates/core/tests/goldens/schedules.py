"""Writes schedules.json: the learning rates of PyTorch 2.13's schedulers, which are stepped after every update.

    python crates/core/tests/goldens/schedules.py > crates/core/tests/goldens/schedules.json
"""

import json
import warnings

import torch
from torch.optim import lr_scheduler as S

warnings.simplefilter("ignore")
CASES = [
    # name, rate, warm-up epochs, epochs, updates per epoch, step size, gamma
    ("constant", 2e-4, 0, 3, 4, 30, 0.1),
    ("constant", 2e-4, 2, 4, 5, 30, 0.1),
    ("cosine", 1e-3, 0, 5, 7, 30, 0.1),
    ("cosine", 1e-3, 2, 6, 7, 30, 0.1),
    ("step", 0.01, 0, 7, 3, 2, 0.1),
    ("step", 0.01, 1, 8, 3, 3, 0.5),
    ("onecycle", 6e-4, 0, 5, 13, 30, 0.1),
    ("onecycle", 6e-4, 0, 24, 104, 30, 0.1),
    ("onecycle", 6e-4, 2, 10, 6, 30, 0.1),
]


def rates(name, lr, warmup, epochs, per_epoch, size, gamma):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    rising, total = warmup * per_epoch, epochs * per_epoch
    if name == "onecycle":
        share = warmup / epochs if warmup else 0.3
        schedule = S.OneCycleLR(optimizer, lr, total_steps=total, pct_start=share, cycle_momentum=False)
    else:
        schedule = {
            "constant": lambda: S.ConstantLR(optimizer, factor=1),
            "cosine": lambda: S.CosineAnnealingLR(optimizer, T_max=total - rising),
            "step": lambda: S.StepLR(optimizer, step_size=size * per_epoch, gamma=gamma),
        }[name]()
        if rising:
            linear = S.LinearLR(optimizer, start_factor=0.01, total_iters=rising)
            schedule = S.SequentialLR(optimizer, [linear, schedule], milestones=[rising])
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(found) < total else None
    return found


keys = ("scheduler", "lr", "warmup_epochs", "epochs", "steps_per_epoch", "size", "gamma")
print(json.dumps([dict(zip(keys, case), rates=rates(*case)) for case in CASES]))
