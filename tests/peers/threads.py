"""Public threads about the Inception family, answered by a run: `python tests/peers/threads.py` writes docs/threads.md.

threads.template.md is the page without its figures. Each function of `ANSWERS` runs what one section is about, asserts
what the section claims, and returns its figures: {{function.key:format}} in the template. If an assertion fails the
page is left as it is and the exit status is 1. `threads.py NAME ...` runs some functions and prints their figures.
"""

import functools
import importlib
import json
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from publishers import import_paddleclas
from thread_networks import (
    cadene,
    calibrated,
    change,
    judged,
    logits,
    photographs,
    torchvision_googlenet,
    torchvision_v3,
    torchvision_with_weights,
    with_imagenet_normalisation,
)

import weights
import zoo
from backends import get, worker
from zoo.language import Conv, Head, Model, Preprocess, stages
from zoo.language.interpreter import Interpreter
from zoo.language.model import configure
from zoo.parity import against, gradients, pairs
from zoo.parity.bands import band_of, error

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "threads.md"
SIZE = 139
"""Side of the input in pixels, for comparisons where it does not matter."""


# What the answers share


def causes(found):
    """The proved causes of `against`, with the number of places of each; None if another difference is left."""
    counts = {}
    for cause in found["causes"]:
        counts[cause["cause"]] = counts.get(cause["cause"], 0) + len(cause["where"])
    return None if found["left"] else counts


def judge(spec, name, **more):
    """`zoo parity SPEC --against thread_networks:NAME --size 139`."""
    return against(spec, f"thread_networks:{name}", **{"size": SIZE, **more})


