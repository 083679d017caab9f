"""File formats: what is written comes back, without any framework, whatever the type of the elements."""

import json
import subprocess
import sys
import zipfile

import files
import msgpack
import numpy as np
import pytest

from weights import formats
from weights.formats import FORMATS, mindspore
from weights.wrappers import unwrap
from zoo.errors import WeightsError

WRITTEN = [name for name, format_ in FORMATS.items() if format_.write]
DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


def written(path, format_, arrays):
    FORMATS[format_].write(path, arrays, {})
    return formats.read(path)


@pytest.mark.parametrize("format_", WRITTEN)
def test_arrays_come_back_bit_for_bit(tmp_path, format_):
    arrays = files.arrays()
    contents = written(tmp_path / "file", format_, arrays)
    assert contents.format == format_
    tensors = files.tensors(contents)
    assert tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        assert tensors[name].shape == array.shape
        assert tensors[name].dtype == "float32"
        assert tensors[name].nbytes == array.nbytes
        assert np.asarray(tensors[name]).tobytes() == array.tobytes()


@pytest.mark.parametrize("format_", [name for name in WRITTEN if not name.startswith("keras")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_of_element(tmp_path, format_, dtype):
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    tensor = files.tensors(written(tmp_path / "file", format_, {"a.b": array}))["a.b"]
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(np.asarray(tensor), array)


@pytest.mark.parametrize("format_", [name for name in WRITTEN if not name.startswith("keras")])
def test_numbers_and_views(tmp_path, format_):
    """Shapes without axes or elements, arrays that are not contiguous, big-endian ones."""
    arrays = {
        "a.number": np.float32(3).reshape(()),
        "a.turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "a.big": np.arange(6, dtype=">f4"),
    }
    tensors = files.tensors(written(tmp_path / "file", format_, arrays))
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.asarray(tensors[name]), array)


def test_bfloat16_becomes_float32_exactly(tmp_path):
    values = np.array([1, -2.5, 3.140625, 2.0**-120], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    header = json.dumps({"a.b": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + halves.tobytes())
    FORMATS["paddle"].write(tmp_path / "a.pdparams", {"a.b": halves}, {})
    (tmp_path / "a.ckpt").write_bytes(mindspore.value_header("a.b", (4,), "BFloat16", 8) + halves.tobytes())
    for name in ("a.safetensors", "a.pdparams", "a.ckpt"):
        tensor = files.tensors(formats.read(tmp_path / name))["a.b"]
        assert tensor.dtype == "bfloat16"
        assert tensor.nbytes == 8
        np.testing.assert_array_equal(np.asarray(tensor), values)


def test_mindspores_dimensions_may_be_packed(tmp_path):
    """Protobuf 3 writes repeated integers packed; every reader must accept both forms."""
    tensor = b"\x0a\x02\x02\x03" + b"\x12\x05Int16" + b"\x1a\x0c" + np.arange(6, dtype="<i2").tobytes()
    value = b"\x0a\x03a.b" + b"\x12" + bytes([len(tensor)]) + tensor
    (tmp_path / "a.ckpt").write_bytes(b"\x0a" + bytes([len(value)]) + value)
    np.testing.assert_array_equal(files.tensors(formats.read(tmp_path / "a.ckpt"))["a.b"], np.arange(6).reshape(2, 3))


def test_long_metadata_of_mindspores_files_are_kept_whole_or_refused(tmp_path, monkeypatch):
    names = "x" * 300_000
    FORMATS["mindspore"].write(tmp_path / "a.ckpt", files.arrays(), {"model": names})
    assert formats.read(tmp_path / "a.ckpt").metadata["model"] == names
    monkeypatch.setattr(mindspore, "LONGEST_TEXT", 400)
    with pytest.raises(WeightsError, match=r"b\.ckpt: model has 101 characters, at most 100 fit"):
        FORMATS["mindspore"].write(tmp_path / "b.ckpt", files.arrays(), {"model": "x" * 101})


def test_reading_a_checkpoint_imports_no_protobuf(tmp_path):
    """Protobuf's implementation is chosen at its first import, for the whole process."""
    FORMATS["mindspore"].write(tmp_path / "a.ckpt", files.arrays(), {"model": "x"})
    code = "import os, sys; before = dict(os.environ); from weights import formats; formats.read(sys.argv[1])\n"
    code += "print('google.protobuf' in sys.modules, dict(os.environ) == before)"
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "a.ckpt"], capture_output=True, text=True, check=True)
    assert run.stdout == "False True\n"


def test_safetensors_are_aligned_and_other_libraries_read_them(tmp_path):
    from safetensors.numpy import load_file

    arrays = {"b.half": np.ones(3, np.float16), "a.double": np.ones((2, 2)), **files.arrays()}
    FORMATS["safetensors"].write(tmp_path / "a", arrays, {"format": "pt"})
    loaded = load_file(tmp_path / "a")
    assert loaded.keys() == arrays.keys()
    assert all(np.array_equal(loaded[name], array) for name, array in arrays.items())
    size = int.from_bytes((tmp_path / "a").read_bytes()[:8], "little")
    header = json.loads((tmp_path / "a").read_bytes()[8 : 8 + size])
    assert header.pop("__metadata__") == {"format": "pt"}
    for name, entry in header.items():
        assert (8 + size + entry["data_offsets"][0]) % arrays[name].itemsize == 0


def test_pytorchs_archive_is_aligned_and_uncompressed(tmp_path):
    FORMATS["torch"].write(tmp_path / "a.pth", files.arrays(), {})
    data = (tmp_path / "a.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert data.index(archive.read(entry), entry.header_offset) % 64 == 0


def test_one_tensor_is_read_at_a_time(tmp_path, monkeypatch):
    """Listing a file's tensors decodes none."""
    for format_ in ("torch", "torch-legacy", "safetensors", "paddle"):
        FORMATS[format_].write(tmp_path / format_, files.arrays(), {})
    monkeypatch.setattr("weights.formats.tensors.np.frombuffer", lambda *_, **__: pytest.fail("read"))
    for format_ in ("torch", "torch-legacy", "safetensors", "paddle"):
        assert len(files.tensors(formats.read(tmp_path / format_))) == len(files.arrays())


def test_dictionaries_of_linen_and_arrays_in_chunks(tmp_path):
    """Collections are read as one network's tensors; Flax cuts arrays above a gigabyte."""
    weight, mean = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(3, dtype=np.float32)

    def packed(array):
        return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))

    chunks = {str(i): packed(part) for i, part in enumerate(np.split(weight.reshape(-1), [2]))}
    cut = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 3}, "chunks": chunks}
    tree = {"params": {"a": {"kernel": cut}}, "batch_stats": {"a": {"mean": packed(mean)}}, "step": 3}
    (tmp_path / "a.msgpack").write_bytes(msgpack.packb(tree))
    found = unwrap(formats.read(tmp_path / "a.msgpack").tree).tensors
    assert found.keys() == {"a.kernel", "a.mean"}
    assert np.array_equal(found["a.kernel"], weight)
    assert np.array_equal(found["a.mean"], mean)


