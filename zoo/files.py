"""Atomic writing of files, tables as CSV, and the cache folder."""

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


def cache_folder() -> Path:
    """The folder for downloaded weights and compiled code: $ZOO_CACHE, or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("ZOO_CACHE") or platformdirs.user_cache_dir("inception-zoo", appauthor=False))


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield the path of a new file to write to, which replaces `path` when the block ends without an error.

    The new file is flushed to the disk before it replaces the old one, so that after a power failure one of the two
    exists, complete. Links are followed. An existing path that is not a regular file (a pipe, a device) is written to
    directly. Raises OSError.
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
        os.chmod(part, stat.S_IMODE(target.stat().st_mode) if target.exists() else default_mode())
        yield part
        os.fsync(handle)
        os.close(handle)  # Windows does not replace open files
        handle = -1
        os.replace(part, target)
        _flush_folder(target.parent)
    except BaseException:
        if handle >= 0:
            os.close(handle)
        part.unlink(missing_ok=True)
        raise


@contextmanager
def replaced(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield the paths of new files to write, in a folder of their own; they replace `targets` when the block ends well.

    The block must write all of them. The first of `targets`, the file that users name, is replaced last. Raises
    OSError.
    """
    folder = targets[0].parent
    with tempfile.TemporaryDirectory(prefix=f".{targets[0].name[:40]}.", suffix=".part", dir=folder) as part:
        files = [Path(part) / target.name for target in targets]
        yield files
        for file in files:
            if not file.exists():
                raise FileNotFoundError(errno.ENOENT, "it was not written", str(file))
            file.chmod(default_mode())
            with file.open("rb") as written:
                os.fsync(written.fileno())
        for file, target in reversed(list(zip(files, targets, strict=True))):
            file.replace(os.path.realpath(target))
        _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, if the operating system and the file system support that."""
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
    """Write a table as CSV, atomically. Raises InputError if it cannot be written."""
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


def default_mode() -> int:
    """The permissions of a new file under the process's umask, which can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
