"""Checks an exported model with ONNX's checker and runs it with ONNX Runtime:
`pip install numpy onnx onnxruntime`, `python onnx.py MODEL.onnx IMAGES.f32 LOGITS.f32`.

IMAGES.f32  normalized images, [N, 3, H, W], little-endian f32
LOGITS.f32  the expected logits, [N, classes], little-endian f32

The last line on stdout is JSON: the number of images, the largest difference from LOGITS.f32, the largest logit, the number of
images with the same best class, and the largest difference between batches of 32 and of 1. If the model is not valid or its
outputs are not finite, an AssertionError or an error of the checker is raised.
"""
import json
import pathlib
import sys

# Otherwise this file would be imported instead of the package of the same name.
HERE = pathlib.Path(__file__).resolve().parent
sys.path = [entry for entry in sys.path if pathlib.Path(entry).resolve() != HERE]

import numpy as np
import onnx
import onnxruntime

OPERATORS = {'Conv', 'Relu', 'MaxPool', 'LRN', 'Flatten', 'Gemm', 'Softmax'}


def extents(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def check_model(path):
    """Returns the classes and the name of the output."""
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata.keys() == {'variant', 'classes', 'input_size', 'mean', 'std'}, metadata.keys()
    classes, size = json.loads(metadata['classes']), json.loads(metadata['input_size'])
    assert len(json.loads(metadata['mean'])) == len(json.loads(metadata['std'])) == 3
    assert model.graph.name == metadata['variant'] and metadata['variant'] in model.doc_string

    # The output's shape is inferred from the operators instead of read from the file.
    inferred = onnx.ModelProto.FromString(model.SerializeToString())
    for dim in inferred.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    inferred = onnx.shape_inference.infer_shapes(inferred, check_type=True, strict_mode=True, data_prop=True)
    [image], [output] = model.graph.input, inferred.graph.output
    assert (image.name, extents(image)) == ('images', ['batch', 3, size, size]), image
    assert extents(output) == ['batch', len(classes)], output
    assert output.name in ('logits', 'probabilities')

    # Names are those of the modules in PyTorch.
    parameters = [tensor.name for tensor in model.graph.initializer]
    layers = [node for node in model.graph.node if node.op_type in ('Conv', 'Gemm')]
    assert parameters == [f'{layer.name}.{role}' for layer in layers for role in ('weight', 'bias')], parameters
    assert [layer.name.split('.')[0] for layer in layers] == 5 * ['features'] + 3 * ['classifier']
    assert {node.op_type for node in model.graph.node} <= OPERATORS
    return classes, output.name


def main(model, images, logits):
    classes, output = check_model(model)
    session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
    shape = session.get_inputs()[0].shape
    images = np.fromfile(images, '<f4').reshape(-1, *shape[1:])
    expected = np.fromfile(logits, '<f4').reshape(len(images), len(classes))

    def outputs(batch):
        parts = [session.run([output], {'images': images[i:i + batch]})[0] for i in range(0, len(images), batch)]
        return np.concatenate(parts)

    found, single = outputs(32), outputs(1)
    assert found.shape == single.shape == expected.shape and np.isfinite(found).all() and np.isfinite(single).all()
    same = (found.argmax(1) == expected.argmax(1)) & (single.argmax(1) == expected.argmax(1))
    print(json.dumps({
        'images': len(images),
        'largest_difference': float(max(abs(found - expected).max(), abs(single - expected).max())),
        'largest_value': float(abs(expected).max()),
        'top1_equal': int(same.sum()),
        'batch_difference': float(abs(found - single).max()),
    }))


if __name__ == '__main__':
    main(*sys.argv[1:])
