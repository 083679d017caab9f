"""Small files of every format, for tests of reading and writing."""

import json
import zipfile

import numpy as np

from weights.formats import FORMATS
from weights.wrappers import unwrap

PROCESSES = ("keras", "keras-legacy", "keras-zip")
"""Formats whose files are each read in a separate process, for a tenth of a second: fewer spoilt files are tried."""


def arrays():
    """A few layers under names that every format can keep."""
    random = np.random.default_rng(3)
    shapes = {
        "conv2d/kernel": (3, 3, 2, 4),
        "conv2d_1/kernel": (1, 1, 4, 4),
        "conv2d_1/bias": (4,),
        "block_bn/gamma": (4,),
        "block_bn/beta": (4,),
        "block_bn/moving_mean": (4,),
        "block_bn/moving_variance": (4,),
        "block_sepconv/depthwise_kernel": (3, 3, 4, 1),
        "block_sepconv/pointwise_kernel": (1, 1, 4, 6),
        "predictions/kernel": (6, 10),
        "predictions/bias": (10,),
    }
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write(path, format_):
    """Write a good file: a Keras archive with only the weights, an exported program without its graph."""
    if format_ == "torch-export":
        write_zip(path, exported())
        return
    if format_ != "keras-zip":
        FORMATS[format_].write(path, arrays(), {})
        return
    inner = path.with_name(f"{path.name}.h5")
    FORMATS["keras"].write(inner, arrays(), {})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.write(inner, "model.weights.h5")
    inner.unlink()


def write_zip(path, members, compress=zipfile.ZIP_STORED):
    """An archive of members, compressed or not."""
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def exported(nodes=(), **changes):
    """The members of a .pt2 as torch.export.save writes them; `changes` alter the first tensor's description."""
    found, described = {}, {}
    for number, (name, array) in enumerate(arrays().items()):
        sizes, strides = array.shape, [stride // 4 for stride in array.strides]
        meta = {"dtype": 7, "storage_offset": {"as_int": 0}}
        meta |= {key: [{"as_int": n} for n in value] for key, value in (("sizes", sizes), ("strides", strides))}
        described[name] = {"path_name": f"weight_{number}", "use_pickle": False, "tensor_meta": meta}
        found[f"f/data/weights/weight_{number}"] = array.tobytes()
    next(iter(described.values())).update(changes)
    image, logits = {"as_tensor": {"name": "x"}}, {"as_tensor": {"name": "y"}}
    signature = {"input_specs": [{"user_input": {"arg": image}}], "output_specs": [{"user_output": {"arg": logits}}]}
    program = {"schema_version": {"major": 8, "minor": 20}}
    program["graph_module"] = {"graph": {"nodes": list(nodes)}, "signature": signature}
    documents = {
        "data/weights/model_weights_config.json": {"config": described},
        "data/constants/model_constants_config.json": {"config": {}},
        "models/model.json": program,
    }
    found |= {f"f/{name}": json.dumps(document) for name, document in documents.items()}
    return found | {"f/archive_format": "pt2", "f/byteorder": "little"}


def tensors(contents):
    """The file's tensors by name."""
    return unwrap(contents.tree).tensors
