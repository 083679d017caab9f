"""Writing a file whole or not at all; tables as CSV."""

from __future__ import annotations

import csv
import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import InputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A new file beside `path` to write to; it takes the path's place when the block ends, and is removed if it fails.

    It is on the disk, and not on its way there, before it does: a loss of power leaves the one or the other.
    Links are followed; what exists and is no regular file (a pipe, a device) is written to as it is. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(path))
    if target.exists() and not target.is_file():
        yield target
        return
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
    part = Path(name)
    try:
        os.chmod(part, stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask())
        yield part
        os.fsync(handle)
        os.replace(part, target)
        _keep(target.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def _keep(folder: Path) -> None:
    """Have a folder's new entries survive a loss of power, where the file system does that for folders."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF):
            raise
    finally:
        os.close(handle)


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table as CSV, whole or not at all. Raises InputError when it cannot be written."""
    try:
        with (
            atomic_write(path) as part,
            part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            table = csv.writer(file)
            table.writerow(header)
            table.writerows(rows)
    except OSError as error:
        raise InputError(f"{path}: cannot write a table there: {error.strerror}") from None


def _umask() -> int:
    """The process's; it can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
