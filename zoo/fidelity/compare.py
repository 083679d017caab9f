"""`zoo fid`: two sets of images, or a set and stored statistics, compared by the features of inception_v3.fid."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import weights
from zoo.arguments import integer
from zoo.builder import build
from zoo.data.images import image_files
from zoo.errors import InputError, SpecError
from zoo.fidelity.features import CLASSIFIED, FEATURES, STAGES, Extractor, batches
from zoo.fidelity.statistics import (
    Moments,
    Statistics,
    check_splits,
    check_subsets,
    frechet_distance,
    inception_score,
    kernel_distance,
    read_statistics,
    write_statistics,
)
from zoo.language.model import Model, Preprocess
from zoo.models import MODELS
from zoo.models.inception_v3 import INCEPTION_V3_FID

logger = logging.getLogger("zoo")

PIPELINES: dict[str, Preprocess] = {
    "torch-fidelity": INCEPTION_V3_FID.preprocess,
    "pytorch-fid": Preprocess(299, "torch_bilinear", fit="stretch"),
}
"""How images are preprocessed: resized as in TensorFlow 1, or as in PyTorch. The two give different figures."""


def fid(
    first: str | Path,
    second: str | Path,
    *,
    backend: str = "torch",
    checkpoint: str | Path | None = None,
    seed: int | None = None,
    pipeline: str = "torch-fidelity",
    features: str = "2048",
    kid: bool = False,
    kid_subsets: int = 100,
    kid_subset_size: int = 1000,
    score: bool = False,
    splits: int = 10,
    batch: int = 32,
    device: str | None = None,
    save: str | Path | None = None,
    progress: Callable[[str, int, int], None] = lambda path, done, total: None,
) -> dict[str, Any]:
    """The Frechet inception distance of two sets of images; with `kid` and `score` also KID and the Inception score.

    first, second    folders of images (at any depth), or .npz files with `mu` and `sigma`, as pytorch-fid writes them
    backend          what runs the network: any backend of `zoo.build`
    checkpoint       weights of inception_v3.fid; by default the published ones, downloaded unless they are in the cache
    seed             use random weights from this seed, for tests
    pipeline         a key of `PIPELINES`: "torch-fidelity" or "pytorch-fid"
    features         "64", "192", "768" or "2048": the features that FID and KID compare
    kid              compute KID too
    kid_subsets      number of random subsets over which KID is averaged
    kid_subset_size  number of images in a subset
    score            compute the Inception score of `first` too
    splits           number of parts of `first` over which the Inception score is averaged
    batch            number of images that are run at a time
    device           as for `zoo.build`; by default the CPU
    save             write the statistics of `first` into this .npz file
    progress         called with the path, the number of images done, and the number of all

    Returns a document for JSON: `fid`; `kid` and `inception_score`, each with mean and std, if asked for; the number of
    images of each set (None for stored statistics); and what was run. FID is Heusel et al. 2017, arXiv:1706.08500, KID
    Binkowski et al. 2018, arXiv:1801.01401, and the Inception score Salimans et al. 2016, arXiv:1606.03498. Raises
    InputError for images that cannot be read and sets that are too small, SpecError for unknown features or pipelines,
    and whatever `zoo.build` raises.
    """
    if pipeline not in PIPELINES:
        raise SpecError(f"unknown pipeline {pipeline!r}: expected {' or '.join(PIPELINES)}")
    if features not in STAGES:
        raise SpecError(f"unknown features {features!r}: expected one of {', '.join(STAGES)}")
    integer(batch, "batch")
    stored = [Path(path).suffix == ".npz" for path in (first, second)]
    if kid and any(stored):
        raise InputError("KID compares features, which an .npz file with mu and sigma does not have: give two folders")
    if score and stored[0]:
        raise InputError(f"{first}: the Inception score needs images, not their statistics")
    files = [[] if known else image_files([path]) for path, known in zip((first, second), stored, strict=True)]
    given = {i: read_statistics(Path(path)) for i, path in enumerate((first, second)) if stored[i]}
    weights_of = f"random, seed {seed}" if seed is not None else str(checkpoint or _default().name)
    made = {"pipeline": pipeline, "weights": Path(weights_of).name}
    _check_sets((first, second), files, given, int(features), made)
    if kid:
        check_subsets(len(files[0]), len(files[1]), kid_subset_size)
    if score:
        check_splits(len(files[0]), splits)
    if save is not None and not Path(save).parent.is_dir():
        raise InputError(f"{save}: cannot write statistics there: no such folder")
    wanted = {features, *(["logits_unbiased"] if score else [])}
    extract = None if all(stored) else extractor(wanted, backend, checkpoint, seed, pipeline, device)
    statistics: list[Statistics] = []
    kept: list[dict[str, NDArray[Any]]] = []
    for index, path in enumerate((first, second)):
        if index in given:
            statistics.append(given[index])
            continue
        assert extract is not None
        keep = {features: kid, "logits_unbiased": score and index == 0}
        found = _collect(extract, files[index], batch, features, keep, lambda *n, path=str(path): progress(path, *n))
        statistics.append(found[0])
        kept.append(found[1])
    if save is not None:
        write_statistics(save, statistics[0] if 0 in given else replace(statistics[0], made=made))
    document: dict[str, Any] = {
        "fid": frechet_distance(*statistics),
        "images": [None if known else len(each) for known, each in zip(stored, files, strict=True)],
        "sets": [str(first), str(second)],
        "features": features,
        "pipeline": pipeline,
        "preprocess": PIPELINES[pipeline].describe(INCEPTION_V3_FID.size),
        "backend": backend,
        "weights": weights_of,
    }
    if kid:
        mean, std = kernel_distance(kept[0][features], kept[1][features], kid_subsets, kid_subset_size)
        document["kid"] = {"mean": mean, "std": std, "subsets": kid_subsets, "subset_size": kid_subset_size}
    if score:
        mean, std = inception_score(kept[0]["logits_unbiased"], splits)
        document["inception_score"] = {"mean": mean, "std": std, "splits": splits}
    return document


def _check_sets(
    paths: tuple[str | Path, str | Path],
    files: list[list[Path]],
    given: dict[int, Statistics],
    features: int,
    made: dict[str, str],
) -> None:
    """Raise InputError for sets that cannot be compared, before the network runs."""
    for index, path in enumerate(paths):
        if index not in given:
            if not Path(path).exists():
                raise InputError(f"{path}: no such file or folder")
            if len(files[index]) < 2:
                raise InputError(f"{path}: {len(files[index])} images: a covariance needs two or more")
            continue
        own = given[index]
        if len(given) == 1 and len(own.mean) != features:
            raise InputError(f"{path}: statistics of {len(own.mean)} features, and of {features} of the images")
        others = given[1 - index].made if len(given) == 2 else made
        for what, value in own.made.items():
            if others.get(what, value) != value:
                raise InputError(f"{path}: its {what} was {value!r}, and that of the other set is {others[what]!r}")


def extractor(
    wanted: set[str],
    backend: str = "torch",
    checkpoint: str | Path | None = None,
    seed: int | None = None,
    pipeline: str = "torch-fidelity",
    device: str | None = None,
) -> Extractor:
    """The function that maps images to the features `wanted`, some of `FEATURES`; other arguments as for `fid`."""
    if unknown := wanted - set(FEATURES):
        raise SpecError(f"unknown features {', '.join(sorted(unknown))}: expected some of {', '.join(FEATURES)}")
    model = replace(MODELS["inception_v3.fid"], preprocess=PIPELINES[pipeline])
    classified = bool(wanted & set(CLASSIFIED))
    numbers = [n for n in STAGES if n in wanted or (n == "2048" and classified)]
    stages = [STAGES[n] for n in numbers]
    source: dict[str, Any] = {"seed": seed} if seed is not None else {"checkpoint": checkpoint or _default().name}
    engine = build(model, backend, out_indices=stages, mode="deploy", device=device, **source)
    arrays: dict[str, NDArray[Any]] = {}
    if classified:
        arrays = _weights(model, source)
    return Extractor(model, lambda images: _listed(engine(images)), stages, arrays)


def _default() -> weights.published.Published:
    return weights.published.choose(MODELS["inception_v3.fid"])


def _weights(model: Model, source: dict[str, Any]) -> dict[str, NDArray[Any]]:
    if "seed" in source:
        return dict(weights.initial(model, source["seed"]))
    return weights.open_checkpoint(source["checkpoint"], model=model).arrays()


def _listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _collect(
    extract: Extractor,
    files: list[Path],
    batch: int,
    features: str,
    keep: dict[str, bool],
    progress: Callable[[int, int], None],
) -> tuple[Statistics, dict[str, NDArray[Any]]]:
    """The statistics of `features` over all images, and the features of each image for the names in `keep`."""
    moments, kept = Moments(), {name: list[NDArray[Any]]() for name, wanted in keep.items() if wanted}
    for images in batches(files, extract.model, batch):
        found = extract(images)
        moments.add(found[features])
        for name, parts in kept.items():
            parts.append(found[name])
        progress(moments.count, len(files))
    dimensions = len(moments.mean)
    if moments.count <= dimensions:
        logger.warning(
            "%d images for a covariance of %d features, which is then singular: FID falls with the number of images, "
            "so compare only figures for the same number of images, usually 10,000 or more",
            moments.count,
            dimensions,
        )
    return moments.statistics(), {name: np.concatenate(parts) for name, parts in kept.items()}
