"""Writes small state dictionaries to its folder, as PyTorch 2.13 saves them, and their content to kinds.json:

    pip install torch==2.13.0 numpy
    python crates/interchange/tests/goldens/make.py

The older format uses memory addresses as names of storages, so those files differ between runs.
kinds.json contains the shape of each tensor of each file, and the bits of its numbers as float32.
"""
import json
import pathlib
import pickle
import types
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
kinds = {}


def numbers(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def specials(dtype):
    """Zeros, subnormals, infinities and NaN."""
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
        # For float64, only numbers that are exact in float32, since rounding is not tested here.
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

# The zip library that reads it guessed where the directory starts. The directory entry for a name of 21 letters has 46 + 21 + 9
# bytes, which is also the size of the two records after the directory.
save('checkpoint_best_model', state, state)


class Python2Pickler(pickle._Pickler):
    """Writes ordered dictionaries and strings as Python 2 did."""
    dispatch = dict(pickle._Pickler.dispatch)

    def save_text(self, text):
        self.write(pickle.SHORT_BINSTRING + bytes([len(text)]) + text.encode('ascii'))
        self.memoize(text)

    dispatch[str] = save_text

    def reducer_override(self, value):
        if isinstance(value, OrderedDict):
            return OrderedDict, ([[key, item] for key, item in value.items()],)
        return NotImplemented

    def save(self, value, save_persistent_id=True):
        # The override is not called for types with their own reduce function.
        if type(value) is OrderedDict and id(value) not in self.memo:
            return self.save_reduce(*self.reducer_override(value), obj=value)
        return super().save(value, save_persistent_id)


python_2 = types.ModuleType('python_2')
python_2.Pickler = Python2Pickler
python_2.dumps = pickle.dumps
python_2.dump = lambda value, file, protocol: Python2Pickler(file, protocol=protocol).dump(value)
save('zip_python_2', OrderedDict(state), state, pickle_module=python_2)
save('legacy_python_2', OrderedDict(state), state, pickle_module=python_2, _use_new_zipfile_serialization=False)

tagged = torch.nn.Parameter(numbers(2, 2, seed=7))
tagged.tag = 'mine'
tensor = numbers(2, 3, seed=8).T
tensor.tag = 'mine'
save('attributes', {'parameter': tagged, 'tensor': tensor}, {'parameter': tagged, 'tensor': tensor})
beside = {'classes': {'daisy', 'roses'}, 'none': set(), 'impedance': 1 + 2j, 'bytes': b'\x00\xff', 'array': bytearray(b'abc'),
          'counts': Counter('aab'), 'dtype': torch.uint8, 'device': torch.device('cpu'), 'layout': torch.strided,
          'nested': {'rates': [0.1, (1, None)]}}
save('beside', {**beside, 'state_dict': state}, state)
# Numbers, strings and other values among the tensors.
save('among', {'epoch': 3, **state, 'best': 0.75, 'name': 'alexnet', 'done': True, 'nothing': None, **beside}, state)

# A file that was unpacked and packed again with compression.
with zipfile.ZipFile(HERE / 'zip_state_dict.pth') as stored, zipfile.ZipFile(HERE / 'deflated.pth', 'w', zipfile.ZIP_DEFLATED) as packed:
    for entry in stored.infolist():
        packed.writestr(zipfile.ZipInfo(entry.filename), stored.read(entry), zipfile.ZIP_DEFLATED)
kinds['deflated.pth'] = kinds['zip_state_dict.pth']

# PyTorch loads all of them with weights_only=True, except the newest protocols.
for name in kinds:
    if name not in ['protocol_4.pth', 'protocol_5.pth']:
        torch.load(HERE / name, weights_only=True)

(HERE / 'kinds.json').write_text(json.dumps(kinds))
