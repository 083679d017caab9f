"""Weights before any training, made once in NumPy from a seed, so that all frameworks start from the same point."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from zoo.arguments import integer
from zoo.language.interpreter import calibrate
from zoo.language.model import Model
from zoo.language.trace import Op, trace

Weights = dict[str, NDArray[np.float32]]


def initial(model: Model, seed: int = 0) -> Weights:
    """Weights to start training from: float32 arrays under canonical names.

    Convolutions and hidden layers have variance 2 / fan-in (He et al. 2015, https://arxiv.org/abs/1502.01852),
    classifiers variance 1 / fan-in (LeCun et al. 1998). They are uniform, as PyTorch's and Keras's are: a normal
    distribution takes six times as long to draw. Biases, betas and running means are 0, gammas and running variances 1.
    Each tensor depends on the seed and its own name only: not on the other tensors, so a network with and without
    auxiliary heads shares its trunk.
    """
    seed = integer(seed, "seed", least=0)
    with ThreadPoolExecutor() as pool:  # NumPy draws without holding Python's lock
        parts = pool.map(lambda op: _initial(op, seed), trace(model).ops)
    return {name: array for part in parts for name, array in part.items()}


def calibrated(model: Model, seed: int = 0) -> Weights:
    """Stand-ins for trained weights: random, with activations that stay alive through the depth.

    `initial` weights, with gammas between 0.75 and 1.25, betas around 1.5, and running statistics measured on
    synthetic images of the native size. A network without batch norm gets its convolutions scaled to unit variance
    instead (LSUV, Mishkin and Matas 2015, https://arxiv.org/abs/1511.06422).

    The betas let nine units in ten fire. With betas of 0 half of them would, and a random network of this depth
    would be chaotic: every block adds a third to a rounding error (Yang et al. 2019, https://arxiv.org/abs/1902.08129),
    and float32 itself would fill the tolerance.
    """
    arrays = initial(model, seed)
    for name, array in arrays.items():
        if name.endswith(".bn.weight"):
            array[:] = _random(seed, f"{name} calibrated").uniform(0.75, 1.25, array.shape)
        elif name.endswith(".bn.bias"):
            array[:] = _random(seed, f"{name} calibrated").normal(1.5, 0.5, array.shape)
        elif name.endswith(".bias"):
            array[:] = _random(seed, f"{name} calibrated").normal(0, 0.1, array.shape)
    return calibrate(model, arrays, _synthetic_images(model.in_channels, model.size, seed))


def _initial(op: Op, seed: int) -> Weights:
    arrays: Weights = {}
    for parameter in op.parameters:
        fan_in = int(np.prod(parameter.shape[1:]))
        tail = parameter.name.rpartition(".")[2]
        if len(parameter.shape) == 1:
            arrays[parameter.name] = np.full(
                parameter.shape, tail == "var" or parameter.name.endswith("bn.weight"), np.float32
            )
            continue
        gain = 1.0 if parameter.name.endswith(".fc.weight") else 2.0
        array = _random(seed, parameter.name).random(parameter.shape, np.float32)
        array -= np.float32(0.5)  # a variance of 1/12
        array *= np.float32((12 * gain / fan_in) ** 0.5)
        arrays[parameter.name] = array
    return arrays


def _random(seed: int, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())])))


def _synthetic_images(channels: int, size: int, seed: int, count: int = 6) -> NDArray[np.float64]:
    """[count, channels, size, size] within -1 and 1, as varied as photographs.

    Amplitudes fall with frequency as f^-a, a from 0.8 to 1.6 (photographs: about 1.2, Tolhurst et al. 1992); channels
    are correlated; contrast, brightness and tint differ from image to image.
    """
    random = _random(seed, "synthetic images")
    one = (count, 1, 1, 1)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1 / size
    noise = random.standard_normal((count, channels, size, size))
    noise[:, 1:] = 0.5 * noise[:, 1:] + noise[:, :1]
    images = np.fft.irfft2(np.fft.rfft2(noise) / frequency ** random.uniform(0.8, 1.6, one), s=(size, size))
    images -= images.mean((2, 3), keepdims=True)
    images *= random.uniform(0.2, 1, one) / images.std((1, 2, 3), keepdims=True)
    images += random.normal(0, 0.5, one) + random.normal(0, 0.25, (count, channels, 1, 1))
    return np.asarray(images.clip(-1, 1))
