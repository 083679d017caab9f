"""Downloading datasets."""

from __future__ import annotations

import tarfile
from pathlib import Path

from zoo.download import mirrored, reason, retrieve
from zoo.errors import InputError

FILES: dict[str, dict[str, str]] = {
    "cifar10": {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
    "cifar100": {"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
}
"""The files of each dataset and their MD5 sums, as in torchvision and MindSpore."""

SERVERS = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/",
    "cifar100": "https://www.cs.toronto.edu/~kriz/",
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
}


def fetch(name: str, root: str | Path, server: str | None = None) -> None:
    """Download the files of a dataset into `root` and unpack archives; existing files are only verified.

    `server` is the URL of the folder that has the files; by default the mirror ($ZOO_MIRROR), or the one of `SERVERS`.
    A partial download is kept as NAME.part and continued the next time. Raises InputError if a file cannot be fetched
    or has another MD5 sum; the message says which file to put where by hand.
    """
    root = Path(root)
    for file, md5 in FILES[name].items():
        instead = f"put {file} (md5 {md5}) into {root} by hand"
        address = mirrored(SERVERS[name] + file, file) if server is None else server + file
        path = retrieve(address, root, file, f"md5:{md5}", instead)
        if path.name.endswith(".tar.gz"):
            try:
                with tarfile.open(path) as archive:
                    archive.extractall(root, filter="data")
            except (OSError, tarfile.TarError) as error:
                why = getattr(error, "strerror", None) or reason(error)
                raise InputError(f"{path}: cannot be unpacked ({why}): {instead}") from None
