"""Writes the small state dictionaries beside it, as PyTorch 2.13 saves them, and kinds.json, what is in them:

    pip install torch==2.13.0 numpy
    python crates/interchange/tests/goldens/make.py

The older container names its storages by their addresses, so those files differ in these from run to run.
kinds.json holds for each file and tensor its shape and the bits of its numbers as float32.
"""
import json
import pathlib
from collections import OrderedDict

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
kinds = {}


def numbers(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def specials(dtype):
    """Zeros, subnormals, infinities, a number that is none: with all their bits."""
    info = torch.finfo(dtype)
    return torch.tensor([0.0, -0.0, info.tiny, info.tiny / 8, info.max, -info.max, float('inf'), float('-inf'), float('nan')],
                        dtype=dtype)


def save(name, saved, tensors, **options):
    torch.save(saved, HERE / f'{name}.pth', **options)
    kinds[f'{name}.pth'] = {
        key: {'shape': list(value.shape),
              'bits': value.detach().float().contiguous().numpy().reshape(-1).view(np.uint32).tolist()}
        for key, value in tensors.items()}


for form, options in [('zip', {}), ('legacy', {'_use_new_zipfile_serialization': False})]:
    for dtype in [torch.float32, torch.float16, torch.bfloat16, torch.float64]:
        # float64 only of numbers that float32 has: rounding is another matter.
        both = {'a.weight': numbers(3, 2, dtype=dtype), 'a.bias': specials(torch.float32 if dtype == torch.float64 else dtype).to(dtype)}
        save(f"{form}_{str(dtype).removeprefix('torch.')}", both, both, **options)

    base = numbers(6, 4, seed=1)
    views = {'whole': base, 'transposed': base.T, 'strided': base[1::2, ::3], 'column': base[:, 2], 'expanded': base[5, :1].expand(3, 4),
             'permuted': numbers(2, 3, 4, seed=2).permute(2, 0, 1), 'scalar': base[2, 3], 'empty': numbers(0, 3)}
    save(f'{form}_views', OrderedDict(views), views, **options)

    network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(3, 2))
    with torch.no_grad():
        for seed, parameter in enumerate(network.parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=seed))
    state = network.state_dict()
    save(f'{form}_module', nn.DataParallel(network).state_dict(), state, **options)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2, 4, 4)).sum().backward()
    optimizer.step()
    state = network.state_dict()
    checkpoint = {'epoch': 3, 'best': 0.75, 'arch': 'alexnet', 'history': [(1, None), (2, True)], 'state_dict': state,
                  'optimizer': optimizer.state_dict(), 'size': base.shape, 'large': 1 << 70}
    save(f'{form}_state_dict', checkpoint, state, **options)
    save(f'{form}_model', {'model': {'state_dict': state}}, state, **options)

for protocol in [3, 4, 5]:
    parameters = dict(network.named_parameters())
    save(f'protocol_{protocol}', parameters, parameters, pickle_protocol=protocol)

(HERE / 'kinds.json').write_text(json.dumps(kinds))
