"""Compares the maps of `alexnet explain` with those of captum:
`pip install torch==2.13.0 torchvision==0.28.0 captum pillow==13.0.0 numpy`.

    python explanations.py WEIGHTS.pth < ROWS    takes the JSON that `explain --format json` printed for weights of torchvision's
                                                 network. For each map it prints the largest differences of the map, and of captum's
                                                 map in f32, from captum's map in f64, as shares of the map's largest value
"""
import json
import sys

import numpy as np
import torch
from captum.attr import GuidedBackprop, GuidedGradCam, LayerGradCam, Occlusion
from PIL import Image
from torchvision import models, transforms

LAYERS = {f'conv{number}': index for number, index in enumerate([1, 4, 7, 9, 11], 1)}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# The side and the stride of the occluding square.
SIDE, STRIDE = 32, 16


def load(weights):
    state = torch.load(weights)
    net = models.alexnet(num_classes=len(state['classifier.6.bias']))
    net.load_state_dict(state)
    for module in net.modules():
        # captum's hooks need the inputs of the ReLUs.
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    return net.eval()


def attribution(net, x, target, method, layer):
    node = layer and net.features[LAYERS[layer]]
    if method == 'gradcam':
        return LayerGradCam(net, node).attribute(x, target, relu_attributions=True)
    if method == 'guided':
        return GuidedBackprop(net).attribute(x, target)
    if method == 'guided-gradcam':
        return GuidedGradCam(net, node).attribute(x, target)
    # The bytes that are nearest to the mean.
    gray = torch.tensor([(round(255 * m) / 255 - m) / s for m, s in zip(MEAN, STD)]).reshape(1, 3, 1, 1)
    gray = gray.to(x.dtype)
    probability = lambda x: net(x).double().softmax(1)
    occlusion = Occlusion(probability).attribute(
        x, (3, SIDE, SIDE), (3, STRIDE, STRIDE), target=target, baselines=gray.expand(x.shape), perturbations_per_eval=32)
    return occlusion[:, :1]


def main(weights):
    single, double = load(weights), load(weights).double()
    prepare = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    for row in json.load(sys.stdin):
        x = prepare(Image.open(row['path']).convert('RGB'))[None]
        with torch.no_grad():
            target = int(single(x).argmax())
        maps = [attribution(net, x.requires_grad_(), target, row['method'], row['layer'])[0].detach().double().numpy()
                for net, x in ((single, x.clone()), (double, x.double()))]
        ours, (theirs, truth) = np.load(row['map']), maps
        assert ours.shape == truth.shape, (ours.shape, truth.shape)
        difference = lambda found: np.abs(found - truth).max() / np.abs(truth).max()
        print(difference(ours), difference(theirs))


main(*sys.argv[1:])
