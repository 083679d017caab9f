"""Downloads from a server of our own: checksums, resuming after a break, and errors for missing files."""

import contextlib
import hashlib
import io
import socket
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest

import zoo.download as downloading
from zoo.data import download, open_dataset
from zoo.errors import InputError

DATA = np.random.default_rng(1).bytes(1_500_000)
FILE = "numbers.bin"


@pytest.fixture
def server(monkeypatch):
    """`files` it serves, `asked` (path, Range) of each request; `stop`: bytes until it breaks off; `wait`: seconds."""
    state = SimpleNamespace(files={FILE: DATA}, asked=[], sent=0, stop=None, ranges=True, wait=0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name, wanted = unquote(self.path[1:]), self.headers["Range"]
            state.asked.append((name, wanted))
            time.sleep(state.wait)
            data = state.files.get(name)
            if data is None:
                return self.send_error(404)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            if start >= len(data):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            body = data[start : None if state.stop is None else start + state.stop]
            state.sent += len(body)
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(download.FILES, "numbers", {FILE: md5(DATA)})
    monkeypatch.setitem(download.SERVERS, "numbers", state.url)
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def md5(data):
    return hashlib.md5(data).hexdigest()


def refused(root, server=None):
    """What the InputError of a download says: the URL, the file, its sum and the folder are always in it."""
    with pytest.raises(InputError) as caught:
        download.fetch("numbers", root, server)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert all(word in message for word in (FILE, f"md5 {download.FILES['numbers'][FILE]}", f"into {root} by hand"))
    assert message.startswith(f"{server or download.SERVERS['numbers']}{FILE}: ")
    return message


def names(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.relative_to(folder).as_posix() for path in files)


@pytest.mark.parametrize("given", [True, False], ids=["server given", "its own server"])
def test_a_file_comes_whole(server, tmp_path, given, monkeypatch):
    if given:
        monkeypatch.setitem(download.SERVERS, "numbers", "http://nowhere.invalid/")
    download.fetch("numbers", tmp_path / "new" / "folder", server.url if given else None)
    assert names(tmp_path) == [f"new/folder/{FILE}"]
    assert (tmp_path / "new" / "folder" / FILE).read_bytes() == DATA
    assert server.asked == [(FILE, None)]


def test_a_wrong_checksum_keeps_nothing(server, tmp_path):
    server.files[FILE] = DATA[:-1] + b"?"
    assert "another checksum than md5" in refused(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("stop", [400_000, 700_000, len(DATA) - 1])
def test_a_download_goes_on_where_it_broke_off(server, tmp_path, stop):
    server.stop = stop
    assert "cannot be fetched" in refused(tmp_path)
    assert names(tmp_path) == [f"{FILE}.part"]
    had = (tmp_path / f"{FILE}.part").stat().st_size
    assert stop - downloading.CHUNK < had <= stop
    server.stop, server.sent = None, 0
    download.fetch("numbers", tmp_path)
    assert server.asked == [(FILE, None), (FILE, f"bytes={had}-")]
    assert server.sent == len(DATA) - had
    assert names(tmp_path) == [FILE]
    assert (tmp_path / FILE).read_bytes() == DATA


def test_a_download_breaks_off_again_and_again(server, tmp_path):
    server.stop = 600_000
    for _ in range(2):
        refused(tmp_path)
    download.fetch("numbers", tmp_path)
    assert (tmp_path / FILE).read_bytes() == DATA
    assert len(server.asked) == 3
    assert server.sent < len(DATA) + 3 * downloading.CHUNK


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.ranges, server.stop = False, 700_000
    refused(tmp_path)
    server.stop = None
    download.fetch("numbers", tmp_path)
    assert server.asked[1][1] is not None
    assert names(tmp_path) == [FILE]
    assert (tmp_path / FILE).read_bytes() == DATA


def test_a_part_that_is_whole_already(server, tmp_path):
    (tmp_path / f"{FILE}.part").write_bytes(DATA)
    download.fetch("numbers", tmp_path)
    assert server.sent == 0
    assert names(tmp_path) == [FILE]


@pytest.mark.parametrize("part", [DATA + b"beyond", b"another" + DATA[7:1000]], ids=["beyond the end", "of another"])
def test_a_spoilt_part_is_not_kept(server, tmp_path, part):
    """A spoilt part may cost one attempt, never all of them."""
    (tmp_path / f"{FILE}.part").write_bytes(part)
    try:
        download.fetch("numbers", tmp_path)
    except InputError as error:
        assert "try again" in str(error)  # noqa: PT017
        assert names(tmp_path) == []
        download.fetch("numbers", tmp_path)
    assert names(tmp_path) == [FILE]
    assert (tmp_path / FILE).read_bytes() == DATA


def test_what_the_server_does_not_have(server, tmp_path):
    server.files.clear()
    assert "404" in refused(tmp_path)
    assert names(tmp_path) == []


def test_a_name_with_brackets_is_shown_as_it_is(server, tmp_path, monkeypatch, capsys):
    serve(server, monkeypatch, "odd", "[final]a.bin", DATA)
    download.fetch("odd", tmp_path)
    output = capsys.readouterr()
    assert "[final]a.bin" in output.err
    assert output.out == "", "standard output is for results"


def test_a_server_that_is_down(server, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    assert "cannot be fetched" in refused(tmp_path, url)
    assert names(tmp_path) == []


def test_a_server_that_does_not_answer(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "TIMEOUT", 0.1)
    server.wait = 1
    assert "cannot be fetched" in refused(tmp_path)
    assert names(tmp_path) == []


def test_a_page_of_html_is_no_file(server, tmp_path):
    server.files[FILE] = b"\n<!DOCTYPE html><title>Log in</title>"
    assert "a page of HTML in place of the file" in refused(tmp_path)
    assert names(tmp_path) == []


def test_a_full_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    assert f"no space left on device: 1 MB are free in {tmp_path}" in refused(tmp_path)
    assert names(tmp_path) == []


def test_several_processes_download_once(server, tmp_path):
    server.wait = 0.2
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(download.fetch, "numbers", tmp_path) for _ in range(4)]:
            each.result()
    assert len(server.asked) == 1
    assert (tmp_path / FILE).read_bytes() == DATA


@pytest.mark.parametrize("kind", ["folder", "server"])
def test_a_mirror(server, tmp_path, monkeypatch, kind):
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / FILE).write_bytes(DATA)
    monkeypatch.setitem(download.SERVERS, "numbers", "http://nowhere.invalid/")
    monkeypatch.setenv("ZOO_MIRROR", str(folder) if kind == "folder" else server.url)
    download.fetch("numbers", tmp_path / "new")
    assert (tmp_path / "new" / FILE).read_bytes() == DATA
    assert len(server.asked) == (kind == "server")
    (folder / FILE).unlink()
    monkeypatch.setenv("ZOO_MIRROR", str(folder))
    with pytest.raises(downloading.MissingError, match="No such file"):
        download.fetch("numbers", tmp_path / "newer")


def test_a_folder_that_cannot_be(server, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be fetched" in refused(tmp_path / "file")
    assert server.asked == []


def test_a_file_that_is_there_is_not_asked_for(server, tmp_path):
    (tmp_path / FILE).write_bytes(DATA)
    download.fetch("numbers", tmp_path)
    assert server.asked == []
    assert (tmp_path / FILE).read_bytes() == DATA


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / FILE).write_bytes(DATA[:1000])
    download.fetch("numbers", tmp_path)
    assert server.asked == [(FILE, None)]
    assert names(tmp_path) == [FILE]
    assert (tmp_path / FILE).read_bytes() == DATA


def packed(members):
    """A .tar.gz of names and contents; a TarInfo is added as it is."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def serve(server, monkeypatch, name, file, data):
    server.files[file] = data
    monkeypatch.setitem(download.FILES, name, {file: md5(data)})
    monkeypatch.setitem(download.SERVERS, name, server.url)


def test_an_archive_is_unpacked_and_read(server, tmp_path, monkeypatch):
    record = bytes([1]) + bytes(range(256)) * 12
    members = [(f"cifar-10-batches-bin/data_batch_{k}.bin", record) for k in range(1, 6)]
    members += [("cifar-10-batches-bin/batches.meta.txt", b"cat\ndog\n")]
    serve(server, monkeypatch, "cifar10", "cifar-10-binary.tar.gz", packed(members))
    data = open_dataset("cifar10", tmp_path, "train", download=True)
    assert (len(data), data.classes) == (5, ("cat", "dog"))
    assert len(server.asked) == 1
    again = open_dataset("cifar10", tmp_path, "train", download=True)
    assert len(again) == 5
    assert len(server.asked) == 1


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


ESCAPES = {
    "parent": [("../outside.txt", b"x")],
    "deep": [("a/../../outside.txt", b"x")],
    "link": [(link("out", ".."), b""), ("out/outside.txt", b"x")],
}


@pytest.mark.parametrize("kind", ESCAPES)
def test_an_archive_that_escapes_is_refused(server, tmp_path, monkeypatch, kind):
    serve(server, monkeypatch, "bad", "bad.tar.gz", packed(ESCAPES[kind]))
    with pytest.raises(InputError, match=r"bad\.tar\.gz: cannot be (fetched|unpacked)"):
        download.fetch("bad", tmp_path / "root")
    assert all(name.startswith("root/") for name in names(tmp_path))


def test_an_archive_with_an_absolute_path_stays_inside(server, tmp_path, monkeypatch):
    target = tmp_path / "outside.txt"
    serve(server, monkeypatch, "bad", "bad.tar.gz", packed([(str(target), b"x")]))
    with contextlib.suppress(InputError):
        download.fetch("bad", tmp_path / "root")
    assert not target.exists()


def test_an_archive_that_is_none(server, tmp_path, monkeypatch):
    serve(server, monkeypatch, "bad", "bad.tar.gz", b"no archive at all")
    with pytest.raises(InputError, match=r"bad\.tar\.gz: cannot be (fetched|unpacked)"):
        download.fetch("bad", tmp_path)


def test_every_file_of_a_dataset_comes_and_only_the_missing_ones(server, tmp_path, monkeypatch):
    server.files = {f"{k}.gz": bytes([k] * 9) for k in range(4)}
    monkeypatch.setitem(download.FILES, "four", {name: md5(data) for name, data in server.files.items()})
    (tmp_path / "2.gz").write_bytes(server.files["2.gz"])
    download.fetch("four", tmp_path, server.url)
    assert names(tmp_path) == sorted(server.files)
    assert [name for name, _ in server.asked] == ["0.gz", "1.gz", "3.gz"]


def test_a_dataset_is_fetched_only_when_asked_to(server, tmp_path, monkeypatch):
    serve(server, monkeypatch, "mnist", "train-images-idx3-ubyte.gz", b"")
    with pytest.raises(InputError, match="give --dataset_download"):
        open_dataset("mnist", tmp_path, "train")
    assert server.asked == []