@functools.cache
def apart(name):
    """The figures of a function of `CHILDREN`, run in a process of its own: Paddle's functions."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "figures.json")
        run = subprocess.run([sys.executable, __file__, name, str(out)], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-2000:]
        return json.loads(out.read_text())


# One function for each section


def tensorflow_v3():
    found = [judge("inception_v3.keras", name) for name in ("torchvision_v3", "timm_v3")]
    assert [causes(one) for one in found] == [{"count_include_pad": 9}] * 2
    assert judge("inception_v3", "torchvision_v3")["ok"]
    far = pairs.compare("inception_v3", "inception_v3.keras")["max_rel_difference"]
    assert far > 1e-2
    return {"checked": found[0]["checked"], "pools": causes(found[0])["count_include_pad"], "far": far}


def lost_transform():
    first, second = (torchvision_with_weights("inception_v3", transform_input=on) for on in (True, False))
    second.load_state_dict(first.state_dict())
    spec = zoo.spec("inception_v3")
    x = photographs(with_imagenet_normalisation(spec))
    before, after, ours = logits(first, x), logits(second, x), logits(second, photographs(spec))
    second.transform_input = True
    assert np.array_equal(logits(second, x), before)
    assert np.abs(after - before).max() > 0.1
    assert error(ours, before) < 1e-5
    found = [judge("inception_v3", "transforming_v3"), judge("googlenet", "transforming_googlenet")]
    assert [causes(one) for one in found] == [{"normalisation": 1}] * 2
    found = found[0]["change"].partition(": ")[2]
    return {"apart": np.abs(after - before).max(), "far": error(after, before), "found": found}


def preprocessing():
    spec, _, right, _, band = judged("inception_v3")
    net = torchvision_with_weights("inception_v3")
    others = {
        "small": replace(spec, size=224, preprocess=replace(spec.preprocess, resize=256)),
        "bicubic": replace(spec, preprocess=replace(spec.preprocess, interpolation="bicubic")),
        "imagenet": with_imagenet_normalisation(spec),
    }
    expected = logits(net, right)
    figures = {name: error(logits(net, photographs(other)), expected) for name, other in others.items()}
    assert min(figures.values()) > 100 * band
    return figures | {"band": band}


def five_by_five():
    kernels = [m.kernel_size for m in torchvision_googlenet().modules() if isinstance(m, torch.nn.Conv2d)]
    own = judge("googlenet", "torchvision_googlenet")
    paper = against("googlenet.mindcv", "certify:mindcv.googlenet", framework="mindspore", size=SIZE)
    mindcv, slim = (
        [
            (row["what"], row["first"], row["second"])
            for row in pairs.compare("googlenet", other, run=False)["differences"]
        ]
        for other in ("googlenet.mindcv", "googlenet.slim")
    )
    places = mindcv.count(("kernel", "3", "5"))
    assert own["ok"]
    assert paper["ok"]
    assert (places, kernels.count((5, 5))) == (9, 0)
    assert "kernel" not in {what for what, _, _ in slim}
    return {"kernels": len(kernels), "places": places, "own": own["checked"], "paper": paper["checked"]}


def swapped_heads():
    net = torchvision_with_weights("googlenet").train()
    seen = {}
    for name in ("aux1", "aux2"):
        getattr(net, name).register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))
    x = torch.from_numpy(photographs(zoo.spec("googlenet")))
    with torch.no_grad():
        now = net(x)
        assert now.aux_logits1 is seen["aux1"]
        assert now.aux_logits2 is seen["aux2"]
        y, aux1, aux2 = net._forward(x)  # as forward had it before the fix; _forward returns logits, aux2, aux1
        before = net.eager_outputs(y, aux2, aux1)
    assert before.aux_logits1 is seen["aux2"]
    assert before.aux_logits2 is seen["aux1"]
    return {"far": error(before.aux_logits1.numpy(), seen["aux1"].numpy()), "version": version("torchvision")}


def dropped_count_include_pad():
    found = judge("bninception", "converted", size=224)
    assert causes(found).keys() == {"count_include_pad"}
    return {
        "pools": causes(found)["count_include_pad"],
        "first": found["first"]["path"],
        "far": found["first"]["error"],
    }


def zero_momentum():
    """Cadene's Inception-v4 in training on pale versions of the photographs, which its statistics do not fit."""
    spec, layers = zoo.spec("inception_v4"), cadene("inceptionv4")
    x = torch.from_numpy(photographs(spec)[:, :, 80:219, 80:219] * 0.25 + 0.5)
    figures = {}
    for name, momentum in (("zero", 0.0), ("tenth", 0.1)):
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            weights.write(Path(folder, "net.pth"), calibrated("inception_v4"), spec, to="cadene")
            net = change(cadene("inceptionv4"), "BatchNorm2d", momentum=momentum)
            net.load_state_dict(torch.load(Path(folder, "net.pth"), weights_only=True))
            old = {key: value.clone() for key, value in net.state_dict().items() if key.endswith("running_mean")}
            net.train()
            for _ in range(60):
                trained = net.features(x).mean((2, 3))
            figures[name] = error(net.eval().features(x).mean((2, 3)).numpy(), trained.numpy())
            figures[f"{name}_moved"] = sum(not torch.equal(net.state_dict()[key], value) for key, value in old.items())
    found = judge("inception_v4", "momentum_zero", size=299)
    assert found["ok"]
    assert figures["zero_moved"] == 0 < figures["tenth_moved"] == len(old)
    assert figures["zero"] > 3 * figures["tenth"]
    shipped = {module.momentum for module in layers.modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert shipped == {0.1}
    return figures | {"version": version("pretrainedmodels"), "checked": found["checked"]}


def relus_in_place():
    used, lost = (judge("bninception", name, size=224) for name in ("unused_relus", "unused_relus_not_in_place"))
    assert used["ok"]
    assert causes(lost) == {"missing_relu": 4}
    return {"checked": used["checked"], "places": causes(lost)["missing_relu"]}


def exported_pools():
    figures = {"version": version("torch")}
    with tempfile.TemporaryDirectory() as folder:
        for dynamo in (False, True):
            path = str(Path(folder, f"{dynamo}.onnx"))
            torch.onnx.export(torchvision_v3(), (torch.zeros(1, 3, SIZE, SIZE),), path, dynamo=dynamo, verbose=False)
            nodes = onnx.load(path).graph.node
            pads = [list(a.ints) for n in nodes if n.op_type == "AveragePool" for a in n.attribute if a.name == "pads"]
            found = against("inception_v3", path, size=SIZE)
            assert found["ok"]
            assert pads == [[1, 1, 1, 1]] * 9
            assert "Pad" not in {n.op_type for n in nodes}
            figures |= {"pools": len(pads), "pads": pads[0], "checked": found["checked"]}
    return figures


def convolutions():
    """The two convolutions of pytorch/pytorch#170016."""
    random, figures, apart_by = np.random.default_rng(0), {}, []
    cases = {"test474": (384, 256, 3, 13, "half"), "test1269": (20, 20, 5, 10, "valid")}
    for name, (inputs, outputs, kernel, side, padding) in cases.items():
        conv = stages(conv=Conv(outputs, kernel, bias=True, act=False, padding=padding))
        net = Model(name=name, stages=conv, head=Head(), norm=None, preprocess=Preprocess(resize=side), size=side)
        net = configure(net, num_classes=10, in_channels=inputs)
        arrays = {key: random.standard_normal(a.shape, np.float32) for key, a in weights.initial(net).items()}
        x = random.standard_normal((1, inputs, side, side), np.float32)
        expected = Interpreter(net, {key: array.astype(np.float64) for key, array in arrays.items()}).tape(x)["conv"]
        band = band_of(lambda run, x=x: run.tape(x)["conv"], net, arrays, expected)
        backends = ("torch", "mindspore", "paddle", "openvino")
        y = {backend: worker.run(backend, net, arrays, x, tape=True).outputs["conv"] for backend in backends}
        errors = {backend: error(output, expected) for backend, output in y.items()}
        assert max(errors.values()) <= band
        ranked = ", ".join(f"{backend} {errors[backend]:.1e}" for backend in sorted(errors, key=errors.get))
        figures |= {name: ranked, f"{name}_band": band, f"{name}_largest": np.abs(expected).max()}
        apart_by += [(np.abs(output - y["torch"]), np.abs(output)) for output in y.values()]
    figures["apart"] = max(difference.max() for difference, _ in apart_by)
    figures["outside"] = max((difference > 1e-5 + 1e-6 * size).mean() for difference, size in apart_by)
    assert figures["apart"] > 1e-4
    return figures


def two_e_minus_seven():
    spec, arrays, x, expected, band = judged("googlenet")
    ours = worker.run("paddle", spec, arrays, x).outputs["logits"]
    theirs = logits(torchvision_with_weights("googlenet"), x)
    figures = {"torch": error(theirs, expected), "paddle": error(ours, expected)}
    assert max(figures.values()) <= band
    apart_by = np.abs(ours - theirs)
    return figures | {"band": band, "mean": apart_by.mean(), "max": apart_by.max(), "largest": np.abs(expected).max()}


def onednn():
    """Run apart: Paddle Inference with oneDNN, and plain Paddle."""
    spec, arrays, x, expected, band = judged("googlenet")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "net.safetensors")
        weights.write(file, arrays, spec)
        plain = get("paddle").predict(zoo.build(checkpoint=file, backend="paddle"), x)["logits"]
        engine = zoo.build(checkpoint=file, backend="paddle", mode="deploy", threads=2)
    first = engine(x)
    repeated = [engine(x) for _ in range(10)]
    for other in (x[::-1].copy(), x[:1] * 2, np.zeros((3, 3, 128, 128), np.float32)):
        engine(other)
    repeated.append(engine(x))
    single = np.concatenate([engine(x[:1]), engine(x[1:])] * 4)
    return {
        "engine": engine.description,
        "band": band,
        "plain_error": error(plain, expected),
        "engine_error": error(first, expected),
        "apart": float(np.abs(first - plain).max()),
        "largest": float(np.abs(expected).max()),
        "runs": len(repeated),
        "same": sum(np.array_equal(first, y) for y in repeated),
        "steady": max(error(y, first) for y in repeated),
        "batch": error(engine(np.concatenate([x] * 4)), single),
    }


