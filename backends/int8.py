"""Post-training quantisation of an ONNX graph to int8, by ONNX Runtime's own tool."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from backends.onnx_graph import INPUT

Float32 = NDArray[np.float32]


def quantised(proto: onnx.ModelProto, images: Float32) -> bytes:
    """The graph with int8 weights, one scale per channel, and uint8 activations, their ranges measured on `images`.

    `images` are preprocessed, float32 [N, C, H, W]; a few hundred images like those the network will see are usual.
    Returns the serialised ONNX model.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-int8-") as folder, _no_advice():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            proto,
            path,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return path.read_bytes()


@contextmanager
def _no_advice() -> Iterator[None]:
    """Drop the tool's advice, sent to the root logger, to fold batch norms first: the graph has none."""

    def keep(record: logging.LogRecord) -> bool:
        return "pre-processing" not in record.getMessage()

    logging.getLogger().addFilter(keep)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(keep)


class _Images(CalibrationDataReader):
    """Yields the images one by one."""

    def __init__(self, images: Float32) -> None:
        self.images: Iterator[Float32] = iter(images)

    def get_next(self) -> dict[str, Float32] | None:
        image = next(self.images, None)
        return None if image is None else {INPUT: image[None]}
