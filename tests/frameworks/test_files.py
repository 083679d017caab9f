"""Each framework's own savers against our readers, and our writers against its own strict loaders."""

import subprocess
import sys

import numpy as np
import pytest
from support import SUFFIX, calibrated, narrow

import weights
import zoo
from weights import formats
from weights.wrappers import unwrap
from zoo.errors import WeightsError
from zoo.frameworks import FRAMEWORKS

MODEL = narrow("xception.mindcv")


@pytest.fixture
def save(framework):
    """The framework's own saver of tensors by name; the suffix of the file chooses the format."""

    def torch(tensors, path):
        import torch
        from safetensors.torch import save_file

        if path.suffix == ".safetensors":
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
        else:
            torch.save(tensors, path, _use_new_zipfile_serialization=path.suffix != ".tar")

    def mindspore(tensors, path):
        import mindspore

        entries = [{"name": key, "data": tensor} for key, tensor in tensors.items()]
        checked = {"crc_check": True} if "crc" in path.name else {}
        mindspore.save_checkpoint(entries, str(path), format=path.suffix[1:], **checked)

    def paddle(tensors, path):
        import paddle

        paddle.save(tensors, str(path), protocol=int(path.stem[-1]))

    def jax(tensors, path):
        from flax import serialization, traverse_util
        from safetensors.flax import save_file

        if path.suffix == ".safetensors":
            save_file(tensors, path)
        else:
            path.write_bytes(serialization.msgpack_serialize(traverse_util.unflatten_dict(tensors, ".")))

    return locals()[framework]


@pytest.fixture
def load(framework):
    """The framework's own loader: arrays by name, in float64."""

    def torch(path):
        import torch
        from safetensors.torch import load_file

        tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        return {key: tensor.double().numpy() for key, tensor in tensors.items()}

    def mindspore(path):
        import mindspore

        loaded = mindspore.load_checkpoint(str(path), format=path.suffix[1:])
        tensors = {
            key: value for key, value in loaded.items() if not key.startswith("zoo.")
        }  # texts, as by append_dict
        return {key: parameter.asnumpy().astype(np.float64) for key, parameter in tensors.items()}

    def paddle(path):
        import paddle

        return {key: tensor.astype("float64").numpy() for key, tensor in paddle.load(str(path)).items()}

    def jax(path):
        from flax import serialization, traverse_util
        from safetensors.flax import load_file

        if path.suffix == ".safetensors":
            return {key: np.asarray(tensor).astype(np.float64) for key, tensor in load_file(path).items()}
        tree = traverse_util.flatten_dict(serialization.msgpack_restore(path.read_bytes()), sep=".")
        return {key: array.astype(np.float64) for key, array in tree.items()}

    return locals()[framework]


FILES = {
    "torch": ("w.pth", "w.tar", "w.safetensors"),
    "mindspore": ("w.ckpt", "crc.ckpt", "w.safetensors"),
    "paddle": ("w2.pdparams", "w3.pdparams", "w4.pdparams"),
    "jax": ("w.msgpack", "w.safetensors"),
}
WRITTEN = {
    "torch": (("w.pth", "torch"), ("w.pth", "torch-legacy"), ("w.safetensors", "safetensors")),
    "mindspore": (("w.ckpt", "mindspore"), ("w.safetensors", "safetensors")),
    "paddle": (("w.pdparams", "paddle"),),
    "jax": (("w.msgpack", "jax"), ("w.safetensors", "safetensors")),
}


def native(framework, arrays, dtype):
    """The framework's tensors of a type that NumPy may not have."""
    if framework == "torch":
        import torch

        return {key: torch.from_numpy(array).to(getattr(torch, dtype)) for key, array in arrays.items()}
    if framework == "mindspore":
        import mindspore

        return {key: mindspore.Tensor(array).astype(getattr(mindspore, dtype)) for key, array in arrays.items()}
    if framework == "jax":
        import jax
        from jax.experimental import enable_x64

        with enable_x64():
            return {key: jax.numpy.asarray(array, dtype) for key, array in arrays.items()}
    import paddle

    return {key: paddle.to_tensor(array).astype(dtype) for key, array in arrays.items()}


def as_double(framework, tensors):
    """Those tensors' values, from the framework."""
    if framework == "torch":
        return {key: tensor.double().numpy() for key, tensor in tensors.items()}
    if framework == "mindspore":
        import mindspore

        return {key: tensor.astype(mindspore.float32).asnumpy() if tensor.dtype != mindspore.float64
                else tensor.asnumpy() for key, tensor in tensors.items()}  # fmt: skip
    if framework == "jax":
        return {key: np.asarray(tensor).astype(np.float64) for key, tensor in tensors.items()}
    return {key: tensor.astype("float64").numpy() for key, tensor in tensors.items()}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_what_the_framework_saves_is_read_exactly(framework, save, tmp_path, dtype):
    random = np.random.default_rng(1)
    arrays = {"a.weight": random.standard_normal((3, 2, 5, 5)), "b.bias": random.standard_normal(7) * 1e-3}
    tensors = native(framework, arrays, dtype)
    if framework == "torch":
        tensors["a.turned"] = tensors["a.weight"].permute(1, 0, 3, 2)
        tensors["a.part"] = tensors["a.weight"][1:, :, 2:4]
    for name in FILES[framework]:
        save(tensors, tmp_path / name)
        read = unwrap(formats.read(tmp_path / name).tree).tensors
        assert {tensor.dtype for tensor in read.values()} == {dtype}
        for key, expected in as_double(framework, tensors).items():
            np.testing.assert_array_equal(np.asarray(read[key]), expected)