def deployed_paddle():
    figures = apart("onednn")
    assert max(figures[key] for key in ("plain_error", "engine_error", "steady", "batch")) <= figures["band"]
    return figures


def paddleclas():
    """Run apart: PaddleClas's InceptionV3 before and after export, and with another preprocessing."""
    module = importlib.import_module(f"{import_paddleclas()}.legendary_models.inception_v3")
    import paddle

    spec, arrays, x, _, band = judged("inception_v3.paddleclas")
    net = module.InceptionV3()
    with tempfile.TemporaryDirectory() as folder:
        weights.write(Path(folder, "net.pdparams"), arrays, spec, to="paddleclas")
        net.set_state_dict(paddle.load(str(Path(folder, "net.pdparams"))))
        net.eval()
        static = paddle.jit.to_static(net, input_spec=[paddle.static.InputSpec([None, 3, None, None], "float32")])
        paddle.jit.save(static, str(Path(folder, "inference")))
        config = paddle.inference.Config(*(str(Path(folder, f"inference.{end}")) for end in ("json", "pdiparams")))
        predictor = paddle.inference.create_predictor(config)
    squeezed = replace(spec.preprocess, resize=spec.size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    other = photographs(replace(spec, preprocess=squeezed))
    with paddle.no_grad():
        before, changed = (net(paddle.to_tensor(images)).numpy() for images in (x, other))
    after = predictor.run([paddle.to_tensor(x)])[0].numpy()
    return {"band": band, "export": error(after, before), "other": error(changed, before)}


def two_scripts():
    figures = apart("paddleclas")
    assert figures["export"] <= 2 * figures["band"]
    assert figures["other"] > 1e-2
    return figures


def published_accuracy():
    own = against("xception.mindcv", "certify:mindcv.xception", framework="mindspore", size=SIZE)
    trained = gradients.compare(["xception.mindcv"], ("mindspore",), width=0.25)
    assert own["ok"]
    assert trained["ok"]
    entry = trained["models"][0]["backends"]["mindspore"]
    worst = ", ".join(f"{kind} {one['error']:.1e} ({one['band']:.1e})" for kind, one in entry["worst"].items())
    return {"checked": own["checked"], "worst": worst, "chance": math.log(1000)}


TRAINING = """--model inception_v4 --width 0.25 --image_resize 107 --dataset digits --num_samples 48 --batch_size 8
    --lr 0.001 --warmup_epochs 0 --epoch_size 1 --log_interval 1 --num_parallel_workers 1 --mode 1 --backend mindspore
    --ckpt_save_dir run --distribute"""


def distributed():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = f"-m mindspore.parallel.cluster.run --worker_num 2 --local_worker_num 2 --join True --master_port {port}"
    script = str(HERE.parents[1] / "train.py")
    command = [sys.executable, *launcher.split(), "--log_dir", "logs", script, *TRAINING.split()]
    paths = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(command, cwd=folder, env=paths, timeout=300, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout[-2000:]
        said = Path(folder, "logs", "worker_0.log").read_text(errors="replace")
    losses = [float(loss) for loss in re.findall(r"batch: \[\d+/3\], loss: ([\d.]+)", said)]
    assert len(losses) == 3, said[-2000:]
    assert all(map(math.isfinite, losses))
    return {"losses": ", ".join(f"{loss:.3f}" for loss in losses), "version": version("mindspore")}


ANSWERS = (
    *(tensorflow_v3, lost_transform, preprocessing, five_by_five, swapped_heads),
    *(dropped_count_include_pad, zero_momentum, relus_in_place, exported_pools),
    *(convolutions, two_e_minus_seven, deployed_paddle, two_scripts),
    *(published_accuracy, distributed),
)
CHILDREN = {function.__name__: function for function in (onednn, paddleclas)}


def filled(template, figures):
    """The template with every {{function.key:format}} replaced. Raises KeyError for a figure that no function has."""

    def figure(found):
        function, key = found["name"].split(".")
        return format(figures[function][key], found["format"] or "")

    return re.sub(r"\{\{(?P<name>[\w.]+)(:(?P<format>[^}]+))?\}\}", figure, template)


def main(names):
    os.chdir(HERE)
    figures, failed = {}, []
    for function in ANSWERS:
        if names and function.__name__ not in names:
            continue
        begun = time.perf_counter()
        try:
            figures[function.__name__] = function()
        except Exception:
            failed.append(function.__name__)
            traceback.print_exc()
        print(f"{function.__name__}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    if failed:
        print(f"no longer as the page says: {', '.join(failed)}", file=sys.stderr)
    elif names:
        print(*(f"{name}.{key}: {value}" for name, keys in figures.items() for key, value in keys.items()), sep="\n")
    else:
        packages = "torch torchvision timm pretrainedmodels mindspore mindcv paddlepaddle paddleclas onnx openvino"
        figures["versions"] = {"all": ", ".join(f"{name} {version(name)}" for name in packages.split())}
        DOCUMENT.write_text(filled((HERE / "threads.template.md").read_text(), figures))
    return int(bool(failed))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in CHILDREN:
        Path(sys.argv[2]).write_text(json.dumps(CHILDREN[sys.argv[1]]()))
        sys.stdout.flush()
        os._exit(0)
    sys.exit(main(sys.argv[1:]))
