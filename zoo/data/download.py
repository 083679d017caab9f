"""Fetching datasets: through pooch, which checks their checksums; broken off, a download goes on where it stopped."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

from zoo.errors import InputError

CHUNK = 1 << 18
TIMEOUT = 30
"""Seconds without an answer."""

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
"""Each dataset's files and their MD5 sums, as torchvision and MindSpore have them."""

SERVERS = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/",
    "cifar100": "https://www.cs.toronto.edu/~kriz/",
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
}


def fetch(name: str, root: str | Path, server: str | None = None) -> None:
    """Bring a dataset's files into `root` and unpack archives there; files that are there already are only checked.

    `server` is a URL that the files' names follow. What is half loaded is kept as NAME.part, and gone on with the next
    time. Raises InputError, which says where to put which file by hand, when one cannot be had or is another.
    """
    root, server = Path(root), SERVERS[name] if server is None else server
    for file, md5 in FILES[name].items():
        instead = f"put {file} (md5 {md5}) into {root} by hand"
        path = retrieve(server + file, root, file, f"md5:{md5}", instead)
        if path.name.endswith(".tar.gz"):
            try:
                with tarfile.open(path) as archive:
                    archive.extractall(root, filter="data")
            except (OSError, tarfile.TarError) as error:
                reason = getattr(error, "strerror", None) or _reason(error)
                raise InputError(f"{path}: cannot be unpacked ({reason}): {instead}") from None


def retrieve(url: str, folder: Path, file: str, digest: str | None, instead: str) -> Path:
    """A file of that name in `folder`, fetched unless it is there with that digest ("md5:..."; None: any).

    Raises InputError, which ends with what to do `instead`.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(pooch.retrieve(url, digest, file, folder, downloader=_resume(folder / f"{file}.part")))
    except ValueError as error:  # pooch's, of the checksum
        if "hash" not in str(error):
            raise
        wanted = (digest or "").replace(":", " ")
        raise InputError(
            f"{url}: what came has another checksum than {wanted}: nothing of it was kept; try again, or {instead}"
        ) from None
    except OSError as error:  # requests' errors are OSErrors
        reason = getattr(error, "strerror", None) or _reason(error)
        raise InputError(f"{url}: cannot be fetched ({reason}): {instead}") from None


def _resume(part: Path) -> Any:
    """A downloader for pooch that goes on with `part` where the server lets it."""

    def download(url: str, target: str, _: Any) -> None:
        import requests
        from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

        had = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={had}-"} if had else {})}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            whole = answer.status_code == 416  # there is nothing beyond what is there
            if not whole:
                answer.raise_for_status()
                goes_on = answer.status_code == 206
                left = int(answer.headers.get("Content-Length", 0))
                columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn())
                with part.open("ab" if goes_on else "wb") as file, Progress(*columns) as bars:
                    begun = had if goes_on else 0
                    task = bars.add_task(part.stem, total=begun + left or None, completed=begun)
                    came = 0
                    for chunk in answer.iter_content(CHUNK):
                        file.write(chunk)
                        came += len(chunk)
                        bars.update(task, advance=len(chunk))
                if came < left:
                    raise OSError(f"broken off after {begun + came} of {begun + left} bytes")
        shutil.copyfile(part, target)
        os.unlink(part)

    return download


def _reason(error: Exception) -> str:
    """What went wrong, in a few words: requests' own are long, and name what the user knows already."""
    from requests import ConnectionError, HTTPError, Timeout

    match error:
        case Timeout():
            return f"no answer in {TIMEOUT} s"
        case ConnectionError():
            return "no connection"
        case HTTPError(response=answer) if answer is not None:
            return f"{answer.status_code} {answer.reason}"
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
