"""A target has its name once it is whole; after an error what was there before is there still, and nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastloc.errors import FastlocError
from fastloc.utils.atomic_write import is_stream, replacing, replacing_files, replacing_folder, write_whole


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("before")
    with replacing(target) as part:
        part.write_text("after")
        assert target.read_text() == "before" and part.parent == tmp_path
    assert target.read_text() == "after" and list(tmp_path.iterdir()) == [target]


def test_files_that_belong_together_go_beside_each_other(tmp_path: Path) -> None:
    with replacing_files(tmp_path / "x.onnx") as folder:
        (folder / "x.onnx").write_text("graph")
        (folder / "x.onnx.data").write_text("weights")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"x.onnx": "graph", "x.onnx.data": "weights"}


def test_a_folder_replaces_another_that_is_not_empty(tmp_path: Path) -> None:
    target = tmp_path / "page"
    target.mkdir()
    (target / "old").write_text("old")
    with replacing_folder(target) as part:
        (part / "new").write_text("new")
    assert [file.name for file in target.iterdir()] == ["new"] and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("way", "call"),
    [
        (replacing, "os.open"),
        (replacing_files, "pathlib.Path.mkdir"),
        (replacing_files, "shutil.rmtree"),
        (replacing_folder, "pathlib.Path.mkdir"),
        (replacing_folder, "shutil.rmtree"),
    ],
)
def test_an_interruption_at_the_very_moment_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], AbstractContextManager[Path]], call: str
) -> None:
    """As soon as the part is there, and while it is removed: signals choose."""
    owner, _, name = call.rpartition(".")
    place: Any = {"os": os, "shutil": shutil, "pathlib.Path": Path}[owner]
    usual, raised = getattr(place, name), []

    def interrupted(*args: Any, **more: Any) -> Any:
        found = None if name == "rmtree" and not raised else usual(*args, **more)
        if not raised:
            raised.append(name)
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(place, name, interrupted)
    with suppress(KeyboardInterrupt), way(tmp_path / "x.txt") as part:
        (part if way is replacing else part / "x.txt").write_text("whole")
        raise KeyboardInterrupt
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    target, folder = tmp_path / "x.txt", tmp_path / "page"
    target.write_text("before")
    folder.mkdir()

    def broken(way: Callable[[Path], AbstractContextManager[Path]], path: Path, inside: str) -> None:
        with way(path) as part:
            (part / inside).write_text("half")
            raise error

    for way, path, inside in ((replacing, target, ""), (replacing_files, target, "x.txt"), (replacing_folder, folder, "new")):
        with pytest.raises(error):
            broken(way, path, inside)
    assert target.read_text() == "before" and not list(folder.iterdir())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page", "x.txt"]


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "t.txt").write_text("old")
    (tmp_path / "t.txt").symlink_to("disk/t.txt")
    (tmp_path / "new.txt").symlink_to("disk/new.txt")
    (tmp_path / "page").symlink_to("disk/page")
    write_whole(tmp_path / "t.txt", lambda file: file.write(b"after"))
    with replacing_files(tmp_path / "new.txt") as folder:
        (folder / "new.txt").write_text("graph")
        (folder / "new.txt.data").write_text("weights")
    with replacing_folder(tmp_path / "page") as folder:
        (folder / "index").write_text("page")
    assert [(tmp_path / name).is_symlink() for name in ("t.txt", "new.txt", "page")] == [True] * 3
    found = {str(path.relative_to(disk)): path.read_text() for path in disk.rglob("*") if path.is_file()}
    assert found == {"t.txt": "after", "new.txt": "graph", "new.txt.data": "weights", "page/index": "page"}


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(FastlocError, match=r"a: cannot be written \(.*(circle|symbolic links)"):
        write_whole(tmp_path / "a", lambda file: file.write(b"x"))


def test_the_link_of_somebody_else_in_a_shared_folder_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "x.txt").symlink_to(victim)
    # to whoever runs this the link is then somebody else's, as the folder is
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    owners = {shared: os.getuid() + 1}
    real = Path.stat

    def stat(path: Path, **options: bool) -> object:
        found = real(path, **options)
        return SimpleNamespace(st_mode=found.st_mode, st_uid=owners[path]) if path in owners else found

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(FastlocError, match="somebody else's link"):
        write_whole(shared / "x.txt", lambda file: file.write(b"x"))
    assert victim.read_text() == "precious" and (shared / "x.txt").is_symlink()


def test_a_planted_link_under_a_part_s_name_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    (tmp_path / f".x.txt.{'0' * 16}.part").symlink_to(victim)
    with pytest.raises(FastlocError, match="File exists"):
        write_whole(tmp_path / "x.txt", lambda file: file.write(b"x"))
    assert victim.read_text() == "precious"


def test_a_pipe_is_written_into_and_stays(tmp_path: Path) -> None:
    pipe, seen = tmp_path / "pipe", []
    os.mkfifo(pipe)

    def writes() -> Iterator[Callable[[], object]]:
        yield lambda: write_whole(pipe, lambda file: (file.write(b"..ter"), file.seek(0), file.write(b"af")))
        yield lambda: _by(replacing, pipe, "")
        yield lambda: _by(replacing_files, pipe, "pipe")

    for write in writes():
        reader = threading.Thread(target=lambda: seen.append(pipe.read_bytes()))
        reader.start()
        write()
        reader.join(10)
    assert seen == [b"after"] * 3 and stat.S_ISFIFO(pipe.stat().st_mode) and list(tmp_path.iterdir()) == [pipe]


def _by(way: Callable[[Path], AbstractContextManager[Path]], path: Path, inside: str) -> None:
    with way(path) as part:
        (part / inside).write_text("after")


def test_devices_and_open_files_are_streams_and_sockets_are_refused(tmp_path: Path) -> None:
    assert is_stream(Path(os.devnull)) and not is_stream(tmp_path / "new")
    write_whole(Path(os.devnull), lambda file: file.write(b"x"))
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with (tmp_path / "open").open("wb") as file:
        assert is_stream(Path(f"/dev/fd/{file.fileno()}"))
    with pytest.raises(FastlocError, match="is a folder"):
        write_whole(tmp_path, lambda file: file.write(b"x"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(FastlocError, match="is a socket"):
            write_whole(tmp_path / "socket", lambda file: file.write(b"x"))


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    target = tmp_path / "private"
    target.touch(mode=0o600)
    write_whole(target, lambda file: file.write(b"x"))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