@pytest.mark.parametrize(
    ("name", "format_"),
    [("a.PTH", "torch"), ("x.weights.h5", "keras"), ("x.h5", "keras-legacy"), ("w.ckpt", "mindspore"),
     ("w.safetensors", "safetensors"), ("w.pdparams", "paddle"), ("best.pth.tar", "torch"),
     ("flax_model.msgpack", "jax")],
)  # fmt: skip
def test_a_name_asks_for_a_format(name, format_):
    assert formats.format_for(name) == format_


def test_a_name_that_asks_for_none():
    with pytest.raises(
        WeightsError,
        match=r"model.onnx: its suffix is not that of a format that can be written: expected one of (?!.*\.keras)",
    ):
        formats.format_for("model.onnx")


def test_the_contents_decide_what_a_file_is(tmp_path):
    FORMATS["mindspore"].write(tmp_path / "wrong.pth", files.arrays(), {})
    assert formats.read(tmp_path / "wrong.pth").format == "mindspore"


def test_mindspores_checksum(tmp_path):
    import zlib

    FORMATS["mindspore"].write(tmp_path / "a", files.arrays(), {})
    data = (tmp_path / "a").read_bytes()
    assert data[-17:] == b"crc_num" + zlib.crc32(data[:-17]).to_bytes(10, "big")
    assert files.tensors(formats.read(tmp_path / "a")).keys() == files.arrays().keys()
    (tmp_path / "a").write_bytes(data[:-17])  # MindSpore's own without crc_check
    assert files.tensors(formats.read(tmp_path / "a")).keys() == files.arrays().keys()
    (tmp_path / "a").write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with pytest.raises(WeightsError, match="its checksum is not that of its contents: the file is damaged"):
        formats.read(tmp_path / "a")


def test_kerass_counted_layers_begin_at_0(tmp_path):
    """A second network of a session: conv2d_94 is its first convolution."""
    first, later = files.arrays(), {}
    for key, array in first.items():
        layer, _, variable = key.partition("/")
        kind, _, number = layer.partition("_") if layer.startswith("conv2d") else (layer, "", "")
        later[f"{kind}_{int(number or 0) + 94}/{variable}" if layer.startswith("conv2d") else key] = array
    for format_ in ("keras", "keras-legacy"):
        assert files.tensors(written(tmp_path / format_, format_, later)).keys() == first.keys()
