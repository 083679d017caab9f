"""Downloading a file with pooch, which verifies its checksum. An interrupted download resumes where it stopped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from zoo.errors import InputError

CHUNK = 1 << 18
"""Bytes that are written at a time."""

TIMEOUT = 30
"""Seconds to wait for an answer."""


def retrieve(url: str, folder: Path, file: str, digest: str | None, instead: str) -> Path:
    """Download a file into `folder`, unless it is there with the right digest; returns its path.

    digest   "md5:..." or None for any
    instead  what the user can do if the download fails; the message of InputError ends with it
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(pooch.retrieve(url, digest, file, folder, downloader=_resume(folder / f"{file}.part")))
    except ValueError as error:  # from pooch, about the checksum
        if "hash" not in str(error):
            raise
        wanted = (digest or "").replace(":", " ")
        raise InputError(
            f"{url}: the file has another checksum than {wanted} and was not kept: try again, or {instead}"
        ) from None
    except OSError as error:  # requests' errors are OSErrors
        why = getattr(error, "strerror", None) or reason(error)
        raise InputError(f"{url}: cannot be fetched ({why}): {instead}") from None


def _resume(part: Path) -> Any:
    """A downloader for pooch that continues the file `part` if the server supports that."""

    def download(url: str, target: str, _: Any) -> None:
        import requests
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        had = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={had}-"} if had else {})}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            complete = answer.status_code == 416  # there is nothing beyond the bytes that `part` has
            if not complete:
                answer.raise_for_status()
                continues = answer.status_code == 206
                left = int(answer.headers.get("Content-Length", 0))
                name = TextColumn("{task.description}", markup=False)
                columns = (name, BarColumn(), DownloadColumn(), TransferSpeedColumn())
                with part.open("ab" if continues else "wb") as file, Progress(*columns) as bars:
                    start = had if continues else 0
                    task = bars.add_task(part.stem, total=start + left or None, completed=start)
                    received = 0
                    for chunk in answer.iter_content(CHUNK):
                        file.write(chunk)
                        received += len(chunk)
                        bars.update(task, advance=len(chunk))
                if received < left:
                    raise OSError(f"interrupted after {start + received} of {start + left} bytes")
        shutil.copyfile(part, target)
        os.unlink(part)

    return download


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
