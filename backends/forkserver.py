"""Workers that start at once: a server process imports a framework and forks for every job.

Importing a framework takes longer than most jobs, so it is done once. `python -m backends.forkserver BACKEND IN OUT`
imports the framework. For every job it reads the name of the job's folder from the file descriptor IN, forks, and
writes the fork's process number and later its exit status to OUT. Each job still has a process of its own, so a job
that crashes does not affect the others. The server ends when IN is closed, at the latest with the process that started
it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from backends import get, jobs


class Server:
    """A backend's server process.

    The first job starts it. A later job restarts it if it has died or if the job's environment is a different one.

    `run` may be called from several threads: their jobs run one after another.
    """

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}
        self._in = self._out = -1

    def run(self, folder: Path, timeout: float, environment: Mapping[str, str]) -> int | None:
        """Run the job in a folder; returns its exit status, negative for a signal as in `subprocess`.

        Returns None if the job did not finish within `timeout` seconds and was killed. The file "stderr" in the folder
        gets what the job prints and, if this call starts the server, what importing the framework prints.
        """
        with self._lock:
            wanted = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
            if self._process is None or self._process.poll() is not None or wanted != self._environment:
                self._start(folder, wanted)
            deadline = time.monotonic() + timeout
            job, status = None, None
            try:
                os.write(self._in, f"{folder.resolve()}\n".encode())
                job = self._read(deadline)
                if job is not None:
                    status = self._read(deadline)
            except (BrokenPipeError, EOFError):  # the framework cannot be imported: the server does the job itself
                status = self._wait(deadline)
            finally:
                if status is None:
                    self._kill(job)
            return status

    def close(self) -> None:
        """End the server, if there is one."""
        if self._process is not None:
            os.close(self._in)
            os.close(self._out)
            self._process.wait()
            self._process = None

    def _start(self, folder: Path, environment: dict[str, str]) -> None:
        self.close()
        self._environment = environment
        theirs_in, self._in = os.pipe()
        self._out, theirs_out = os.pipe()
        with (folder / "stderr").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "backends.forkserver", self.backend, str(theirs_in), str(theirs_out)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,
            )
        os.close(theirs_in)
        os.close(theirs_out)

    def _read(self, deadline: float | None) -> int | None:
        """The next number from the server; None if none arrives in time. Raises EOFError when the server has ended."""
        seconds = None if deadline is None else max(0, deadline - time.monotonic())
        if not select.select([self._out], [], [], seconds)[0]:
            return None
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._out, 1)
            if not byte:
                raise EOFError
            line += byte
        return int(line)

    def _wait(self, deadline: float) -> int | None:
        assert self._process is not None
        try:
            return self._process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None

    def _kill(self, job: int | None) -> None:
        """Kill a job or, if the server has not reported one yet, the server and whatever it has started."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job or self._process.pid, signal.SIGKILL)
        if job is None:
            self._process.wait()
        else:
            with contextlib.suppress(EOFError):
                self._read(None)  # the status of the killed job


_servers: dict[str, Server] = {}
_starting = threading.Lock()


def server(backend: str) -> Server:
    """The server that this process uses for a backend; it is not started here."""
    with _starting:
        if not _servers:
            atexit.register(_close)
            os.register_at_fork(after_in_child=_servers.clear)
        return _servers.setdefault(backend, Server(backend))


def _close() -> None:
    for one in _servers.values():
        one.close()


def serve(backend: str, folders: int, reports: int) -> None:
    """Fork for every folder name that arrives on the file descriptor `folders`, until that is closed.

    `reports` is the file descriptor for process numbers and exit statuses. If the framework cannot be imported, this
    process runs the first job itself, which reports the error.
    """
    for end in (folders, reports):
        os.set_inheritable(end, False)
    start = time.perf_counter()
    try:
        get(backend)
    except Exception:
        folder = os.read(folders, 65536).decode(sys.getfilesystemencoding(), "surrogateescape").rstrip("\n")
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, "-m", "backends.jobs", folder])
    jobs.imported = time.perf_counter() - start
    with os.fdopen(folders, encoding=sys.getfilesystemencoding(), errors="surrogateescape") as lines:
        for line in lines:
            process = os.fork()
            if process == 0:
                os.setpgid(0, 0)
                os.close(reports)
                _work(Path(line.rstrip("\n")))
            with contextlib.suppress(OSError):
                os.setpgid(process, process)  # both processes do this: the group exists before either goes on
            os.write(reports, f"{process}\n".encode())
            _, status = os.waitpid(process, 0)
            os.write(reports, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _work(folder: Path) -> None:
    """Run the job in the forked process, and end the process."""
    log = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    jobs.work(folder)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
