"""Malicious and broken files: one clear line within a second, little memory, nothing run, nothing left behind."""

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import time
import zipfile

import files
import h5py
import msgpack
import numpy as np
import pytest

import weights
from weights import formats
from weights.formats import FORMATS, mindspore
from weights.wrappers import unwrap
from zoo.commands import main
from zoo.errors import WeightsError


class Runs:
    """Unpickled, it would leave a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def read_everything(path):
    return {name: np.asarray(tensor) for name, tensor in unwrap(formats.read(path).tree).tensors.items()}


def attempt(path):
    """All tensors of a file, or the one line of its error."""
    try:
        return read_everything(path)
    except WeightsError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 1000 + len(str(path))
    return message


def legacy(value):
    return b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})) + value


def torch_pickle(*, key="0", count=4, offset=0, shape=(4,), strides=(1,), kind="FloatStorage"):
    """data.pkl of one tensor, whose fields can be replaced."""
    from weights.formats.pickles import emit, emit_global

    storage = b"(" + emit("storage") + emit_global("torch", kind) + emit(key) + emit("cpu") + emit(count) + b"tQ"
    tensor = emit_global("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + emit(offset) + emit(shape)
    tensor += emit(strides) + b"\x89" + emit_global("collections", "OrderedDict") + b")RtR"
    return b"\x80\x02}(" + emit("a.weight") + tensor + b"u."


def archive(data=bytes(16), **choices):
    return {"archive/data.pkl": torch_pickle(**choices), "archive/data/0": data, "archive/version": b"3\n"}


@pytest.mark.parametrize("protocol", range(2, 6))
def test_nothing_in_a_pickle_is_run(tmp_path, protocol):
    mark = tmp_path / "mark"
    bad = pickle.dumps({"a.weight": Runs(mark)}, protocol)
    (tmp_path / "a.pdparams").write_bytes(bad)
    (tmp_path / "a.bin").write_bytes(legacy(bad))
    files.write_zip(tmp_path / "a.pth", {"archive/data.pkl": bad, "archive/version": b"3\n"})
    files.write_zip(tmp_path / "deep.pth", {"archive/data.pkl": torch_pickle(), "archive/data/0": bad})
    for name in ("a.pdparams", "a.bin", "a.pth"):
        with pytest.raises(WeightsError, match=r"it would import posix\.system, which reading weights does not need"):
            formats.read(tmp_path / name)
    with pytest.raises(WeightsError, match=r"storage 0 has \d+ bytes, and should have 16"):
        formats.read(tmp_path / "deep.pth")
    assert not mark.exists()
    pickle.loads(bad)
    assert mark.exists(), "the attack itself does not work, so nothing was tested"


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'id'\ntR.",
        b"\x80\x02cbuiltins\neval\n(X\x02\x00\x00\x0011tR.",
        b"\x80\x02c__builtin__\nexec\nX\x01\x00\x00\x00x\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"\x80\x02(X\x02\x00\x00\x00idios\nsystem\n.",
        b"\x80\x02(cos\nsystem\nX\x02\x00\x00\x00ido.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
        b"\x80\x02X\x01\x00\x00\x00a)R.",
        b"\x80\x02cnumpy\nndarray\n)R.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02}(((((ttttK\x01u.",
        b"\x80\x02}N}b.",
        b"\x80\x02]q\xffh\x01.",
        b"\x80\x02.",
        b"\x80\x05\x97.",
    ],
)
def test_operations_that_build_no_plain_value(tmp_path, data):
    (tmp_path / "a.pdparams").write_bytes(data)
    with pytest.raises(WeightsError, match=r"a.pdparams: "):
        formats.read(tmp_path / "a.pdparams")


def test_a_whole_module_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "a.pdparams").write_bytes(b"\x80\x02ctimm.models.inception_v4\nInceptionV4\n)\x81.")
    with pytest.raises(WeightsError, match=r"would import timm.models.inception_v4.InceptionV4.* save its state_dict"):
        formats.read(tmp_path / "a.pdparams")


ARCHIVES = {
    "beyond its storage": (archive(shape=(5,)), r"a tensor \[5\] with strides \[1\] in 4 elements"),
    "a stride beyond": (archive(shape=(2,), strides=(4,)), r"a tensor \[2\] with strides \[4\] in 4 elements"),
    "one element for many": (archive(shape=(10**9,), strides=(0,)), r"a tensor \[1000000000\] with strides \[0\]"),
    "negative offset": (archive(offset=-1), "a negative offset, size or stride: -1"),
    "negative stride": (archive(strides=(-1,)), r"a negative offset, size or stride: 0, \[4\], \[-1\]"),
    "negative size": (archive(shape=(-4,)), r"a negative offset, size or stride: 0, \[-4\]"),
    "not a size": (archive(shape=("4",)), "TypeError|a negative offset"),
    "other rank": (archive(shape=(2, 2)), "a tensor with 2 sizes and 1 strides"),
    "short storage": (archive(data=bytes(15)), "storage 0 has 15 bytes, and should have 16"),
    "no storage": ({"archive/data.pkl": torch_pickle(key="7")}, "archive/data/7"),
    "no type": (archive(kind="CharStorages"), "it would import torch.CharStorages"),
    "a program": (archive() | {"archive/constants.pkl": b"\x80\x02)."}, "a TorchScript archive"),
    "no pickle": ({"archive/data/0": b""}, "a zip archive without PyTorch's data.pkl or Keras's model.weights.h5"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_pytorch_archives(tmp_path, case):
    members, message = ARCHIVES[case]
    files.write_zip(tmp_path / "a.pth", members)
    with pytest.raises(WeightsError, match=message):
        read_everything(tmp_path / "a.pth")


PROGRAMS = {
    "a pickle": (files.exported(use_pickle=True), "'conv2d/kernel' is pickled, which is not read"),
    "machine code": (files.exported() | {"f/data/aotinductor/m/a.so": b""}, "a package that AOTInductor has compiled"),
    "no weights": (files.exported(path_name="weight_99"), "KeyError: 'f/data/weights/weight_99'"),
    "no type": (files.exported(tensor_meta=None), "'conv2d/kernel' is pickled"),
    "another file": ({"f/archive_format": b"pt2"}, "no member f/models/model.json"),
    "another schema": (
        files.exported() | {"f/models/model.json": '{"schema_version": {"major": 9}}'},
        "an exported program of schema 9, expected 8",
    ),
    "a list": (files.exported() | {"f/models/model.json": "[]"}, "is not a JSON object"),
    "a text": (
        files.exported() | {"f/data/weights/model_weights_config.json": '{"config": "weights"}'},
        "damaged: ValueError",
    ),
    "nested": (
        files.exported() | {"f/models/model.json": '{"a":' * 5000 + "1" + "}" * 5000},
        "damaged: RecursionError",
    ),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_exported_programs(tmp_path, case):
    members, message = PROGRAMS[case]
    files.write_zip(tmp_path / "a.pt2", members)
    with pytest.raises(WeightsError, match=message):
        read_everything(tmp_path / "a.pt2")


def test_a_zip_bomb(tmp_path):
    """A compressed member of a gigabyte in a megabyte."""
    files.write_zip(tmp_path / "a.pth", archive(data=bytes(10**8), count=25 * 10**6), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "a.pth").stat().st_size < 10**6
    with pytest.raises(WeightsError, match="is compressed or encrypted: PyTorch and Keras store weights uncompressed"):
        formats.read(tmp_path / "a.pth")


def test_members_that_overlap_or_are_there_twice(tmp_path):
    files.write_zip(tmp_path / "twice.pth", archive())
    with zipfile.ZipFile(tmp_path / "twice.pth", "a") as out, pytest.warns(UserWarning, match="Duplicate name"):
        out.writestr("archive/data/0", bytes(16))
    with pytest.raises(WeightsError, match="member 'archive/data/0' is there twice"):
        formats.read(tmp_path / "twice.pth")
    files.write_zip(tmp_path / "a.pth", archive() | {"archive/data/1": bytes(16)})
    data = bytearray((tmp_path / "a.pth").read_bytes())
    first, second = (data.index(name, data.index(b"PK\1\2")) for name in (b"archive/data/0", b"archive/data/1"))
    data[second - 4 : second] = data[first - 4 : first]  # its header's offset
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(WeightsError, match=r"overlaps another one|is not where the archive's directory says"):
        formats.read(tmp_path / "a.pth")


def test_many_tensors_of_one_storage_are_no_way_to_use_up_memory(tmp_path):
    one = torch_pickle(count=2**18, shape=(2**18,))[4:-2]
    many = b"\x80\x02}(" + b"".join(one.replace(b"a.weight", b"a.wei%03d" % i) for i in range(100)) + b"u."
    files.write_zip(tmp_path / "a.pth", {"archive/data.pkl": many, "archive/data/0": bytes(2**20)})
    with pytest.raises(WeightsError, match="its tensors would take 104,857,600 bytes, and the file has"):
        weights.read(tmp_path / "a.pth")


def test_dictionaries_within_dictionaries_are_not_walked(tmp_path):
    """99 names at each of five levels: 10^10 leaves, if all were visited."""
    level = b"}"
    for _ in range(5):
        level = (
            b"}("
            + b"".join(b"X\x02\x00\x00\x00%02d" % i + (level if not i else b"h\x00") for i in range(99))
            + b"uq\x00"
        )
    (tmp_path / "a.pdparams").write_bytes(b"\x80\x02" + level + b".")
    begin = time.perf_counter()
    with pytest.raises(WeightsError):
        read_everything(tmp_path / "a.pdparams")
    assert time.perf_counter() - begin < 5


def header(entries, data=b""):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


SAFETENSORS = {
    "beyond the file": header({"a.b": one(shape=(2000,), end=8000)}, bytes(8)),
    "shape and bytes": header({"a.b": one(shape=(3,))}, bytes(8)),
    "overlapping": header({"a.b": one(), "a.c": one(begin=4, end=12)}, bytes(12)),
    "negative": header({"a.b": one(begin=-8, end=0)}, bytes(8)),
    "a gap": header({"a.b": one(begin=8, end=16)}, bytes(16)),
    "no type": header({"a.b": one(dtype="F31")}, bytes(8)),
    "8 bits": header({"a.b": one(dtype="F8_E4M3", shape=(8,))}, bytes(8)),
    "twice": header(b'{"a.b":' + json.dumps(one()).encode() + b',"a.b":' + json.dumps(one()).encode() + b"}", bytes(8)),
    "no JSON": header(b"{" * 1000),
    "nested": header(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "huge header": struct.pack("<Q", 2**62) + b"{}",
    "overflow": header({"a.b": one(shape=(2**40, 2**40))}, bytes(8)),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_safetensors(tmp_path, case):
    (tmp_path / "a.safetensors").write_bytes(SAFETENSORS[case])
    with pytest.raises(WeightsError, match=r"a.safetensors: "):
        read_everything(tmp_path / "a.safetensors")


def value(tag="a.b", dims=(2,), kind="Float32", content=bytes(8)):
    return mindspore.value_header(tag, dims, kind, len(content)) + content


CKPT = {
    "shape and bytes": (value(dims=(3,)), "'a.b' is damaged, or in slices: 8 bytes for float32 .3."),
    "negative": (value(dims=(-2, -1)), "'a.b' is damaged"),
    "overflow": (value(dims=(2**62, 4)), "'a.b' is damaged"),
    "no type": (value(kind="Float31"), "'a.b' is of type 'Float31', expected one of Float64"),
    "twice": (value() + value(), "'a.b' is there twice"),
    "beyond the file": (b"\x0a\xff\xff\xff\x7f\x0a", "not a checkpoint in a known format|cut short"),
    "endless length": (value() + b"\x0a" + b"\xff" * 20, "no integer of at most 64 bits at byte"),
    "no text": (b"\x0a\x06\x0a\x04\xff\xfe\xff\xfe", "not a readable MindSpore checkpoint"),
    "no tensor": (b"\x0a\x05\x0a\x03a.b", "Value.tensor is missing"),
    "no elements": (b"\x0a\x07\x0a\x03a.b\x12\x00", "TensorProto.tensor_type is missing"),
    "a name twice": (b"\x0a\x0a" + b"\x0a\x03a.b" * 2, "Value.tag is there twice"),
    "an integer for a name": (b"\x0a\x07\x0a\x03a.b\x08\x01", "Value has an unknown field 1"),
    "fixed width": (b"\x0a\x0e\x0a\x03a.b\x11" + bytes(8), "field 2 has wire type 1: expected 0 or 2"),
    "beyond its value": (b"\x0a\x07\x0a\x03a.b\x12\x09", "cut short: field 2 has 9 bytes, and 0 are left"),
    "65 bits": (b"\x0a\x12\x0a\x03a.b\x12\x0b\x08" + b"\xff" * 9 + b"\x7f", "no integer of at most 64 bits"),
    "another field": (value() + b"\x12\x02aa", "no value begins at byte"),
}


@pytest.mark.parametrize("case", CKPT)
def test_mindspore_checkpoints(tmp_path, case):
    data, message = CKPT[case]
    (tmp_path / "a.ckpt").write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        read_everything(tmp_path / "a.ckpt")


def packed(shape=(2,), dtype="float32", content=bytes(8), code=1):
    return msgpack.ExtType(code, msgpack.packb((shape, dtype, content)))


def chunked(shape, *chunks):
    numbered = {str(i): chunk for i, chunk in enumerate(chunks)}
    return {"__msgpack_chunked_array__": True, "shape": {str(i): n for i, n in enumerate(shape)}, "chunks": numbered}


MSGPACK = {
    "shape and bytes": ({"a": {"b": packed(shape=(3,))}}, "damaged: ValueError: 8 bytes for float32 .3."),
    "negative": ({"a": packed(shape=(-2, -1))}, "damaged: ValueError: 8 bytes for float32 .-2, -1."),
    "overflow": ({"a": packed(shape=(2**62, 4))}, "damaged: ValueError"),
    "no type": ({"a": packed(dtype="float31")}, "damaged: ValueError: elements of type float31"),
    "no triple": ({"a": msgpack.ExtType(1, b"\xc0")}, "damaged: TypeError"),
    "no array in it": ({"a": msgpack.ExtType(1, b"")}, "damaged: ValueError"),
    "chunks of other sizes": ({"a": chunked((5,), packed(), packed())}, r"an array \[5\] in chunks of other sizes"),
    "chunks of two types": ({"a": chunked((3,), packed(), packed((1,), "float64"))}, "in chunks of several types"),
    "no chunks": ({"a": {"__msgpack_chunked_array__": True}}, "damaged: KeyError"),
    "another extension": ({"a": {"b": packed(code=9)}}, "holds no tensors"),
    "a text": ({"a": {"b": "c"}}, "holds no tensors"),
    "nested": (b"\x81\xa1a" * 5000, "damaged: "),
    "cut short": (msgpack.packb({"a": packed()})[:-3], "damaged: ValueError"),
    "more behind it": (msgpack.packb({"a": packed()}) + b"a", "damaged: ExtraData"),
    "endless": (b"\xdf\xff\xff\xff\xff\xa1a", "damaged: ValueError"),
}


@pytest.mark.parametrize("case", MSGPACK)
def test_msgpack(tmp_path, case):
    tree, message = MSGPACK[case]
    (tmp_path / "a.msgpack").write_bytes(tree if isinstance(tree, bytes) else msgpack.packb(tree, strict_types=True))
    with pytest.raises(WeightsError, match=message):
        read_everything(tmp_path / "a.msgpack")


def hdf5(change):
    def make(path):
        FORMATS["keras"].write(path, files.arrays(), {})
        with h5py.File(path, "r+") as file:
            change(file, file["layers/conv2d/vars"])

    return make


def replaced(file, group, value):
    del group["0"]
    group["0"] = value


def cycle(file, group):
    del file["layers/dense/vars"]
    file["layers/dense/vars"] = file["layers"]


def elsewhere(path):
    hdf5(lambda file, group: None)(path)
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["secret"] = np.ones((3, 3, 2, 4), np.float32)
    with h5py.File(path, "r+") as file:
        replaced(file, file["layers/conv2d/vars"], h5py.ExternalLink(str(path.with_name("other.h5")), "/secret"))


def raw_elsewhere(path):
    hdf5(lambda file, group: group.__delitem__("0"))(path)
    with h5py.File(path, "r+") as file:
        outside = [("/etc/hostname", 0, 288)]
        file["layers/conv2d/vars"].create_dataset("0", (3, 3, 2, 4), np.float32, external=outside)


def huge(file, group):
    del group["0"]
    group.create_dataset("0", shape=(10**6, 10**6), dtype=np.float32, chunks=(1000, 1000), fillvalue=1)


def enlarged(path):
    hdf5(lambda file, group: None)(path)
    data = path.read_bytes()
    assert struct.pack("<QQ", 6, 10) in data
    path.write_bytes(data.replace(struct.pack("<QQ", 6, 10), struct.pack("<QQ", 2**31, 2**29)))


HDF5 = {
    "no Keras": (lambda path: h5py.File(path, "w").close(), "not one of Keras's"),
    "another kind of layer": (hdf5(lambda f, g: f.move("layers/dense", "layers/lstm")), "layer lstm is of a kind"),
    "a variable": (hdf5(lambda f, g: g.__delitem__("0") or g.create_group("0")), "'0' is not a dataset"),
    "texts": (hdf5(lambda f, g: replaced(f, g, "hello")), "is not a plain array of numbers"),
    "compound": (hdf5(lambda f, g: replaced(f, g, np.zeros(3, "f4,i4"))), "is not a plain array of numbers"),
    "in another file": (elsewhere, "'0' is missing, or elsewhere"),
    "bytes of another file": (raw_elsewhere, "is not a plain array of numbers within this file"),
    "a soft link": (hdf5(lambda f, g: replaced(f, g, h5py.SoftLink("/layers/dense/vars/0"))), "is missing, or elsewh"),
    "a group within itself": (hdf5(cycle), "is missing, or elsewhere|is not a dataset|of a kind"),
    "larger than its bytes": (enlarged, r"'predictions/kernel' would take|not a readable HDF5 file"),
    "larger than the file": (hdf5(huge), "is compressed, in chunks or empty"),
}


@pytest.mark.parametrize("case", HDF5)
def test_hdf5(tmp_path, case):
    make, message = HDF5[case]
    make(tmp_path / "a.weights.h5")
    with pytest.raises(WeightsError, match=message):
        read_everything(tmp_path / "a.weights.h5")


@pytest.mark.parametrize("format_", FORMATS)
def test_files_cut_short(tmp_path, format_):
    """At fifty places: an error, or every tensor as it was (what is cut was padding).

    At fifteen where a process is started for each file.
    """
    files.write(tmp_path / "whole", format_)
    data = (tmp_path / "whole").read_bytes()
    good = read_everything(tmp_path / "whole")
    errors, places = 0, 15 if format_ in files.PROCESSES else 50
    for size in np.linspace(0, len(data) - 1, places).astype(int):
        (tmp_path / "cut").write_bytes(data[:size])
        found = attempt(tmp_path / "cut")
        errors += isinstance(found, str)
        if not isinstance(found, str):
            assert all(np.array_equal(good[name], array) for name, array in found.items())
    assert errors >= 0.9 * places


@pytest.mark.parametrize("format_", FORMATS)
def test_wrong_magic(tmp_path, format_):
    files.write(tmp_path / "a", format_)
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(b"\0\1\2\3\4\5\6\7" + data[8:])
    with pytest.raises(WeightsError, match="not a checkpoint in a known format: it begins with"):
        formats.read(tmp_path / "a")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.touch(), "an empty file"),
        (lambda path: None, "no such file"),
        (os.mkfifo, "not a regular file"),
    ],
)
def test_what_is_no_file(tmp_path, make, message):
    make(tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=message):
        formats.read(tmp_path / "a.pth")


BOMBS = {
    "deep tuples": b"\x80\x02" + b")" + b"\x85" * 400_000 + b".",
    "a tuple as a key": b"\x80\x02})" + b"\x85" * 400_000 + b"K\x01s.",
    "memory by memo": b"\x80\x02]r\xff\xff\xff\x7fr\xfe\xff\xff\xff.",
    "a long text": b"\x80\x02}(X\xff\xff\xff\x7fu.",
    "a longer text": b"\x80\x04}(\x8d" + struct.pack("<Q", 2**60) + b"u.",
    "a long integer": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "many operations": b"\x80\x02" + b"N0" * 2_000_000 + b".",
    "a text as elements": b"\x80\x04c__builtin__\ntuple\nX\x00\x00\x80\x00" + b"a" * (2**23) + b"\x85R.",
    "wide text": b"\x80\x04c_codecs\nencode\n(X\x04\x00\x80\x00" + b"a" * 2**23 + "\N{SMILE}".encode()[:4].ljust(4)
    + b"X\x06\x00\x00\x00latin1tR.",
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_are_defused_in_bounded_time_and_memory(tmp_path, case):
    """In a process of its own, where the kernel keeps the limit."""
    (tmp_path / "a.pdparams").write_bytes(BOMBS[case])
    code = (
        "import resource, sys, time, weights; from zoo.errors import WeightsError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; begin = time.process_time()\n"
        "try: weights.read(sys.argv[1])\n"
        "except WeightsError as error: print('refused', error)\n"
        "print(time.process_time() - begin)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)"
    )
    limit = (4 << 30, 4 << 30)
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.pdparams")],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )
    said, seconds, memory = run.stdout.splitlines()
    assert said.startswith("refused ")
    assert float(seconds) < 2
    assert int(memory) < 2 * len(BOMBS[case]) + 64e6


def test_a_refused_file_leaves_nothing_behind(tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Runs(tmp_path / "mark")))
    assert main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"zoo: error: {tmp_path / 'a.pth'}: ")
    assert len(err.splitlines()) == 1
    assert os.listdir(tmp_path) == ["a.pth"]


def test_zip_without_a_directory(tmp_path):
    buffer = io.BytesIO()
    files.write_zip(buffer, archive())
    (tmp_path / "a.pth").write_bytes(buffer.getvalue()[: buffer.getvalue().rindex(b"PK\1\2")])
    with pytest.raises(WeightsError, match=r"not a readable zip archive: .*; it may be cut short"):
        formats.read(tmp_path / "a.pth")


def small(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


DOUBLING = b"N" + b"2\x86" * 40
"""Tuples that hold the next one twice, forty deep: printing or hashing them would take for ever."""

NESTED = b")" + b"\x85" * 5000
LARGE = b"\x8b" + struct.pack("<I", 60_000) + b"\x7f" * 60_000
SMALL = {
    "a type": small(b"}cnumpy\ndtype\n", DOUBLING, b"\x85R"),
    "an encoding": small(b"}c_codecs\nencode\nX\x01\x00\x00\x00a", DOUBLING, b"\x86R"),
    "an import": small(b"}", DOUBLING, b"X\x01\x00\x00\x00a\x93"),
    "a deep type": small(b"}cnumpy\ndtype\n", NESTED, b"\x85R"),
    "a deep import": small(b"}", NESTED, NESTED, b"\x93"),
    "a large key": small(b"}", LARGE, b"Ns"),
    "copies": small(b"(", b"N" * 100_000, b"lq\x00", b"c__builtin__\ntuple\nq\x01", b"h\x01h\x00\x85R" * 2000, b"0"),
}


@pytest.mark.parametrize("case", SMALL)
def test_small_pickles_of_great_effect(tmp_path, case):
    """Also in place of a legacy PyTorch file's version, or of its list of storages."""
    for name, data in {
        "a.pdparams": SMALL[case],
        "version.pth": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + SMALL[case],
        "keys.pth": legacy(small(b"}")) + small(b"(", SMALL[case][2:-1], b"l"),
    }.items():
        (tmp_path / name).write_bytes(data)
        begin = time.process_time()
        assert isinstance(attempt(tmp_path / name), str)
        assert time.process_time() - begin < 2


