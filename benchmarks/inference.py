"""How fast our networks run, beside the publishers' own: each in a process of its own, all taking turns.

    python benchmarks/inference.py [--models inception_v4,inception_v3] [--batches 1,8] [--rounds 15] [--device gpu]
                                   [--compiled inception_v4] [--out docs/speed.md]

The publishers' networks have random weights and their native size. They are timm's (torchvision's for GoogLeNet) in
PyTorch, eager, channels-last, traced and frozen, and with --compiled in `torch.compile` with freezing, which takes
minutes to compile; mindcv's in MindSpore, PyNative and GRAPH; PaddleClas's in dygraph, and exported to Paddle Inference
with oneDNN; and timm's exported to ONNX, in ONNX Runtime and OpenVINO. `zoo bench` measures only ours.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "peers")]

from backends.timing import TimedProcess, serve  # noqa: E402
from zoo import bench  # noqa: E402
from zoo.catalogue import spec  # noqa: E402
from zoo.frameworks import FRAMEWORKS  # noqa: E402

MODELS = ("inception_v4", "inception_v3", "googlenet", "inception_resnet_v2", "xception", "xception65")
TIMM = {"xception": "legacy_xception", "googlenet": None}
MINDCV = ("inception_v4", "inception_v3", "googlenet", "xception")
PADDLECLAS = {
    "inception_v4": ("model_zoo.inception_v4", "InceptionV4"),
    "inception_v3": ("legendary_models.inception_v3", "InceptionV3"),
    "googlenet": ("model_zoo.googlenet", "GoogLeNet"),
    "xception65": ("model_zoo.xception", "Xception65"),
}
Call = Callable[[np.ndarray], object]


def torch_network(model: str) -> Any:
    from publishers import import_torchvision

    models = import_torchvision()
    if TIMM.get(model, model) is None:
        return models.googlenet(weights=None, init_weights=False, aux_logits=False).eval()
    import timm

    return timm.create_model(TIMM.get(model, model)).eval()


def torch_peer(how: str) -> Callable[[str, str], Call]:
    def make(model: str, device: str) -> Call:
        import torch

        net = torch_network(model).to(device)
        last = how != "eager"
        half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(how.rpartition(" ")[2], torch.float32)
        net = net.to(half, memory_format=torch.channels_last) if last else net.to(half)
        if how == "frozen":
            example = torch.zeros(1, 3, spec(model).size, spec(model).size).to(memory_format=torch.channels_last)
            with torch.no_grad():
                net = torch.jit.freeze(torch.jit.trace(net, example))
        if how.startswith("compiled"):
            net = torch.compile(net, options={"freezing": True})

        @torch.no_grad()
        def call(x: np.ndarray) -> object:
            images = torch.from_numpy(x).to(device, half)
            return net(images.to(memory_format=torch.channels_last) if last else images).float().cpu().numpy()

        return call

    return make


def mindcv_peer(graph: bool) -> Callable[[str, str], Call]:
    def make(model: str, device: str) -> Call:
        import mindspore as ms
        from mindcv.models import create_model

        ms.set_context(mode=ms.GRAPH_MODE if graph else ms.PYNATIVE_MODE)
        net = create_model(model)
        net.set_train(False)

        def call(x: np.ndarray) -> object:
            outputs = net(ms.Tensor(x))
            return (outputs[0] if isinstance(outputs, tuple) else outputs).asnumpy()

        return call

    return make


def paddle_network(model: str) -> Any:
    from publishers import import_paddleclas

    from backends import get

    get("paddle")  # sets its environment variables: threads, MKL's kernels
    module, name = PADDLECLAS[model]
    net = getattr(importlib.import_module(f"{import_paddleclas()}.{module}"), name)()
    net.eval()
    return net


def paddleclas_eager(model: str, device: str) -> Call:
    import paddle

    net = paddle_network(model)

    @paddle.no_grad()
    def call(x: np.ndarray) -> object:
        outputs = net(paddle.to_tensor(x))
        return (outputs[0] if isinstance(outputs, list) else outputs).numpy()

    return call


def paddleclas_inference(model: str, device: str) -> Call:
    import paddle
    from paddle import inference

    net, side = paddle_network(model), spec(model).size
    with tempfile.TemporaryDirectory() as folder:
        paddle.jit.save(net, f"{folder}/net", [paddle.static.InputSpec([None, 3, side, side], "float32")])
        config = inference.Config(f"{folder}/net.json", f"{folder}/net.pdiparams")
        config.enable_mkldnn()
        config.set_cpu_math_library_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        predictor = inference.create_predictor(config)
    source = predictor.get_input_handle(predictor.get_input_names()[0])
    result = predictor.get_output_handle(predictor.get_output_names()[0])

    def call(x: np.ndarray) -> object:
        source.copy_from_cpu(x)
        predictor.run()
        return result.copy_to_cpu()

    return call


def onnx_of(model: str) -> bytes:
    """The publisher's network in ONNX, by PyTorch's exporter."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.onnx")
        torch.onnx.export(
            torch_network(model),
            (torch.zeros(2, 3, spec(model).size, spec(model).size),),
            path,
            input_names=["images"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


def onnx_peer(runtime: str, dtype: str = "fp32") -> Callable[[str, str], Call]:
    def make(model: str, device: str) -> Call:
        from backends import load
        from backends.engine import EngineOptions

        proto = onnx_of(model)
        run = load(runtime, "network").compiled(proto, EngineOptions(dtype))
        return lambda x: run(x)

    return make


PEERS: dict[str, Callable[[str, str], Call]] = {
    "timm eager": torch_peer("eager"),
    "timm channels-last": torch_peer("channels-last"),
    "timm jit.freeze": torch_peer("frozen"),
    "timm compile, freezing": torch_peer("compiled"),
    "timm channels-last fp16": torch_peer("channels-last fp16"),
    "timm channels-last bf16": torch_peer("channels-last bf16"),
    "timm compile fp16": torch_peer("compiled fp16"),
    "mindcv PyNative": mindcv_peer(False),
    "mindcv GRAPH": mindcv_peer(True),
    "PaddleClas dygraph": paddleclas_eager,
    "PaddleClas Paddle Inference": paddleclas_inference,
    "timm in ONNX Runtime": onnx_peer("onnx"),
    "timm in OpenVINO": onnx_peer("openvino"),
    "timm in OpenVINO bf16": onnx_peer("openvino", "bf16"),
}

OURS = (
    *(("torch", "eager", "fp32"), ("torch", "deploy", "fp32"), ("torch", "deploy", "bf16")),
    *(("mindspore", "eager", "fp32"), ("mindspore", "graph", "fp32"), ("mindspore", "deploy", "fp32")),
    *(("paddle", "eager", "fp32"), ("paddle", "deploy", "fp32"), ("paddle", "deploy", "bf16")),
    *(("onnx", "deploy", "fp32"), ("onnx", "deploy", "int8")),
    *(("openvino", "deploy", "fp32"), ("openvino", "deploy", "bf16"), ("openvino", "deploy", "int8")),
)
OURS_ON_GPU = tuple(("torch", mode, dtype) for mode, dtype in (
    ("eager", "fp32"), ("deploy", "fp32"), ("deploy", "tf32"), ("deploy", "bf16"), ("deploy", "fp16")
))  # fmt: skip

TARGETS = (
    ("torch deploy fp32", ("timm eager", "timm channels-last", "timm jit.freeze", "timm compile, freezing"), 1.0),
    ("torch deploy fp32", ("timm eager",), 1.5),
    ("mindspore deploy fp32", ("mindcv GRAPH",), 1.2),
    ("mindspore eager fp32", ("mindcv PyNative",), 1.0),
    ("paddle deploy fp32", ("PaddleClas Paddle Inference",), 1.03),
    ("onnx deploy fp32", ("timm in ONNX Runtime",), 1.03),
    ("openvino deploy fp32", ("timm in OpenVINO",), 1.03),
    ("openvino deploy bf16", ("openvino deploy fp32",), 2.0),
    ("openvino deploy int8", ("openvino deploy fp32",), 2.5),
    ("onnx deploy int8", ("onnx deploy fp32",), 2.5),
)
"""A way that we run a network, those that it is compared with (the fastest counts), and how many times as fast it
should be (for Inception-v4)."""


def has(peer: str, model: str) -> bool:
    if peer.startswith("mindcv"):
        return model in MINDCV
    return model in PADDLECLAS if peer.startswith("PaddleClas") else True


def ways(model: str, settings: bench.Settings, compiled: bool) -> list[Any]:
    """Our ways and the publishers' to run the model: the fields that identify each, and the function that starts it."""
    found: list[Any] = []
    gpu = settings.device is not None and settings.device.startswith("gpu")
    for backend, mode, dtype in OURS_ON_GPU if gpu else OURS:
        own = bench.Settings((backend,), (mode,), (dtype,), settings.batches, settings.rounds, settings.device)
        found += bench.configurations(spec(model), own)
    for peer in PEERS:
        half = peer.endswith(("fp16", "bf16")) and peer.startswith("timm c")
        if not has(peer, model) or ("compile" in peer and not compiled) or half != (gpu and half):
            continue
        if gpu and not peer.startswith(("timm eager", "timm c")):
            continue
        words = (sys.executable, __file__, "--worker", peer)
        job = {"model": model, "device": "cuda" if gpu else "cpu"}

        def start(peer: str = peer, job: dict[str, Any] = job, words: tuple[str, ...] = words) -> TimedProcess:
            return TimedProcess(peer, job, words)

        found.append(({"backend": peer, "mode": "", "dtype": ""}, start))
    return found


def work(peer: str) -> None:
    def make(job: dict[str, Any]) -> tuple[Call, dict[str, Any], tuple[int, int, int]]:
        side = spec(job["model"]).size
        return PEERS[peer](job["model"], job["device"]), {"version": "", "description": peer}, (3, side, side)

    serve(make)


def ratios(rows: list[dict[str, Any]]) -> list[str]:
    """For each target: the median over rounds of the ratio of times, at each batch size."""
    times = {(" ".join(filter(None, (r["backend"], r["mode"], r["dtype"]))), r["batch"]): r["seconds"] for r in rows}
    batches = sorted({batch for _, batch in times})
    lines = [
        f"| ours | against | {' | '.join(f'batch {b}' for b in batches)} | wanted |",
        f"|---|---|{'---|' * (len(batches) + 1)}",
    ]
    for ours, others, wanted in TARGETS:
        found = []
        names: list[str] = []
        for batch in batches:
            there = [name for name in others if (name, batch) in times]
            if (ours, batch) not in times or not there:
                continue
            best = min(there, key=lambda name: float(np.median(times[name, batch])))
            names.append(best)
            found.append(f"{np.median(np.divide(times[best, batch], times[ours, batch])):.2f}")
        if len(found) == len(batches):
            lines.append(f"| {ours} | {', '.join(dict.fromkeys(names))} | {' | '.join(found)} | {wanted} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device")
    parser.add_argument("--compiled", default="", help="models for which torch.compile is measured too")
    parser.add_argument("--out")
    parser.add_argument("--json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker)
    settings = bench.Settings(
        tuple(FRAMEWORKS),
        batches=tuple(map(int, options.batches.split(","))),
        rounds=options.rounds,
        device=options.device,
    )
    text, documents = [], {}
    for model in options.models.split(","):
        document = bench.measured(spec(model), ways(model, settings, model in options.compiled.split(",")), settings)
        documents[model] = document
        part = f"## {model}\n\n{bench.markdown(document)}"
        for entry in document["skipped"]:
            way = " ".join(filter(None, (entry["backend"], entry["mode"], entry["dtype"])))
            part += f"\nNot run: {way}: {entry['reason'].splitlines()[0][:200]}\n"
        table = ratios(document["rows"])
        if len(table) > 2:
            part += "\nTimes as fast (the median of the rounds' ratios):\n\n" + "\n".join(table) + "\n"
        print(part, flush=True)
        text.append(part)
        if options.out:
            head = Path(options.out).read_text().partition("\n## ")[0] if Path(options.out).exists() else "# Speed\n"
            Path(options.out).write_text(head.rstrip() + "\n\n" + "\n".join(text))
        if options.json:
            Path(options.json).write_text(json.dumps(documents, indent=1))


if __name__ == "__main__":
    main()
