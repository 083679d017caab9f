"""Small files of every format, for tests of reading and writing."""

import zipfile

import numpy as np

from weights.formats import FORMATS
from weights.wrappers import unwrap

PROCESSES = ("keras", "keras-legacy", "keras-zip")
"""Read in a process of their own each, a tenth of a second: spoilt files of theirs are tried less often."""


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
    """A good file; of Keras's archive only what holds the weights, as only Keras writes the rest."""
    if format_ != "keras-zip":
        FORMATS[format_].write(path, arrays(), {})
        return
    inner = path.with_name(f"{path.name}.h5")
    FORMATS["keras"].write(inner, arrays(), {})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.write(inner, "model.weights.h5")
    inner.unlink()


def tensors(contents):
    """The file's tensors by name."""
    return unwrap(contents.tree).tensors
