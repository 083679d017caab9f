"""The cost of a training step relative to each publisher's own: Inception-v4 at 299 pixels, batch 8.

Ours and the publisher's run in two processes and take turns, step by step, so that other load on the machine slows
both. The publisher's is its class with the plain training step of its framework's documentation: cross-entropy, SGD
with momentum 0.9. JAX has no publisher, so our own network takes such a step. A second table has the loader alone.

    python benchmarks/training.py [--size 299] [--batch 8] [--rounds 5] [--pairs torch,mindspore,paddle,jax]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "peers")]
PEERS = {"torch": "timm", "mindspore": "mindcv", "paddle": "paddleclas", "jax": "flax"}
LR, MOMENTUM, CLASSES = 0.01, 0.9, 1000
Step = Callable[[np.ndarray, np.ndarray], float]


def ours(framework: str, graph: bool = False) -> Step:
    import zoo
    from backends.training import trainer
    from zoo.training.optimizers import Optimizer
    from zoo.training.plan import Plan, groups

    net = zoo.build("inception_v4", backend=framework)
    training = trainer(framework, net, Plan(Optimizer("momentum", MOMENTUM), groups(net.spec), graph=graph))
    targets = np.eye(CLASSES, dtype=np.float32)
    return lambda x, labels: float(training.step(x, targets[labels], LR))


def timm() -> Step:
    from publishers import import_torchvision

    import_torchvision()
    import torch
    from timm.models import create_model

    net = create_model("inception_v4").train()
    optimizer = torch.optim.SGD(net.parameters(), LR, MOMENTUM)

    def step(x: np.ndarray, labels: np.ndarray) -> float:
        loss = torch.nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def mindcv() -> Step:
    """The network of mindcv, in GRAPH mode, its default."""
    import mindspore as ms
    from mindcv.loss import create_loss
    from mindcv.models import create_model

    ms.set_context(mode=ms.GRAPH_MODE)
    net = create_model("inception_v4")
    optimizer = ms.nn.Momentum(net.trainable_params(), LR, MOMENTUM)
    step = ms.nn.TrainOneStepCell(ms.nn.WithLossCell(net, create_loss("CE")), optimizer)
    step.set_train()
    return lambda x, labels: float(step(ms.Tensor(x), ms.Tensor(labels.astype(np.int32))).asnumpy())


def paddleclas() -> Step:
    """PaddleClas's network in dygraph, as its engine trains by default."""
    from publishers import import_paddleclas

    import_paddleclas()
    import paddle
    from ppcls.arch.backbone.model_zoo.inception_v4 import InceptionV4

    net = InceptionV4(class_num=CLASSES)
    net.train()
    optimizer = paddle.optimizer.Momentum(LR, MOMENTUM, parameters=net.parameters())

    def step(x: np.ndarray, labels: np.ndarray) -> float:
        loss = paddle.nn.functional.cross_entropy(net(paddle.to_tensor(x)), paddle.to_tensor(labels))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return float(loss)

    return step


def flax() -> Step:
    """Our network in the training step of Flax's documentation, with Optax."""
    import optax
    from flax import nnx

    import zoo

    net = zoo.build("inception_v4", backend="jax", train=True)
    optimizer = nnx.Optimizer(net, optax.sgd(LR, MOMENTUM), wrt=nnx.Param)

    @nnx.jit
    def train(net: nnx.Module, optimizer: nnx.Optimizer, x: np.ndarray, labels: np.ndarray) -> object:
        def loss_of(net: nnx.Module) -> object:
            return optax.softmax_cross_entropy_with_integer_labels(net(x), labels).mean()

        loss, gradients = nnx.value_and_grad(loss_of)(net)
        optimizer.update(net, gradients)
        return loss

    return lambda x, labels: float(train(net, optimizer, x, labels))


MAKERS: dict[str, Callable[[], Step]] = {
    "timm": timm,
    "mindcv": mindcv,
    "paddleclas": paddleclas,
    "flax": flax,
    "torch": lambda: ours("torch"),
    "mindspore": lambda: ours("mindspore", graph=True),
    "paddle": lambda: ours("paddle"),
    "jax": lambda: ours("jax", graph=True),
}


class Worker:
    """A process that makes a training step on request."""

    def __init__(self, name: str, size: int, batch: int) -> None:
        command = [sys.executable, __file__, "--worker", name, "--size", str(size), "--batch", str(batch)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def step(self) -> float:
        assert self.process.stdin
        assert self.process.stdout
        print(file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("seconds "):
                return float(line.split()[1])
        raise SystemExit(f"{self.process.args}: ended with status {self.process.wait()}")

    def stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def work(name: str, size: int, batch: int) -> None:
    step = MAKERS[name]()
    random = np.random.default_rng(0)
    x = random.standard_normal((batch, 3, size, size)).astype(np.float32)
    labels = random.integers(0, CLASSES, batch)
    for _ in sys.stdin:
        start = time.perf_counter()
        step(x, labels)
        print("seconds", time.perf_counter() - start, flush=True)
    os._exit(0)


def loading(size: int, consumed: float) -> None:
    """Measure the loader alone, on JPEGs of ImageNet's usual size, relative to the fastest network."""
    import tempfile

    from PIL import Image

    from zoo.data import Augment, Evaluate, Loader, Mixing, open_dataset
    from zoo.data.images import sample_photographs
    from zoo.language.model import configure
    from zoo.models import MODELS

    model = configure(MODELS["inception_v4"])
    pipelines = {
        "training: crop, flip, colour jitter": Augment(size),
        "and randaug-m9-mstd0.5, erasing, mixup": Augment(size, auto_augment="randaug-m9-mstd0.5", re_prob=0.25),
        "validation: resize, centre crop": Evaluate(model, size),
    }
    with tempfile.TemporaryDirectory() as root:
        for label, photograph in enumerate(sample_photographs()):
            folder = Path(root, "train", str(label))
            folder.mkdir(parents=True)
            for k in range(128):
                Image.fromarray(np.asarray(photograph)).resize((500, 375)).save(folder / f"{k}.jpg", quality=90)
        data = open_dataset("jpegs", root, "train")
        print(
            f"\n{'the loader alone, 256 JPEGs of 500 x 375':42}{'images/s':>10}{'ms an image':>13}   "
            "times the fastest network"
        )
        for name, transform in pipelines.items():
            mixing = Mixing(2, mixup=0.2 if "mixup" in name else 0.0)
            loader = Loader(data, transform, 32, seed=0, shuffle=True, workers=8, mixing=mixing)
            start = time.perf_counter()
            count = sum(len(batch.images) for batch in loader.epoch(0))
            seconds = time.perf_counter() - start
            print(f"{name:42}{count / seconds:10.1f}{1000 * seconds / count:13.2f}   {count / seconds / consumed:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", default=",".join(PEERS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker, options.size, options.batch)
    print(f"{'ours':12}{'s a step':>10}   {'theirs':12}{'s a step':>10}   ratio (median of {options.rounds} pairs)")
    fastest = 0.0
    for framework in options.pairs.split(","):
        names = (framework, PEERS[framework])
        workers = [Worker(name, options.size, options.batch) for name in names]
        for worker in workers:
            worker.step()  # compiles, allocates
            worker.step()
        pairs = [[worker.step() for worker in workers] for _ in range(options.rounds)]
        for worker in workers:
            worker.stop()
        mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{names[0]:12}{mine:10.2f}   {names[1]:12}{theirs:10.2f}   {ratio:.2f}", flush=True)
        fastest = max(fastest, options.batch / mine)
    loading(options.size, fastest)


if __name__ == "__main__":
    main()