def test_what_we_write_is_loaded_exactly(framework, load, tmp_path):
    arrays, source = calibrated(MODEL), weights.all_sources()[framework]
    for name, format_ in WRITTEN[framework]:
        weights.write(tmp_path / name, arrays, MODEL, to=framework, format=format_)
        loaded = {key: array.astype(np.float32) for key, array in load(tmp_path / name).items()}
        theirs = source.naming(MODEL).read({key: array for key, array in loaded.items() if key in names(source)})
        assert all(np.array_equal(theirs[key], array) for key, array in arrays.items())


def names(source):
    return set(source.naming(MODEL).keys.values())


def test_a_network_of_ones_own_through_the_frameworks_saver(framework, tmp_path):
    """A network of zoo.build, saved by its framework, is read as the canonical arrays, which any framework loads."""
    net = zoo.build(MODEL.name, framework, width=0.25, seed=3)
    path = tmp_path / f"net{SUFFIX[framework]}"
    if framework == "torch":
        import torch

        torch.save({"state_dict": torch.nn.DataParallel(net).state_dict(), "epoch": 3, "loss": torch.ones(2)}, path)
    elif framework == "mindspore":
        import mindspore

        mindspore.save_checkpoint(net, str(path))
    elif framework == "jax":
        from flax import nnx, serialization

        state = nnx.to_pure_dict(nnx.state(net, nnx.Any(nnx.Param, nnx.BatchStat)))
        path.write_bytes(serialization.msgpack_serialize(state))
    else:
        import paddle

        paddle.save(net.state_dict(), str(path))
    arrays, about = weights.read(path, model=MODEL.name)
    assert about["sources"] == [framework]
    assert all(np.array_equal(array, arrays[key]) for key, array in weights.initial(MODEL, 3).items())


def test_what_we_write_is_loaded_by_the_network_itself(framework, tmp_path):
    arrays = calibrated(MODEL)
    net = zoo.build(MODEL.name, framework, width=0.25)
    path = tmp_path / f"net{SUFFIX[framework]}"
    weights.write(path, arrays, MODEL)
    if framework == "torch":
        import torch

        net.load_state_dict(torch.load(path, weights_only=True, mmap=True), strict=True)
    elif framework == "mindspore":
        import mindspore

        loaded = mindspore.load_checkpoint(str(path))
        missing, beyond = mindspore.load_param_into_net(net, loaded, strict_load=True)
        assert missing == []
        assert all(name.startswith("zoo.") and isinstance(loaded[name], str) for name in beyond)
    elif framework == "jax":
        from flax import nnx, serialization

        state = nnx.state(net, nnx.Any(nnx.Param, nnx.BatchStat))
        nnx.replace_by_pure_dict(state, serialization.msgpack_restore(path.read_bytes()))
        nnx.update(net, state)
    else:
        import paddle

        assert net.set_state_dict(paddle.load(str(path))) == ([], [])
    from backends import get

    assert all(np.array_equal(array, arrays[key]) for key, array in get(framework).dump(net).items())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_refused_with_the_command_that_helps(framework, tmp_path):
    if framework != "torch":
        pytest.skip("a format of PyTorch's")
    import torch

    net = zoo.build(MODEL.name, "torch", width=0.25, seed=3)
    module = torch.nn.Sequential(net.conv1.conv)  # any module: the whole network would take long to compile
    torch.jit.script(module).save(tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"a TorchScript archive.*torch\.save\(torch\.jit\.load\(FILE\)\.state_dict"):
        formats.read(tmp_path / "w.pt")
    torch.save(torch.jit.load(tmp_path / "w.pt").state_dict(), tmp_path / "weights.pth")
    assert unwrap(formats.read(tmp_path / "weights.pth").tree).tensors.keys() == module.state_dict().keys()


def test_a_checkpoint_is_read_before_the_framework_is_imported(framework, tmp_path):
    """Reading a file must not break a later import of the framework: protobuf has two implementations."""
    for to in FRAMEWORKS:
        weights.write(tmp_path / f"w{SUFFIX[to]}", calibrated(MODEL), MODEL, to=to)
    code = (
        "import os, sys, weights, zoo\n"
        "for file in sys.argv[2:]: weights.read(file, model='xception.mindcv')\n"
        "zoo.build('xception.mindcv', sys.argv[1], checkpoint=sys.argv[2])\n"
        "print('built', flush=True); os._exit(0)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, framework, *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
    )
    assert run.stdout.endswith("built\n"), run.stderr[-500:]
