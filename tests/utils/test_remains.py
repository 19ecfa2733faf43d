"""Unfinished files: those of killed processes are removed, those that somebody works on are not, and nothing else is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastloc.utils.atomic_write import replacing, replacing_files, replacing_folder
from fastloc.utils.system import files, remains
from forked import needs_fork

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
OLD, OTHER = ".x.txt.0123456789abcdef.part", ".x.txt.fedcba9876543210.part"


def write(path: Path, content: str = "new") -> None:
    with replacing(path) as part:
        part.write_text(content)


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    (tmp_path / OLD).write_text("half")
    (tmp_path / OTHER).mkdir()
    (tmp_path / OTHER / "inside").write_text("half")
    write(tmp_path / "x.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_names_that_only_look_like_it_are_left_alone(tmp_path: Path) -> None:
    names = [OLD.replace("x", "y", 1), ".x.txt.0123.part", OLD[1:], OLD.replace("f.", "g."), "x.txt.part"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / OLD).symlink_to("elsewhere")
    write(tmp_path / "x.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "elsewhere", OLD, "x.txt"])


def test_another_user_s_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / OLD).write_text("somebody's")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    remains.clean(tmp_path / "x.txt")
    assert (tmp_path / OLD).exists()


@needs_fork
@pytest.mark.parametrize("way", [replacing, replacing_files, replacing_folder])
def test_one_that_a_process_works_on_stays_until_the_process_is_gone(tmp_path: Path, way: Callable[..., object]) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with way(tmp_path / "x.txt"):  # type: ignore[attr-defined]
            os.write(writing, b"!")
            signal.pause()
        os._exit(1)
    assert os.read(reading, 1) == b"!"
    (part,) = tmp_path.iterdir()
    write(tmp_path / "x.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([part.name, "x.txt"])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    write(tmp_path / "x.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    for each in (reading, writing):
        os.close(each)


def test_two_writers_in_one_process_do_not_disturb_each_other(tmp_path: Path) -> None:
    with replacing(tmp_path / "x.txt") as first:
        first.write_text("first")
        write(tmp_path / "x.txt", "second")
        assert first.read_text() == "first" and (tmp_path / "x.txt").read_text() == "second"
    assert (tmp_path / "x.txt").read_text() == "first" and len(list(tmp_path.iterdir())) == 1


def test_one_that_is_taken_away_while_it_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, taken = files.open_descriptor, []

    def hasty(path: Path, flags: int, mode: int = 0o666) -> int:
        found = usual(path, flags, mode)
        if not taken:
            taken.append(path)
            os.unlink(path)
        return found

    monkeypatch.setattr(files, "open_descriptor", hasty)
    write(tmp_path / "x.txt")
    assert taken and (tmp_path / "x.txt").read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken for a killed process's there."""
    import fcntl

    def none(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / OLD).write_text("perhaps somebody's")
    write(tmp_path / "x.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [OLD, "x.txt"]


def test_files_that_were_just_being_replaced_are_put_back(tmp_path: Path) -> None:
    """A process was killed between moving the old graph aside and moving the new one in: the new weights had their name already."""
    part = tmp_path / ".x.onnx.0123456789abcdef.part"
    (part / remains.OLD).mkdir(parents=True)
    (part / remains.OLD / "x.onnx").write_text("old graph")
    (part / remains.OLD / "x.onnx.data").write_text("old weights")
    (part / "x.onnx").write_text("new graph")
    (tmp_path / "x.onnx.data").write_text("new weights")
    remains.clean(tmp_path / "x.onnx")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x.onnx": "old graph", "x.onnx.data": "old weights"}


def write_pair(path: Path) -> None:
    with replacing_files(path) as folder:
        for name in (path.name, f"{path.name}.data"):
            (folder / name).write_text(f"new {name}")


def test_a_failing_move_puts_all_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x.onnx", "x.onnx.data"):
        (tmp_path / name).write_text(f"old {name}")
    usual = files.rename
    for failing in range(4):
        count = SimpleNamespace(value=-1)

        def rename(old: Path, new: Path, failing: int = failing, count: SimpleNamespace = count) -> None:
            count.value += 1
            if count.value == failing:
                raise OSError(5, "Input/output error")
            usual(old, new)

        with monkeypatch.context() as patch:
            patch.setattr(files, "rename", rename)
            with pytest.raises(OSError, match="Input/output error"):
                write_pair(tmp_path / "x.onnx")
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "x.onnx": "old x.onnx", "x.onnx.data": "old x.onnx.data",
        }, failing  # fmt: skip


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_exchanged_or_replaced_in_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "exchange", lambda one, other: False)
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "old").write_text("old")
    with replacing_folder(tmp_path / "page") as folder:
        (folder / "new").write_text("new")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["page", "page/new"]


def test_an_exchange_says_whether_there_was_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("b")
    if files.exchange(tmp_path / "a", tmp_path / "b"):
        assert (tmp_path / "a").read_text() == "b" and (tmp_path / "b").is_dir()
        with pytest.raises(FileNotFoundError):
            files.exchange(tmp_path / "a", tmp_path / "none")


def test_a_file_of_the_layer_gives_no_descriptor_away(tmp_path: Path) -> None:
    with files.opened(tmp_path / "x") as file:
        with pytest.raises(OSError, match="fileno"):
            file.fileno()
        file.write(b"abc")
        files.sync(file)
        assert (tmp_path / "x").read_bytes() == b"abc"
    with files.opened(tmp_path / "x", "r+b") as file:
        assert file.read() == b"abc"
        file.truncate(1)
        file.seek(0, os.SEEK_END)
        file.write(b"z")
    assert (tmp_path / "x").read_bytes() == b"az"
    with files.opened(tmp_path / "large", "w+b") as file:
        files.reserve_all(file, 70_000)
    assert (tmp_path / "large").stat().st_size == 70_000 and (tmp_path / "large").stat().st_blocks * 512 >= 70_000
