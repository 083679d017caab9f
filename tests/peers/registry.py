"""Every row of the published weights, from its address to a prediction: `python tests/peers/registry.py [PATTERN]`.

The publisher's own class saves a file with random weights, under the row's name, on a server on localhost. `zoo fetch`
downloads it, `zoo info` shows the network, and `zoo predict` classifies scikit-learn's two photographs in every
framework. Writes docs/registry.md, unless a pattern chooses some rows; exits with 1 when predictions differ.
"""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_images

sys.path.insert(0, str(Path(__file__).parents[1]))
from matrix import run_python
from support import batch

import weights
from weights import SOURCES
from weights.published import HUB, PUBLISHED
from zoo.commands import run
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import configure
from zoo.models import MODELS

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "registry.md"
TOLERANCE = 1e-5
"""The bound on differences of the scores of the five most probable classes."""

INTRODUCTION = f"""# Every published file, from its address to a prediction

Made by `python tests/peers/registry.py`; do not edit. For each row of `zoo list --pretrained`, the publisher's own
class saves a file, with random weights, on a server on localhost. `zoo fetch NAME` downloads and verifies it; `zoo
predict` classifies scikit-learn's two photographs, as the row says that images are preprocessed, in the three
frameworks. The last column is the largest difference between two frameworks' scores of the five most probable
classes; the classes are the same in the same order. The bound is {TOLERANCE:g}.

| weights | saved by | network | preprocessing from | scores differ by |
|---|---|---|---|---|
"""


def saved_by(row):
    """Whose class saves the row's file. mmpretrain's cannot be installed; it has torchvision's tensors."""
    return {"mmpretrain": "torchvision"}.get(row.source, row.source)


@cache
def publishers_folder(source, model, classes):
    """A folder with files that the publisher's class has saved."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    spec = configure(MODELS[model], num_classes=classes)
    arrays = weights.calibrated(spec)
    suffixes = {"torch": [".pth"], "mindspore": [".ckpt"], "paddle": [".pdparams"], "keras": [".weights.h5", ".h5"]}
    for suffix in suffixes[SOURCES[source].framework]:
        weights.write(folder / f"ours{suffix}", arrays, spec, to=source)
    np.save(folder / "inputs.npy", batch(spec, spec.size, count=1))
    run_python("-W", "ignore", HERE / "publishers.py", source, model, folder)
    return folder


def serve(row, root):
    """Put the row's file, and for a folder of the hub its config.json, below `root`; returns the digest of the file."""
    made = publishers_folder(saved_by(row), row.model, row.classes or 1000)
    target = root / row.file
    target.parent.mkdir(parents=True, exist_ok=True)
    if row.address.startswith(HUB):
        target.mkdir()
        how = row.preprocess
        crop = {"crop_pct": row.size / how.resize, "interpolation": how.interpolation, "mean": how.mean, "std": how.std}
        config = {"architecture": row.model, "pretrained_cfg": {"input_size": [3, row.size, row.size], **crop}}
        (target / "config.json").write_text(json.dumps(config))
        target /= "pytorch_model.bin"
    name = "bare.h5" if row.classes == 0 else next(iter(sorted(made.glob("theirs.[pckh]*")))).name
    if row.source == "mmpretrain":
        run_python("-c", WRAP, made / name, target)
    else:
        target.write_bytes((made / name).read_bytes())
    return hashlib.sha256(target.read_bytes()).hexdigest()


WRAP = """
import sys, torch
state = {f"backbone.{k}": v for k, v in torch.load(sys.argv[1], weights_only=True).items()}
torch.save({"meta": {}, "state_dict": state}, sys.argv[2])
"""


def zoo(row, digest, *arguments):
    """The JSON of a command, run in a process where the row has the digest of the file that is served.

    Each row has its own folder of the server and its own cache, because two publishers offer files of the same name.
    """
    environment = {
        **os.environ,
        "ZOO_DIGESTS": json.dumps({row.name: digest}),
        "ZOO_MIRROR": f"{os.environ['ZOO_MIRROR']}/{row.name}",
        "ZOO_CACHE": str(Path(os.environ["ZOO_CACHE"]) / row.name),
        "PYTHONPATH": str(HERE.parents[1]),
    }
    command = [sys.executable, "-W", "ignore", __file__, "--zoo", *map(str, arguments), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"zoo {' '.join(map(str, arguments))}: {done.stderr[-1500:]}")
    return json.loads(done.stdout)


def check(row, digest):
    """The line of the table, and whether it is within the bound."""
    assert zoo(row, digest, "fetch", row.name)[0]["name"] == row.name
    assert row.name in json.dumps(zoo(row, digest, "info", row.model))
    classes = ["--num-classes", 1000] if row.classes == 0 else []
    results = [zoo(row, digest, "predict", row.name, *images, "--backend", b, *classes) for b in FRAMEWORKS]
    labels = [[[top["label"] for top in image["top"]] for image in result] for result in results]
    scores = np.array([[[top["score"] for top in image["top"]] for image in result] for result in results])
    spread = float(np.ptp(scores, axis=0).max())
    good = all(one == labels[0] for one in labels) and spread <= TOLERANCE
    said_by = results[0][0]["preprocess_from"]
    return f"| {row.name} | {saved_by(row)} | `{row.model}` | {said_by} | {spread:.1e} |", good


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def main(pattern="*"):
    rows = [row for row in PUBLISHED.values() if fnmatch(row.name, pattern)]
    root = Path(scratch) / "served"
    root.mkdir()
    digests = [f"sha256:{serve(row, root / row.name)}" for row in rows]
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(root))) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ |= {
            "ZOO_MIRROR": f"http://127.0.0.1:{server.server_port}",
            "ZOO_CACHE": str(Path(scratch) / "cache"),
        }
        os.environ |= {"no_proxy": "127.0.0.1"}
        lines, good = [], True
        for line, fits in pool.map(check, rows, digests):
            print(line, "" if fits else "beyond the bound", flush=True)
            lines.append(line)
            good &= fits
        server.shutdown()
    if pattern == "*" and good:
        DOCUMENT.write_text(INTRODUCTION + "\n".join(lines) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--zoo"]:
        for name, digest in json.loads(os.environ["ZOO_DIGESTS"]).items():
            PUBLISHED[name] = replace(PUBLISHED[name], digest=digest)
        sys.argv[1:] = sys.argv[2:]
        run()
    folder = Path(next(iter(load_sample_images().filenames))).parent
    images = sorted(Path(folder).glob("*.jpg"))
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(main(*sys.argv[1:]))