def test_sizes_beyond_reason(tmp_path):
    large = b"(" + LARGE + b"t"
    views = torch_pickle().replace(b"(K\x04tt", b"", 1)
    files.write_zip(tmp_path / "a.pth", archive() | {"archive/data.pkl": views.replace(b"(K\x04t", large)})
    assert isinstance(attempt(tmp_path / "a.pth"), str)
    (tmp_path / "a.ckpt").write_bytes(value(dims=(2**62,) * 20_000))
    begin = time.process_time()
    assert "'a.b' is damaged" in attempt(tmp_path / "a.ckpt")
    assert time.process_time() - begin < 2


def test_names_beyond_reason(tmp_path):
    for name in ("./" * 50_000 + "x", "net." * 5000 + "x"):
        (tmp_path / "a.safetensors").write_bytes(header({name: one()}, bytes(8)))
        begin = time.process_time()
        with pytest.raises(WeightsError, match="do not have the names of a network of any known source") as caught:
            weights.read(tmp_path / "a.safetensors")
        assert len(str(caught.value)) < 1000
        assert time.process_time() - begin < 2


def test_many_names_of_which_one_is_there_twice(tmp_path):
    entries = ",".join(f'"a.{i}":{json.dumps(one())}' for i in [*range(20_000), 19_999])
    (tmp_path / "a.safetensors").write_bytes(header(f"{{{entries}}}".encode(), bytes(8)))
    begin = time.process_time()
    assert isinstance(attempt(tmp_path / "a.safetensors"), str)
    assert time.process_time() - begin < 2


def test_two_variables_of_one_name_in_kerass_older_files(tmp_path):
    FORMATS["keras-legacy"].write(tmp_path / "a.h5", files.arrays(), {})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        group = file["predictions"]
        group["other/kernel:0"] = np.ones((6, 10), np.float32)
        group.attrs["weight_names"] = [b"predictions/kernel:0", b"predictions/bias:0", b"other/kernel:0"]
    with pytest.raises(WeightsError, match="layer predictions has two variables 'kernel'"):
        formats.read(tmp_path / "a.h5")
