"""What only JAX has: Flax's idioms, Optax's optimizers, the launcher, exported programs."""

import json
import subprocess
import sys

import flax.nnx as nnx
import jax
import numpy as np
import optax
import pytest
from support import SMALL, batch, calibrated, error

import weights
import zoo
from backends.jax import launch
from backends.jax import network as backend
from backends.jax.processes import Processes
from backends.training import trainer
from weights.formats import orbax
from weights.wrappers import unwrap
from zoo.errors import WeightsError
from zoo.exporting import export
from zoo.language.model import configure
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups

MODEL = configure(zoo.spec(SMALL), aux=False, drop_rate=0.0)


def test_stages_are_channels_last_and_their_paths_are_the_specs():
    net = zoo.build(SMALL, "jax")
    x = batch(net.spec, 32, count=2)
    tape = backend.predict(net, x, tape=True)
    y = net.stem(x.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(y.transpose(0, 3, 1, 2), tape["stem"], rtol=1e-5, atol=1e-6)
    paths = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(net, nnx.Param))}
    assert {"stem.0.conv.kernel", "mixed.branch1.1.bn.scale", "head.fc.bias"} <= paths


def test_a_plain_step_of_flax_is_ours():
    """nnx.value_and_grad and nnx.Optimizer on the built network: the same loss, weights and running statistics."""
    random = np.random.default_rng(0)
    x, labels = random.standard_normal((8, 3, 32, 32)).astype(np.float32), random.integers(10, size=8)
    nets = [zoo.build(MODEL, "jax", train=True) for _ in range(2)]
    plan = Plan(Optimizer("momentum"), groups(MODEL), graph=True)
    ours = trainer("jax", nets[0], plan)
    optimizer = nnx.Optimizer(nets[1], optax.sgd(0.1, 0.9), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer):
        def loss_of(net):
            outputs = net(x)
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, gradients = nnx.value_and_grad(loss_of)(net)
        optimizer.update(net, gradients)
        return loss

    for _ in range(3):
        assert float(step(nets[1], optimizer)) == pytest.approx(
            float(ours.step(x, np.eye(10, dtype=np.float32)[labels], 0.1)), rel=1e-5
        )
    one, other = (backend.dump(net) for net in nets)
    for name, array in one.items():
        np.testing.assert_allclose(other[name], array, rtol=1e-3, atol=1e-5, err_msg=name)


OPTAX = {
    "momentum": (Optimizer("momentum"), optax.sgd(0.1, 0.9)),
    "nesterov": (Optimizer("sgd", nesterov=True), optax.sgd(0.1, 0.9, nesterov=True)),
    "adam": (Optimizer("adam"), optax.adam(0.1)),
    "adamw": (Optimizer("adamw"), optax.adamw(0.1, weight_decay=0.01)),
    "lion": (Optimizer("lion"), optax.lion(0.1, weight_decay=0.01)),
    "lamb": (Optimizer("lamb"), optax.lamb(0.1, weight_decay=0.01)),
    "rmsprop": (Optimizer("rmsprop"), optax.rmsprop(0.1, eps=1e-10, initial_scale=1.0, momentum=0.9)),
    "adagrad": (Optimizer("adagrad"), optax.adagrad(0.1, eps=1e-10)),
}


@pytest.mark.parametrize("name", OPTAX)
def test_optaxs_optimizers_of_the_same_meaning(name):
    ours, theirs = OPTAX[name]
    decay = 0.01 if ours.decoupled else 0.0
    net = zoo.build(MODEL, "jax")
    training = trainer("jax", net, Plan(ours, groups(MODEL, decay)))
    parameters = {key: jax.numpy.asarray(training.dumped()[key]) for key in training.names}
    state, random = theirs.init(parameters), np.random.default_rng(0)
    for _ in range(4):
        fed = {key: random.standard_normal(array.shape).astype(np.float32) for key, array in parameters.items()}
        training.feed(fed)
        training.update(0.1)
        changes, state = theirs.update(fed, state, parameters)
        parameters = optax.apply_updates(parameters, changes)
    came = training.dumped()
    for key, array in parameters.items():
        np.testing.assert_allclose(came[key], array, rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("saved", ["state", "dictionary", "a file for each array"])
def test_orbaxs_folders_are_read(tmp_path, saved):
    """An nnx.State, whose paths end in "value", and plain dictionaries; truncated arrays are an error, not zeros."""
    import orbax.checkpoint as ocp

    net = zoo.build(SMALL, "jax", seed=3)
    state = nnx.state(net, nnx.Any(nnx.Param, nnx.BatchStat))
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=saved != "a file for each array")
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "net", state if saved == "state" else nnx.to_pure_dict(state))
    arrays, about = weights.read(tmp_path / "net", model=SMALL)
    assert about["sources"] == ["jax"]
    assert all(np.array_equal(array, arrays[name]) for name, array in weights.initial(net.spec, 3).items())
    for part in (tmp_path / "net").rglob("*"):
        if part.parent.name == "d" or part.name.isdigit():
            part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    with pytest.raises(WeightsError, match="net: a damaged folder of Orbax's: "):
        weights.read(tmp_path / "net", model=SMALL)


def one_array(key, **more):
    """The _METADATA of a folder with one array."""
    entry = {"key_metadata": [{"key": key}], "value_metadata": {"value_type": "jax.Array"}}
    return json.dumps({"tree_metadata": {"a": entry}, "use_ocdbt": False, **more})


