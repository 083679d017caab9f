"""From a name to files on this machine: published weights, folders of the Hugging Face hub, local folders.

    inception_v3.tf_in1k        a row of `weights.published`
    hf-hub:OWNER/NAME[@REV]     a folder of the hub, as timm's create_model takes it; REV is a branch, tag or commit
    local-dir:PATH              a folder like those of the hub: config.json and model.safetensors

Downloads are kept in the cache folder, and the hub's files in the hub's own cache, which other programs share. With
ZOO_MIRROR, the file of a URL is expected in the mirror under its own name, and a folder of the hub as OWNER/NAME/.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from weights import hub, published
from weights.published import HUB, Published
from zoo.download import MissingError, mirrored, retrieve
from zoo.errors import InputError, WeightsError
from zoo.files import cache_folder

Copy: TypeAlias = Callable[[str], Path | None]
"""Downloads a file of a folder, by its name; None where the folder has no such file."""

LOCAL = "local-dir:"
REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
INSTEAD = (
    "give a checkpoint of any publisher (--checkpoint FILE; --ckpt_path FILE in train.py and validate.py), or set "
    "ZOO_MIRROR to a folder that has the file"
)


def is_address(name: str | Path) -> bool:
    """Whether it begins with hf-hub: or local-dir:, timm's prefixes for folders with weights."""
    return _spelled(name).startswith((HUB, LOCAL))


def locate(name: str | Path) -> tuple[Path, Published | None]:
    """The file or folder that a name stands for, downloaded unless it is here; and its row in `weights.published`.

    Any other text is taken for a path and returned, without a row. Raises WeightsError when the file cannot be
    downloaded or is damaged.
    """
    text = _spelled(name)
    if is_address(text):
        return fetch(text), None
    row = None if Path(name).exists() else published.find(text)
    return (Path(name), None) if row is None else (fetch(row), row)


def fetch(what: Published | str, folder: str | Path | None = None) -> Path:
    """The path of published weights, or of an address, downloaded unless it is in the cache, or in `folder`.

    An interrupted download is continued the next time. Raises WeightsError when the file cannot be downloaded or is
    damaged; the message says how to use a file of your own instead.
    """
    address = _spelled(what) if isinstance(what, str) else what.address
    if address.startswith(LOCAL):
        path = Path(address.removeprefix(LOCAL)).expanduser()
        if not hub.holds_weights(path):
            raise WeightsError(f"{address}: no folder with {', '.join(hub.FILES[:-1])} or {hub.FILES[-1]}")
        return path
    if isinstance(what, str) or address.startswith(HUB):
        return _repository(address, folder)
    try:
        into = Path(folder or cache_folder())
        return retrieve(mirrored(address, what.file), into, what.file, what.digest, INSTEAD)
    except InputError as error:
        raise WeightsError(f"{what.name}: {error}") from None


def _spelled(name: str | Path) -> str:
    """The name with the current spelling hf-hub:; timm also accepts the older hf_hub:."""
    text = str(name)
    return HUB + text[len(HUB) :] if text.startswith("hf_hub:") else text


def _repository(address: str, folder: str | Path | None = None) -> Path:
    """Copy a folder of the hub, its config.json and the first of `hub.FILES` that it has; returns the local folder."""
    match = REPOSITORY.fullmatch(address.removeprefix(HUB))
    if match is None:
        raise WeightsError(f"{address}: expected {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION")
    repository, revision = match[1], match[2]
    copy = _mirror(repository, folder) if mirrored("", repository) else _hub(repository, revision, folder)
    try:
        copy(hub.CONFIG)
        for name in hub.FILES:
            if path := copy(name):
                for shard in hub.shards(path):
                    copy(shard)
                return path.parent
        raise WeightsError(f"it has no {', '.join(hub.FILES[:-1])} or {hub.FILES[-1]}")
    except (InputError, WeightsError) as error:
        raise WeightsError(f"{address}: {error}") from None


def _mirror(repository: str, folder: str | Path | None) -> Copy:
    """A function that copies a file from a mirror of a folder of the hub."""
    target = Path(folder or cache_folder()) / repository

    def copy(name: str) -> Path | None:
        try:
            return retrieve(mirrored("", f"{repository}/{name}"), target, name, "", INSTEAD)
        except MissingError:
            return None

    return copy


def _hub(repository: str, revision: str | None, folder: str | Path | None) -> Copy:
    """A function that copies a file from the hub or its cache, by the hub's own library, which resumes and locks."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    into = None if folder is None else Path(folder) / repository

    def copy(name: str) -> Path | None:
        with contextlib.suppress(LocalEntryNotFoundError):
            return Path(hf_hub_download(repository, name, revision=revision, local_dir=into, local_files_only=True))
        try:
            with _quiet("huggingface_hub"):  # the error below says what it logs
                return Path(hf_hub_download(repository, name, revision=revision, local_dir=into))
        except LocalEntryNotFoundError:
            why = "no connection, and it is not in the cache"
        except EntryNotFoundError:
            return None
        except GatedRepoError:
            why = "its owner must give you access; then log in: hf auth login"
        except RepositoryNotFoundError:
            why = "there is none on the hub, or it is private: hf auth login"
        except RevisionNotFoundError:
            why = f"it has no revision {revision!r}"
        except OSError as error:
            why = error.strerror or (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise WeightsError(f"{name} cannot be fetched ({why}): {INSTEAD}")

    return copy


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence the warnings of a logger."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
