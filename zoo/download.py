"""Downloading a file: verified, resumed where it was interrupted, by one process at a time.

With the environment variable ZOO_MIRROR, everything comes from one folder, or from the folder of one server, instead of
from the publishers: for machines without access to the internet.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from zoo.errors import InputError

CHUNK = 1 << 18
"""Bytes that are written at a time."""

LARGEST_READ = 64 << 20
"""The most bytes that `read` reads into memory."""

TIMEOUT = 30
"""Seconds to wait for an answer."""

HTML = (b"<!doctype html", b"<html")
"""How pages of HTML begin, in lower case."""

logger = logging.getLogger("zoo")


class MissingError(InputError):
    """The server or folder has no such file."""


def mirrored(url: str, path: str) -> str:
    """Where a file comes from: `url`, or `path` in the mirror if there is one."""
    mirror = os.environ.get("ZOO_MIRROR")
    return f"{mirror.rstrip('/')}/{path}" if mirror else url


def retrieve(address: str, folder: Path, file: str, digest: str, instead: str) -> Path:
    """Copy a file into `folder`, unless it is there with the right digest; returns its path.

    address  a URL, or a path
    digest   "md5:..." or "sha256:...", all digits or a prefix of them; "" accepts any file
    instead  what the user can do if the download fails; error messages end with it

    A partial download is kept as FILE.part and continued the next time. If several processes want the file, one
    downloads it and the others wait. Raises MissingError when there is no such file, and InputError when it cannot be
    fetched or has another digest.
    """
    target, part = folder / file, folder / f"{file}.part"
    if _is_right(target, digest):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{file}.lock"):
            if _is_right(target, digest):  # another process has downloaded it meanwhile
                return target
            if "://" in address:
                _download(address, part)
            else:
                shutil.copyfile(address, part)
            if wrong := _wrong(part, digest):
                part.unlink()
                raise InputError(f"{address}: {wrong} and was not kept: try again, or {instead}")
            os.replace(part, target)
            return target
    except OSError as error:  # requests' errors are OSErrors
        why = error.strerror or reason(error)
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(folder).free
            why = f"no space left on device: {free / 1e6:,.0f} MB are free in {folder}"
        missing = isinstance(error, FileNotFoundError) or why.startswith("404 ")
        raise (MissingError if missing else InputError)(f"{address}: cannot be fetched ({why}): {instead}") from None


def _locked(path: Path) -> AbstractContextManager[Any]:
    """Hold a lock between processes; logs a warning if it must wait for another process."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        return lock.acquire(timeout=1)
    except Timeout:
        logger.warning("%s: waiting for another process, which is downloading", path.with_name(path.name[1:-5]))
        return lock.acquire()


def _is_right(path: Path, digest: str) -> bool:
    """Whether a file is there and has the digest."""
    if not path.is_file() or not digest:
        return path.is_file()
    algorithm, _, digits = digest.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest().startswith(digits)


def _wrong(path: Path, digest: str) -> str:
    """What is wrong with a downloaded file; "" for nothing."""
    with path.open("rb") as file:
        if file.read(200).lstrip().lower().startswith(HTML):
            return "the server sent a page of HTML in place of the file; it is not weights or data,"
    return "" if _is_right(path, digest) else f"the file has another checksum than {digest.replace(':', ' ')}"


def _download(url: str, part: Path) -> None:
    """Continue the file `part`, if the server supports that, until it is complete. Raises OSError."""
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    had = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={had}-"} if had else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # there is nothing beyond the bytes that `part` has
            return
        answer.raise_for_status()
        continues = answer.status_code == 206
        left = int(answer.headers.get("Content-Length", 0))
        if left > shutil.disk_usage(part.parent).free:
            raise OSError(errno.ENOSPC, "No space left on device", str(part))
        name = TextColumn("{task.description}", markup=False)
        columns = (name, BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with part.open("ab" if continues else "wb") as file, Progress(*columns, console=Console(stderr=True)) as bars:
            start = had if continues else 0
            task = bars.add_task(part.stem, total=start + left or None, completed=start)
            received = 0
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                received += len(chunk)
                bars.update(task, advance=len(chunk))
        if received < left:
            raise OSError(f"interrupted after {start + received} of {start + left} bytes")


def read(url: str) -> bytes:
    """The content of a URL. Raises InputError if it cannot be fetched or is larger than `LARGEST_READ` bytes."""
    import requests

    try:
        with requests.get(url, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            content = b""
            for chunk in answer.iter_content(CHUNK):
                content += chunk
                if len(content) > LARGEST_READ:
                    raise InputError(f"{url}: larger than {LARGEST_READ:,} bytes")
            return content
    except (OSError, ValueError) as error:  # requests' errors are OSErrors, those about the URL itself ValueErrors
        raise InputError(f"{url}: cannot be fetched ({reason(error)})") from None


def reason(error: Exception) -> str:
    """The reason for an error in a few words: the messages of requests are long and repeat what the user knows."""
    from requests import ConnectionError, HTTPError, Timeout

    match error:
        case Timeout():
            return f"no answer in {TIMEOUT} s"
        case ConnectionError():
            return "no connection"
        case HTTPError(response=answer) if answer is not None:
            return f"{answer.status_code} {answer.reason}"
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
