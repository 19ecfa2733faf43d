"""Limits of the system: descriptors, memory, room on a disk, folders that may not be written to. One line says so, and servers go on."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastloc.errors import FastlocError, ImageError
from fastloc.utils.atomic_write import replacing_files, write_whole
from fastloc.utils.exit_status import exit_status
from fastloc.utils.system import files
from fastloc.utils.system.exhaustion import exhausted
from faulty.campaign import contents
from faulty.child import carried_out
from faulty.pieces import PIECES
from forked import needs_fork

# seconds; what does not hang takes a fraction of one
PATIENCE = 10


class OutOfMemoryError(RuntimeError):
    """By its name torch's, of a GPU."""


SAID = {
    "there is not enough memory;": [
        MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
        RuntimeError("std::bad_alloc"), ImportError("libx.so: failed to map segment: Cannot allocate memory"),
        # PyTorch's, of memory for an object around numbers; safetensors reads such objects
        OutOfMemoryError("Failed to allocate a Tensor object"), RuntimeError("Failed to allocate a torch.storage.UntypedStorage object"),
        ValueError("could not determine the shape of object type 'torch.storage.UntypedStorage'"),
    ],
    "not enough memory to load a library, or its folder is mounted noexec": [
        ImportError("numpy is not installed well.\n\nOriginal error was: libx.so: failed to map segment from shared object"),
    ],
    "not enough memory on the GPU": [OutOfMemoryError("CUDA out of memory")],
    "starts no more threads": [RuntimeError("can't start new thread")],
    "may open no more files": [ImportError("libx.so: cannot open shared object file: Too many open files")],
}  # fmt: skip


@pytest.mark.parametrize(("words", "error"), [(words, error) for words, errors in SAID.items() for error in errors])
def test_what_runs_out_is_one_line_of_the_command(words: str, error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise error

    assert exit_status("fastloc", work) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fastloc: error: ") and words in line


OTHERS = [
    RuntimeError("of ours"), ValueError("could not determine the shape of object type 'Box'"), ImportError("of ours"),
    ModuleNotFoundError("x", name="x"), NotImplementedError(),
]  # fmt: skip


@pytest.mark.parametrize("error", OTHERS)
def test_what_means_something_else_is_raised(error: Exception) -> None:
    def work() -> int:
        raise error

    assert exhausted(error) is None
    with pytest.raises(type(error)):
        exit_status("fastloc", work)


@needs_fork
def test_memory_that_really_runs_out() -> None:
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (64 << 30, 64 << 30))
        np.ones((1 << 40,), np.uint8)

    ended = carried_out(work)
    assert ended.status == 1 and ended.printed.startswith("fastloc: error: there is not enough memory;"), ended


@needs_fork
def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Really none: files cannot be opened, libraries' neither."""
    target = tmp_path / "texts.npz"
    target.write_bytes(b"before")
    # whatever it imports is there
    PIECES["text embeddings"].work(tmp_path / "..")

    def work() -> None:
        highest = os.dup(0)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
        PIECES["text embeddings"].work(tmp_path)

    ended = carried_out(work)
    assert ended.status == 1 and ended.printed.splitlines() == [f"fastloc: error: {target}: cannot be written (Too many open files)"], ended
    assert contents(tmp_path) == {"texts.npz": b"before"}


@needs_fork
@pytest.mark.parametrize("room", [0, 100, 5000])
def test_a_disk_that_is_full_for_libraries_too(tmp_path: Path, room: int) -> None:
    """Weights of a large graph are written by a library, past the file layer: into the folder of an unfinished file."""
    target = tmp_path / "x.onnx"
    target.write_bytes(b"before")

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        try:
            with replacing_files(target) as folder:
                (folder / "x.onnx.data").write_bytes(b"w" * 9000)
                files.write_bytes(folder / "x.onnx", b"graph")
        except OSError as error:
            raise FastlocError(f"{target}: cannot be written ({error.strerror})") from error
        finally:
            # what is printed goes to a file too
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    ended = carried_out(work)
    assert ended.status == 1 and "cannot be written (File too large)" in ended.printed, ended
    assert contents(tmp_path) == {"x.onnx": b"before"} and list(tmp_path.iterdir()) == [target]