def test_the_name_of_a_folder_of_orbaxs_may_have_any_characters(tmp_path):
    import orbax.checkpoint as ocp

    folder = tmp_path / "100% of #1?" / "a folder"
    for ocdbt in (True, False):
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt)) as checkpointer:
            checkpointer.save(folder, {"a": {"kernel": jax.numpy.arange(3.0)}}, force=True)
        found = unwrap(orbax.read(folder / "_METADATA").tree).tensors
        assert np.asarray(found["a.kernel"]).tolist() == [0.0, 1.0, 2.0]


HOSTILE = {
    "no key": ('{"tree_metadata": {"a": {"key_metadata": []}}}', "a damaged folder of Orbax's: KeyError"),
    "no JSON": ("{", "a damaged folder of Orbax's: JSONDecodeError"),
    "a list": ("[]", "a damaged folder of Orbax's: TypeError"),
    "nested": ('{"a":' * 5000 + "1" + "}" * 5000, "a damaged folder of Orbax's: RecursionError"),
    "no such array": (one_array("a"), "a damaged folder of Orbax's: ValueError: NOT_FOUND"),
    "elsewhere": (one_array("../outside"), "array '../outside' would lie outside of the folder"),
    "the folder above": (one_array(".."), "array '..' would lie outside of the folder"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_damaged_folder_of_orbaxs(tmp_path, case):
    text, message = HOSTILE[case]
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "_METADATA").write_text(text)
    (tmp_path / "outside").mkdir()
    with pytest.raises(WeightsError, match=message):
        weights.read(tmp_path / "net")


def test_without_tensorstore(tmp_path, monkeypatch):
    (tmp_path / "_METADATA").write_text(one_array("a"))
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(WeightsError, match="Orbax's folders are read by TensorStore: pip install tensorstore"):
        weights.read(tmp_path)


def test_the_callers_network_keeps_its_mode_and_its_dropout():
    net = zoo.build(SMALL, "jax", drop_rate=0.4)
    dropout = net.head.dropout
    training = trainer("jax", net, Plan(Optimizer(), groups(net.spec), graph=True))
    training.seed(1)
    training.step(batch(net.spec, 32, count=4), np.eye(10, dtype=np.float32)[:4], 0.1)
    assert net.head.dropout is dropout
    assert not net.training
    assert dropout.deterministic


def test_a_program_for_images_of_any_number_and_size(tmp_path):
    from jax import export as exporter

    model = configure(zoo.spec(SMALL), aux=False)
    weights.write(tmp_path / "net.safetensors", calibrated(model), model)
    export(tmp_path / "net.safetensors", tmp_path / "net.jax", dynamic_size=True)
    program = exporter.deserialize(bytearray((tmp_path / "net.jax").read_bytes()))
    assert program.platforms == ("cpu", "cuda")
    net = zoo.build(checkpoint=tmp_path / "net.safetensors", backend="reference")
    for height, width, count in ((64, 80, 1), (100, 97, 3)):
        x = batch(model, height, width, count=count)
        assert error(np.asarray(program.call(x)), net(x)) <= 5e-6


SCRIPT = r"""
import os, sys, time
rank = int(os.environ["JAX_PROCESS_ID"])
assert os.environ["JAX_NUM_PROCESSES"] == "2" and ":" in os.environ["JAX_COORDINATOR_ADDRESS"]
if sys.argv[1] == "fails" and rank == 1: sys.exit(3)
if sys.argv[1] == "fails": time.sleep(60)
os.write(1, f"{rank}\n".encode())
"""


@pytest.mark.parametrize(("what", "status", "printed"), [("ends", 0, {"0", "1"}), ("fails", 3, set())])
def test_the_launcher(tmp_path, what, status, printed):
    """Every process has its number. When one fails, the others end, and the launcher exits with its status."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "backends.jax.launch", "--processes", "2", str(tmp_path / "script.py"), what]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode == status, run.stderr
    assert set(run.stdout.split()) == printed


def test_the_launcher_wants_a_process(capsys):
    with pytest.raises(SystemExit) as caught:
        launch.main(["--processes", "0", "x.py"])
    assert caught.value.code == 2
    assert "--processes 0: expected at least 1" in capsys.readouterr().err


def test_processes_take_the_address_of_the_launcher(monkeypatch):
    """With GPUs, the number of a process is that of its GPU."""
    called = {}
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "1")
    monkeypatch.setenv("JAX_LOCAL_PROCESS_ID", "3")
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **named: called.update(given=given))
    processes = Processes(gpu=True)
    assert called["given"] == (None, 1, 0, [3])
    assert processes.total([1.5, 2.0]).tolist() == [1.5, 2.0]
    assert processes.mean({"a": jax.numpy.ones(3)})["a"].tolist() == [1.0, 1.0, 1.0]


def test_a_gpu_is_found_by_its_own_number(monkeypatch):
    """One of several processes sees one GPU, whose number is not 0."""

    class Card:
        def __init__(self, number):
            self.local_hardware_id = number

    monkeypatch.setattr(jax, "local_devices", lambda backend: [Card(2), Card(3)])
    from backends.device import Device

    assert backend.gpus() == 2
    assert backend.place(Device("gpu", 3)).local_hardware_id == 3
