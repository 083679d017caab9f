"""Downloading a file through pooch, which checks its checksum; an interrupted download resumes where it stopped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from zoo.errors import InputError

CHUNK = 1 << 18
TIMEOUT = 30
"""Seconds without an answer."""


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
        why = getattr(error, "strerror", None) or reason(error)
        raise InputError(f"{url}: cannot be fetched ({why}): {instead}") from None


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


def reason(error: Exception) -> str:
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
