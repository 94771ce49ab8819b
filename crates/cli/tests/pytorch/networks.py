"""Computes the logits of images with PyTorch, and compares state dictionaries:
`pip install torch==2.13.0 torchvision==0.28.0 pillow==13.0.0 numpy`.

    python networks.py make VARIANT CLASSES FOLDER < IMAGES     writes random weights to FOLDER/theirs.pth and the logits of the images,
                                                                one path per line of stdin, to FOLDER/theirs.f32
    python networks.py same FOLDER/theirs.pth FOLDER/ours.pth   asserts that both have the same bits
"""
import pathlib
import sys

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import models, transforms


def convolutions(widths, padding, groups, normalize):
    w1, w2, w3, w4, w5 = widths
    # torch divides alpha by the size, the paper does not.
    norm = lambda: [nn.LocalResponseNorm(5, alpha=1e-4 * 5, beta=0.75, k=2)] if normalize else []
    return nn.Sequential(
        nn.Conv2d(3, w1, 11, stride=4, padding=padding), nn.ReLU(), nn.MaxPool2d(3, 2), *norm(),
        nn.Conv2d(w1, w2, 5, padding=2, groups=groups), nn.ReLU(), nn.MaxPool2d(3, 2), *norm(),
        nn.Conv2d(w2, w3, 3, padding=1), nn.ReLU(),
        nn.Conv2d(w3, w4, 3, padding=1, groups=groups), nn.ReLU(),
        nn.Conv2d(w4, w5, 3, padding=1, groups=groups), nn.ReLU(), nn.MaxPool2d(3, 2))


class Network(nn.Module):
    def __init__(self, features, classifier):
        super().__init__()
        self.features, self.classifier = features, classifier

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def network(variant, classes):
    """Returns the network, the side of its images in pixels, and their mean and standard deviation."""
    if variant == 'torchvision':
        return models.alexnet(num_classes=classes), 224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    half = [0.5, 0.5, 0.5]
    if variant == 'tutorial':
        classifier = nn.Sequential(nn.Dropout(), nn.Linear(128 * 36, 2048), nn.ReLU(), nn.Dropout(), nn.Linear(2048, 2048),
                                   nn.ReLU(), nn.Linear(2048, classes))
        return Network(convolutions([48, 128, 192, 192, 128], 2, 1, False), classifier), 224, half, half
    classifier = nn.Sequential(nn.Linear(256 * 36, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
                               nn.Dropout(), nn.Linear(4096, classes))
    return Network(convolutions([96, 256, 384, 384, 256], 0, 2, True), classifier), 227, half, half


def make(variant, classes, folder):
    torch.manual_seed(0)
    net, side, mean, std = network(variant, int(classes))
    for parameter in net.parameters():
        # Large enough that all layers are active and logits differ by more than 1.
        nn.init.kaiming_normal_(parameter) if parameter.dim() > 1 else nn.init.normal_(parameter, std=0.1)
    torch.save(net.state_dict(), pathlib.Path(folder, 'theirs.pth'))
    net.eval()
    prepare = transforms.Compose([transforms.Resize((side, side)), transforms.ToTensor(), transforms.Normalize(mean, std)])
    images = [line.rstrip('\n') for line in sys.stdin]
    logits = []
    with torch.no_grad():
        for start in range(0, len(images), 32):
            batch = [prepare(Image.open(image).convert('RGB')) for image in images[start:start + 32]]
            logits.append(net(torch.stack(batch)).numpy())
    np.concatenate(logits).astype('<f4').tofile(pathlib.Path(folder, 'theirs.f32'))


def same(theirs, ours):
    theirs, ours = torch.load(theirs), torch.load(ours)
    assert list(theirs) == list(ours), (list(theirs), list(ours))
    for name, tensor in theirs.items():
        assert tensor.shape == ours[name].shape, name
        assert torch.equal(tensor.view(torch.int32), ours[name].view(torch.int32)), name


{'make': make, 'same': same}[sys.argv[1]](*sys.argv[2:])
