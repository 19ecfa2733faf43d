"""Outputs that are links, pipes or devices, and names that somebody else could know."""

import json
import os
import stat
import threading
import warnings
from pathlib import Path

import pytest

from clips import coded, index_of
from fastloc.errors import FastlocWarning, VideoError
from fastloc.video.output.json_lines import Records
from fastloc.video.output.partial_file import PartialFile
from fastloc.video.output.writer import VideoWriter
from written import partial, pictures, times

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes of POSIX")


def write(target: Path, count: int = 12, force: bool = False) -> None:
    with VideoWriter(target, rate=10, force=force) as video:
        for index in range(count):
            video.write(coded(index))


def test_a_partial_name_is_new_each_time(tmp_path: Path) -> None:
    names = set()
    for _ in range(5):
        file = PartialFile(tmp_path / "out.mp4")
        names.add(file.part.name)
        file.discard()
    assert len(names) == 5 and all(name.startswith("out.partial-") and name.endswith(".mp4") for name in names)
    assert not list(tmp_path.iterdir())


def test_a_partial_file_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even of a name that was guessed: it is created, or it is not."""
    monkeypatch.setattr("fastloc.video.output.partial_file.secrets.token_hex", lambda count: "0" * 2 * count)
    (tmp_path / "victim").write_text("precious")
    for link in ("victim", "none"):
        (tmp_path / "out.partial-00000000.mp4").symlink_to(tmp_path / link)
        with pytest.raises(VideoError, match=r"out\.mp4: cannot be written \(File exists\)"):
            VideoWriter(tmp_path / "out.mp4")
        with pytest.raises(VideoError, match="cannot be written"):
            Records(tmp_path / "out.mp4")
        (tmp_path / "out.partial-00000000.mp4").unlink()
    assert (tmp_path / "victim").read_text() == "precious" and not (tmp_path / "none").exists()


def test_the_name_of_old(tmp_path: Path) -> None:
    """It could be planted, and what an interrupted run had left there was in the way."""
    (tmp_path / "out.partial.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    write(tmp_path / "out.mp4")
    assert len(times(tmp_path / "out.mp4")) == 12 and not (tmp_path / "elsewhere.mp4").exists()


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one(tmp_path: Path, there: bool) -> None:
    """The file that it points at is replaced, and made beside it: the link may lead to another disk."""
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "t.mp4", tmp_path / "out.mp4"
    if there:
        target.write_text("old")
        target.chmod(0o640)
    link.symlink_to("disk/t.mp4")
    with VideoWriter(link, rate=10, force=True) as video:
        video.write(coded(3))
        assert video.partial.parent == tmp_path / "disk" and (not there or target.read_text() == "old")
    assert link.is_symlink() and len(times(target)) == 1
    assert [path.name for path in target.parent.iterdir()] == ["t.mp4"]
    if there:
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        with pytest.raises(VideoError, match="exists already"):
            VideoWriter(link)


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").symlink_to("none/t.mp4")
    with pytest.raises(VideoError, match=r"is a link into the folder .*none, which does not exist"):
        VideoWriter(tmp_path / "out.mp4")
    (tmp_path / "a.mp4").symlink_to("b.mp4")
    (tmp_path / "b.mp4").symlink_to("a.mp4")
    with pytest.raises(VideoError, match=r"a\.mp4: cannot be written"):
        VideoWriter(tmp_path / "a.mp4")


class Reader(threading.Thread):
    """Reads a pipe to its end."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.content = path, b""
        self.start()

    def run(self) -> None:
        self.content = self.path.read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ""])
def test_a_pipe_is_written_into(tmp_path: Path, suffix: str) -> None:
    """Without going back: what comes out at the other end can be played."""
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    reader = Reader(pipe)
    write(pipe)
    reader.join(10)
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and [path.name for path in tmp_path.iterdir()] == [pipe.name]
    (tmp_path / "read").write_bytes(reader.content)
    assert len(times(tmp_path / "read")) == 12
    assert [index_of(each) for each in pictures(tmp_path / "read")] == list(range(12))


def test_a_pipe_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for ever would be waiting for nothing, mostly; a reader may come a little later."""
    os.mkfifo(tmp_path / "pipe.mp4")
    monkeypatch.setattr("fastloc.video.output.partial_file.PATIENCE", 0.1)
    with pytest.raises(VideoError, match=r"pipe\.mp4: cannot be written \(is a pipe that nobody reads"):
        VideoWriter(tmp_path / "pipe.mp4")
    monkeypatch.undo()
    readers: list[Reader] = []
    later = threading.Timer(0.3, lambda: readers.append(Reader(tmp_path / "pipe.mp4")))
    later.start()
    write(tmp_path / "pipe.mp4")
    later.join()
    readers[0].join(10)
    assert readers[0].content


def test_a_pipe_whose_reader_goes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    opened = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    video = VideoWriter(pipe, rate=10)
    os.close(opened)

    def fill() -> None:
        for index in range(200):
            video.write(coded(index))

    with pytest.raises(VideoError, match=r"pipe\.mp4: cannot be written \(Broken pipe\)$"):
        fill()
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_device(tmp_path: Path) -> None:
    """/dev/null, by a link: as root the device itself would be gone."""
    (tmp_path / "null.mp4").symlink_to(os.devnull)
    write(tmp_path / "null.mp4")
    write(Path(os.devnull))
    with Records(Path(os.devnull)) as records:
        records.write({"index": 0})
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode) and (tmp_path / "null.mp4").is_symlink()
    assert len(list(tmp_path.iterdir())) == 1
    assert not [name for name in os.listdir("/dev") if "partial" in name or ".part" in name]


def test_lines_in_a_pipe_come_one_by_one(tmp_path: Path) -> None:
    pipe = tmp_path / "lines.jsonl"
    os.mkfifo(pipe)
    opened = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with Records(pipe) as records:
        for index in range(3):
            records.write({"index": index})
            assert json.loads(os.read(opened, 1000)) == {"index": index}
    os.close(opened)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_socket_is_refused(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "out.mp4"))
        with pytest.raises(VideoError, match=r"out\.mp4: cannot be written \(is a socket"):
            VideoWriter(tmp_path / "out.mp4", force=True)
        assert stat.S_ISSOCK((tmp_path / "out.mp4").stat().st_mode)


def test_what_was_left_stays(tmp_path: Path) -> None:
    """An interrupted run's file is not written over by the next one."""
    video = VideoWriter(tmp_path / "out.mp4", rate=10)
    video.write(coded(0))
    left = video.abandon()
    assert left == partial(tmp_path / "out.mp4") and len(times(left)) == 1
    write(tmp_path / "out.mp4")
    assert left.exists() and len(times(tmp_path / "out.mp4")) == 12


def test_an_error_while_a_pipe_is_written(tmp_path: Path) -> None:
    """The error does not mention a file that could be played."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    reader = Reader(pipe)

    def fail() -> None:
        with VideoWriter(pipe, rate=10) as video:
            video.write(coded(0))
            raise ZeroDivisionError

    with warnings.catch_warnings():
        warnings.simplefilter("error", FastlocWarning)
        with pytest.raises(ZeroDivisionError):
            fail()
    reader.join(10)
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and reader.content
