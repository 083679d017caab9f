"""What the publishers' networks differ in: their own classes, judged by each other's specs.

`python tests/peers/certify.py` runs `zoo parity --against` on every pair, and writes docs/differences.md. It exits with
1 if a difference is left without a proved cause.
"""

import importlib
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from publishers import import_paddleclas, import_torchvision

from zoo.errors import ZooError
from zoo.parity import against

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "differences.md"
SIZE = 139
"""Side of the input in pixels. The differences do not depend on it, and this size takes a quarter of the time."""

PAIRS = {
    "torch": [
        ("timm.inception_v3", "inception_v3.mindcv"),
        ("timm.inception_v3", "inception_v3.paddleclas"),
        ("timm.inception_v4", "inception_v4.paddleclas"),
        ("timm.inception_resnet_v2", "inception_resnet_v2.slim"),
        ("timm.legacy_xception", "xception.keras"),
        ("timm.legacy_xception", "xception.mindcv"),
        ("timm.xception41", "xception41.paddleclas_deeplab"),
        ("torchvision.googlenet", "googlenet.slim"),
        ("torchvision.googlenet", "googlenet.mindcv"),
        ("torchvision.inception_v3", "inception_v3.keras"),
    ],
    "mindspore": [
        ("mindcv.googlenet", "googlenet"),
        ("mindcv.inception_v3", "inception_v3"),
        ("mindcv.inception_v4", "inception_v4.paddleclas"),
        ("mindcv.xception", "xception"),
    ],
    "paddle": [
        ("paddleclas.inception_v3.InceptionV3", "inception_v3"),
        ("paddleclas.inception_v4.InceptionV4", "inception_v4"),
        ("paddleclas.xception_deeplab.Xception41_deeplab", "xception41"),
    ],
}
"""A publisher's class, and the spec of another publisher's network of the same name."""

INTRODUCTION = """# What the publishers' networks differ in

Made by `python tests/peers/certify.py`; do not edit. Each row runs a publisher's own class, in its own framework and
with its own random weights, against the spec of another publisher's network of that name:
`zoo parity SPEC --against CLASS`. Every cause was proved by a repair: with the changes that the row lists, made to the
spec, no difference is left unless the last column says so. [parity.md](parity.md) explains the causes.

| class | against the spec of | operations compared | causes, and at how many places | left |
|---|---|---|---|---|
"""


def __getattr__(name):
    """A function that builds a publisher's network: `certify:timm.inception_v3`."""
    if name in ("timm", "torchvision", "mindcv", "paddleclas"):
        return Publisher(name)
    raise AttributeError(f"module 'certify' has no attribute {name!r}")


class Publisher:
    """Its attributes are functions without arguments."""

    def __init__(self, name, *path):
        self.name, self.path = name, path

    def __getattr__(self, name):
        return Publisher(self.name, *self.path, name)

    def __call__(self):
        (*modules, model) = self.path
        if self.name == "mindcv":
            import mindcv

            return mindcv.create_model(model)
        if self.name == "paddleclas":
            folder = "legendary_models" if modules == ["inception_v3"] else "model_zoo"
            return getattr(importlib.import_module(f"{import_paddleclas()}.{folder}.{modules[0]}"), model)()
        models = import_torchvision()
        if self.name == "torchvision":
            return getattr(models, model)(weights=None, init_weights=False)
        import timm

        return timm.create_model(model)


def row(framework, name, spec):
    """The row of the table, and whether every difference has a proved cause."""
    begun = time.perf_counter()
    try:
        found = against(spec, f"certify:{name}", framework=framework, size=SIZE, timeout=1200)
    except ZooError as error:
        return f"| `{name}` | `{spec}` | | not run: {error} | |", False
    counts = {}
    for cause in found["causes"]:
        counts[cause["cause"]] = counts.get(cause["cause"], 0) + len(cause["where"])
    causes = ", ".join(f"{cause} ({count})" for cause, count in counts.items())
    causes = causes or ("none: it is the same network" if found["ok"] else "not explained")
    left = len(found["left"])
    print(f"{name}, {spec}: {causes}; {left} left; {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return f"| `{name}` | `{spec}` | {found['checked']} | {causes} | {left or ''} |", not left


def main():
    os.chdir(HERE)
    rows = [row(framework, *pair) for framework, pairs in PAIRS.items() for pair in pairs]
    DOCUMENT.write_text(INTRODUCTION + "\n".join(line for line, _ in rows) + "\n")
    print(DOCUMENT.read_text())
    return int(not all(explained for _, explained in rows))


if __name__ == "__main__":
    sys.exit(main())
