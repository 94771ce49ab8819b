"""Compares neighbors with those that NumPy finds:
`pip install torch==2.13.0 torchvision==0.28.0 pillow==13.0.0 numpy`.

    python neighbors.py WEIGHTS.pth INDEX < ROWS    takes the index of a search with weights of torchvision's network, and the neighbors of
                                                    its images as JSON. NumPy finds the neighbors from the activations of PyTorch, and from
                                                    those of the index. For both it prints the number of images that have the same
                                                    neighbors in the same order, the largest difference of the distance at a position, and
                                                    the largest difference of the activations, both relative to the largest
"""
import json
import sys

import numpy as np
import torch
from PIL import Image
from torchvision import models, transforms

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def read_index(path):
    """Returns the paths of the images and their activations."""
    with open(path, 'rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
        features = np.frombuffer(file.read(), '<f4').reshape(header['features']['shape'])
    text = header['__metadata__']
    left_out = set(json.loads(text['left_out']))
    images = [image['path'] for image in json.loads(text['images']) if image['path'] not in left_out]
    return [text['folder'] + '/' + image for image in images], features


def features_of_pytorch(weights, images):
    state = torch.load(weights)
    net = models.alexnet(num_classes=len(state['classifier.6.bias']))
    net.load_state_dict(state)
    net.eval()
    prepare = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    features = []
    with torch.no_grad():
        for start in range(0, len(images), 32):
            batch = torch.stack([prepare(Image.open(image).convert('RGB')) for image in images[start:start + 32]])
            features.append(net.classifier[:6](torch.flatten(net.avgpool(net.features(batch)), 1)).numpy())
    return np.concatenate(features)


def main(weights, index):
    images, indexed = read_index(index)
    rows = json.load(sys.stdin)
    for features in features_of_pytorch(weights, images), indexed:
        same, difference = 0, 0
        wide = features.astype(np.float64)
        for row in rows:
            query = images.index(row['path'])
            distances = np.sqrt(((wide - wide[query]) ** 2).sum(1))
            # Images with the same distance are sorted by path.
            order = [i for i in np.argsort(distances, kind='stable') if i != query][:len(row['neighbors'])]
            same += [images[i] for i in order] == [neighbor['path'] for neighbor in row['neighbors']]
            ours = np.array([neighbor['distance'] for neighbor in row['neighbors']])
            difference = max(difference, np.abs(ours - distances[order]).max() / distances.max())
        print(same, difference, np.abs(features - indexed).max() / np.abs(features).max())


main(*sys.argv[1:])
