"""A folder to give away: a network's weights, with all that others need to run and to check it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import weights
from weights import hub
from weights.checkpoints import Checkpoint
from weights.published import find, of
from zoo import parity
from zoo.cards import markdown
from zoo.cards.facts import info
from zoo.cards.figure import figure
from zoo.errors import WeightsError
from zoo.exporting import export
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Model
from zoo.parity.page import page
from zoo.prediction import named
from zoo.source.dialect import dialect_of
from zoo.source.write import source

ABOUT = {
    "README.md": "this card",
    "model.safetensors": "the weights{under}",
    "config.json": "input size, preprocessing and names of classes, as timm writes them",
    "network.py": "the network in {framework}, which needs nothing but its framework",
    "network{suffix}": 'the weights for network.py: `network.load("network{suffix}")`',
    "model.onnx": "the network in inference, for ONNX Runtime and others: float32 [N, {channels}, {size}, {size}]",
    "labels.txt": "names of the classes, a line each",
    "network.svg": "the layers",
    "certificate.html": "errors of the logits in {framework} against float64 arithmetic, and what rounding explains",
    "SHA256SUMS": "for `sha256sum -c SHA256SUMS`",
}
"""The files of a package, and what they are."""


def package(
    model: str | Path,
    folder: str | Path,
    *,
    checkpoint: str | Path | None = None,
    backend: str = "torch",
    ema: bool = False,
) -> list[Path]:
    """Write a folder with a network and its weights; returns its files.

    model       anything that `weights.resolve` takes; a checkpoint, or a name of published weights, brings its weights
    folder      must not exist yet, or be empty; it appears once all its files are written
    checkpoint  the weights, a file of any source
    backend     torch, mindspore, paddle or jax, which must be installed: the framework of network.py, of its weights
                and of the certificate
    ema         the moving average of the weights

    `ABOUT` lists the files. timm and this project load the folder as `local-dir:FOLDER`, and as `hf-hub:OWNER/NAME`
    once it is uploaded. For that, model.safetensors has timm's names if timm has the network. Raises WeightsError when
    there are no weights or the folder is not empty, and whatever `weights.convert` and `zoo.exporting.export` raise.
    """
    folder = Path(folder)
    if backend not in FRAMEWORKS:
        raise WeightsError(f"package: expected {', '.join(FRAMEWORKS)}, not {backend!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder}: exists already: choose another name, or empty it")
    if checkpoint is None and not (weights.is_checkpoint(model) or find(str(model))):
        weights.resolve(model)
        raise WeightsError(f"{model}: a network without weights: give a checkpoint, or a name of published weights")
    weights_of = model if checkpoint is None else checkpoint
    opened = weights.open_checkpoint(weights_of, model=None if checkpoint is None else model, ema=ema)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name[:40]}.", suffix=".part", dir=folder.parent) as part:
            written = Path(part) / "package"
            written.mkdir()
            _write(written, opened, weights_of, model if checkpoint is not None else None, backend, ema)
            if folder.exists():
                folder.rmdir()
            os.replace(written, folder)
    except OSError as error:
        raise WeightsError(f"{folder}: cannot write it: {error.strerror or error}") from None
    return sorted(folder.iterdir())


def push(folder: str | Path, repository: str) -> str:
    """Upload a package to the Hugging Face hub as OWNER/NAME, which is created if necessary; returns its address.

    Log in with `hf auth login`, or set HF_TOKEN. Raises WeightsError when the upload fails.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{repository}: cannot be uploaded: {reason[:200]}; log in: hf auth login") from None


def _write(
    folder: Path, opened: Checkpoint, weights_of: str | Path, model: str | Path | None, backend: str, ema: bool
) -> None:
    spec, suffix = opened.model, dialect_of(backend).suffix
    names = named(spec, opened).names
    timm, keys = None, {}
    if spec.width == 1 and (rows := [row for row in of(spec.name) if row.source == "timm"]):
        timm, keys = rows[0].name.partition(".")[0], weights.SOURCES["timm"].naming(spec).keys
    weights.convert(weights_of, folder / "model.safetensors", model=model, to="timm" if timm else None, ema=ema)
    weights.convert(weights_of, folder / f"network{suffix}", model=model, to=backend, ema=ema)
    for beside in folder.glob("*.json"):  # `convert` writes metadata into them; config.json has it
        beside.unlink()
    config = hub.config(spec, timm or spec.name, names, keys)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "network.py").write_text(source(spec, backend), encoding="utf-8")
    export(weights_of if model is None else model, folder / "model.onnx", checkpoint=weights_of, ema=ema)
    if names:
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    (folder / "network.svg").write_text(figure(spec), encoding="utf-8")
    judged = page(parity.compare([], parity.Settings(backends=(backend,)), checkpoint=folder))
    (folder / "certificate.html").write_text(judged.replace(str(folder), "model.safetensors"), encoding="utf-8")
    (folder / "README.md").write_text("".join(_card(folder, spec, opened, backend, timm)), encoding="utf-8")
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def _card(folder: Path, spec: Model, opened: Checkpoint, backend: str, timm: str | None) -> Iterator[str]:
    """The README.md: metadata for hubs of models, what each file is, and the network's card.

    `timm` is timm's name of the network; None if timm does not have it.
    """
    licence = opened.metadata.get("licence", "")
    yield "---\n" + (f"license: {licence.lower()}\n" if licence else "")
    yield f"library_name: {'timm' if timm else 'inception-zoo'}\npipeline_tag: image-classification\n"
    yield "tags:\n- image-classification\n" + ("- timm\n" if timm else "") + "---\n\n"
    yield f"# {spec.name}\n"
    about = {
        "suffix": dialect_of(backend).suffix,
        "framework": FRAMEWORKS[backend].title,
        "channels": spec.in_channels,
        "size": spec.size,
        "under": " under timm's names" if timm else "",
    }
    rows = [(name.format(**about), text.format(**about)) for name, text in ABOUT.items()]
    there = {"README.md", "SHA256SUMS", *(file.name for file in folder.iterdir())}
    yield "\n| file | what it is |\n|---|---|\n"
    yield "".join(markdown.row([f"`{name}`", text]) + "\n" for name, text in rows if name in there)
    loads = ['timm.create_model("local-dir:FOLDER", pretrained=True)'] if timm else []
    loads.append('zoo.build(checkpoint="local-dir:FOLDER", backend="torch")  # or mindspore, paddle, jax')
    yield "\n```python\n" + "\n".join(loads) + "\n```\n"
    yield from markdown.body(info(spec))
    yield "\n![The layers](network.svg)\n"