def test_a_file_system_that_is_really_full(tmp_path: Path) -> None:
    """A file system in memory of a few pages; mounting one takes rights that tests seldom have."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        (tmp_path / "x.bin").write_bytes(b"before")
        with pytest.raises(FastlocError, match="No space left on device"):
            write_whole(tmp_path / "x.bin", lambda file: file.write(b"x" * 100_000))
        assert contents(tmp_path) == {"x.bin": b"before"} and len(list(tmp_path.iterdir())) == 1
    finally:
        subprocess.run(["umount", str(tmp_path)], check=False)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="to root every folder is open")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(FastlocError, match="cannot be written \\(Permission denied\\)"):
            write_whole(tmp_path / "x.bin", lambda file: file.write(b"x"))
    finally:
        tmp_path.chmod(0o755)


def test_a_picture_for_which_there_is_too_little_memory_does_not_end_a_batch() -> None:
    from fastloc.scale.locate import Locate

    def locate(pictures: list[Any], texts: Any, names: Any) -> list[str]:
        if len(pictures) > 1 or pictures[0] == "large":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory") if len(pictures) > 1 else MemoryError()
        return [f"result of {pictures[0]}"]

    made: Any = object.__new__(Locate)
    made.__dict__.update(_engine=(SimpleNamespace(locate=locate), ("cat",)), _turns=nullcontext())
    first, refused, last = Locate._results(made, ["a", "large", "b"])
    assert (first, last) == ("result of a", "result of b")
    assert isinstance(refused, ImageError) and "not enough memory" in str(refused)


def test_a_picture_for_which_there_is_too_little_memory_does_not_end_an_evaluation() -> None:
    from fastloc.evaluation.rows import Row
    from fastloc.evaluation.running.pipeline import _rows

    def judge(prepared: list[str]) -> list[Row]:
        if "large" in prepared:
            raise RuntimeError("can't allocate memory") if len(prepared) > 1 else MemoryError("planted")
        return [Row(each) for each in prepared]

    found = _rows(SimpleNamespace(judge=judge), [("a", "a"), ("b", "large"), ("c", "c")])  # type: ignore[arg-type]
    assert [bool(row.error) for row in found] == [False, True, False]

    def other(prepared: list[str]) -> list[Row]:
        raise RuntimeError("of ours")

    with pytest.raises(RuntimeError, match="of ours"):
        _rows(SimpleNamespace(judge=other), [("a", "a")])  # type: ignore[arg-type]


def test_a_service_without_memory_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("prometheus_client")
    from starlette.testclient import TestClient

    from fastloc.embedded import SAMPLES
    from fastloc.serve.app import application
    from tiny_localizer import tiny

    localizer = tiny(tmp_path)
    usual, left = localizer.locate, [2]

    def locate(*given: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise MemoryError
        return usual(*given, **more)

    monkeypatch.setattr(localizer, "locate", locate)
    with TestClient(application(localizer), raise_server_exceptions=False) as client:
        def ask() -> Any:
            return client.post("/v1/locate", files={"image": (SAMPLES / "market.webp").read_bytes()}, data={"texts": ["cat"]})

        for _ in range(2):
            refused = ask()
            assert refused.status_code == 503 and "not enough memory" in refused.json()["error"] and refused.headers["retry-after"] == "1"
        assert ask().status_code == 200


FAULTS = [OSError(errno.EMFILE, "Too many open files"), OSError(errno.ENFILE, "Too many open files in system"), MemoryError("planted")]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_server_accepts_again_after(fault: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("uvicorn")
    import httpx2

    from fastloc.web_server import server
    from live_client import Bright
    from live_server import serving

    left, usual = [3], socket.socket.accept

    def accept(listening: socket.socket) -> Any:
        if left[0]:
            left[0] -= 1
            raise fault
        return usual(listening)

    monkeypatch.setattr(socket.socket, "accept", accept)
    monkeypatch.setattr(server, "REST", 0.01)
    with serving(Bright()) as (_, address):
        assert httpx2.get(f"{address}/state", timeout=PATIENCE).status_code == 200
    assert left == [0] and "no connection can be accepted" in capsys.readouterr().err


def test_the_server_of_a_page_serves_again_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After descriptors that were out, and threads that did not start: more often than there are places."""
    import socketserver
    import urllib.request

    from fastloc.cli import web

    (tmp_path / "a.txt").write_text("a")
    left, usual, start = [2], socketserver.TCPServer.get_request, threading.Thread.start
    unstarted = [web.CONNECTIONS + 1]

    def get(server: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return usual(server)

    def begin(thread: threading.Thread) -> None:
        if unstarted[0] and "process_request_thread" in thread.name:
            unstarted[0] -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(web, "REST", 0.01)
    monkeypatch.setattr(socketserver.TCPServer, "get_request", get)
    monkeypatch.setattr(threading.Thread, "start", begin)
    server = web.serving(tmp_path, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/a.txt"
        for _ in range(web.CONNECTIONS + 1):
            with pytest.raises(OSError, match=r"."):
                urllib.request.urlopen(address, timeout=PATIENCE)
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            assert answer.read() == b"a"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)
    assert (left, unstarted) == ([0], [0])
