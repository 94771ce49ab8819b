"""Writes plateaus.json: the learning rates of PyTorch 2.13's ReduceLROnPlateau(mode="max"), which is stepped with the
validation accuracy after every epoch.

    python crates/core/tests/goldens/plateaus.py > crates/core/tests/goldens/plateaus.json
"""

import json

import torch

RISING = [0.1, 0.2, 0.3, 0.25, 0.3, 0.31, 0.31, 0.31, 0.30, 0.29, 0.32, 0.32, 0.320032, 0.32003, 0.33, 0.1, 0.2, 0.33]
FLAT = [0.5] * 40
# rate, patience, gamma, accuracies. 0.320032 is above 0.32 by exactly the threshold, and flat accuracies reduce the rate
# until the reduction is below eps.
CASES = [(0.01, 0, 0.1, RISING), (0.01, 1, 0.5, RISING), (0.01, 3, 0.1, RISING), (0.01, 2, 0.1, FLAT), (1.0, 0, 0.0, FLAT)]


def rates(lr, patience, gamma, accuracies):
    lr = torch.tensor(lr).item()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=gamma, patience=patience)
    found = []
    for accuracy in accuracies:
        found.append(optimizer.param_groups[0]["lr"])
        scheduler.step(accuracy)
    return found


keys = ("lr", "patience", "gamma", "accuracies")
print(json.dumps([dict(zip(keys, case), rates=rates(*case)) for case in CASES]))
