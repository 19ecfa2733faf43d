"""`fastloc video` with several videos and odd outputs, and how signals end it."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from fractions import Fraction
from pathlib import Path

import pytest

av = pytest.importorskip("av")

from clips import colours, index_of, write_clip  # noqa: E402
from command_line import Run, run_fixture  # noqa: E402, F401
from fastloc.cli import video  # noqa: E402
from repo import REPO, SUPPORT  # noqa: E402
from video_command import Camera, StandIn, engine_fixture, errors  # noqa: E402, F401
from written import partial, pictures, times  # noqa: E402


def test_several_videos(run: Run, engine: StandIn, tmp_path: Path) -> None:
    """One order, one name each; a name that comes twice gets a number; one that cannot be read does not stop the others."""
    for name, count in (("a.mp4", 3), ("far/a.mkv", 4), ("b.webm", 5)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_clip(tmp_path / name, colours(count, first=10 * count))
    (tmp_path / "bad.mp4").write_text("words")
    ended = run("video", "a.mp4", "far/a.mkv", "bad.mp4", "missing.mp4", "b.webm", "-t", "cat", "-o", "out", "--json", "lines")
    assert ended.status == 1
    assert errors(ended) == [
        "fastloc: error: 2 of 5 videos could not be used:", "  bad.mp4: must be a video, got a text", "  missing.mp4: no such file",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-2.gem.mp4", "a.gem.mp4", "b.gem.mp4"]
    for name, count in (("a", 3), ("a-2", 4), ("b", 5)):
        shown = [index_of(each) for each in pictures(tmp_path / "out" / f"{name}.gem.mp4")]
        lines = [json.loads(line) for line in (tmp_path / "lines" / f"{name}.gem.jsonl").read_text().splitlines()]
        assert len(shown) == len(lines) == count and [line["index"] for line in lines] == list(range(count))
    assert engine.seen == [*range(30, 33), *range(40, 44), *range(50, 55)]
    assert [line for line in ended.out.splitlines() if line.startswith("written: out")] == [
        f"written: out/{name}.gem.mp4" for name in ("a", "a-2", "b")
    ]  # fmt: skip


def test_a_pattern(run: Run, engine: StandIn, tmp_path: Path) -> None:
    """Files of a pattern come by name, beside those given as they are; lines on standard output name their video."""
    for name in ("b1.mp4", "b0.mp4", "c.mp4", "[d].mp4"):
        write_clip(tmp_path / name, colours(2))
    ended = run("video", "c.mp4", "b*.mp4", "[d].mp4", "-t", "cat", "--json")
    assert ended.status == 0, ended.err
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["video"], line["index"]) for line in lines] == [
        (name, index) for name in ("c.mp4", "b0.mp4", "b1.mp4", "[d].mp4") for index in (0, 1)
    ]
    assert run("video", "b?.mp4", "-t", "cat").status == 0
    assert len(times(tmp_path / "b0.gem.mp4")) == len(times(tmp_path / "b1.gem.mp4")) == 2
    ended = run("video", "z*.mp4", "-t", "cat")
    assert ended.status == 1 and errors(ended) == ["fastloc: error: z*.mp4: no file matches this pattern"]


def test_a_folder_for_one_video(run: Run, engine: StandIn, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", colours(2))
    (tmp_path / "there").mkdir()
    assert run("video", "in.mp4", "-t", "cat", "-o", "there").status == 0
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["in.gem.mp4"]


REFUSED = {
    "--output must be a folder for several videos": ("a.mp4", "b.mp4", "-o", "out.mkv"),
    "--json must be a folder for several videos": ("a.mp4", "b.mp4", "--json", "out.jsonl"),
    "must be a folder for several videos, got b.mp4": ("a.mp4", "b.mp4", "-o", "b.mp4", "--force"),
    "a.gem.mp4: exists already; --force writes over it": ("a.mp4", "b.mp4"),
    "standard output: the video and the JSON": ("a.mp4", "-o", "/dev/stdout", "--json"),
    "must have at most max_pixels = 3,071 pixels, got 64 x 48 = 3,072": ("a.mp4", "--max-pixels", "3071"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused_before_anything_is_written(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    monkeypatch.setattr(video, "engine", lambda args: pytest.fail("the model was loaded"))
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, colours(2))
    if "exists" in message:
        (tmp_path / "a.gem.mp4").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    options = [*REFUSED[message]]
    at = next(index for index, each in enumerate([*options, "-"]) if each.startswith("-"))
    ended = run("video", *options[:at], "-t", "cat", *options[at:])
    assert ended.status == 1 and len(errors(ended)) == 1 and message in ended.err, ended.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_lines_and_videos_into_special_files(run: Run, engine: StandIn, tmp_path: Path) -> None:
    """A link stays one and its target is replaced; a pipe gets the bytes; a device is left what it is."""
    write_clip(tmp_path / "in.mp4", colours(4))
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "t.mp4").write_text("old")
    (tmp_path / "link.mp4").symlink_to("disk/t.mp4")
    os.mkfifo(tmp_path / "lines.jsonl")
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append((tmp_path / "lines.jsonl").read_bytes()), daemon=True)
    thread.start()
    ended = run("video", "in.mp4", "-t", "cat", "-o", "link.mp4", "--json", "lines.jsonl", "--force")
    thread.join(10)
    assert ended.status == 0, ended.err
    assert (tmp_path / "link.mp4").is_symlink() and len(times(tmp_path / "disk" / "t.mp4")) == 4
    assert [json.loads(line)["index"] for line in read[0].splitlines()] == [0, 1, 2, 3]
    assert stat.S_ISFIFO((tmp_path / "lines.jsonl").lstat().st_mode)
    assert run("video", "in.mp4", "-t", "cat", "-o", os.devnull, "--json", os.devnull).status == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "disk", "link.mp4", "lines.jsonl"}


SCRIPT = """
    import os, signal, sys
    sys.path[:0] = [{repo!r}, {support!r}]
    from video_command import Camera, StandIn
    from fastloc.cli import main, video
    from fastloc.video.sources import open_source
    engine = StandIn()
    engine.then = lambda count: os.kill(os.getpid(), signal.{name}) if count == {count} else None
    video.engine = lambda args: engine
    if {camera}:
        open_source.open_source = lambda given, **more: Camera()
    sys.exit(main(["video", *{arguments!r}]))
"""


def ended_by(folder: Path, name: str, count: int, *arguments: str, camera: bool = False) -> subprocess.CompletedProcess[bytes]:
    script = SCRIPT.format(repo=str(REPO), support=str(SUPPORT), name=name, count=count, camera=camera, arguments=arguments)
    command = [sys.executable, "-P", "-c", textwrap.dedent(script)]
    return subprocess.run(command, cwd=folder, timeout=60, check=False, capture_output=True)


def test_standard_output_by_its_names(run: Run, engine: StandIn, tmp_path: Path) -> None:
    """Lines, or the video itself; what else there is to say goes to standard error."""
    write_clip(tmp_path / "in.mp4", colours(5), audio="aac")
    ended = run("video", "in.mp4", "-t", "cat", "--json", "/dev/stdout")
    assert [json.loads(line)["index"] for line in ended.out.splitlines()] == list(range(5)) and "5 frames in" in ended.err
    for name in ("/dev/stdout", "-"):
        piped = ended_by(tmp_path, "SIGTERM", 99, "in.mp4", "-t", "cat", "-o", name)
        assert piped.returncode == 0 and b"5 frames in" in piped.stderr, piped.stderr
        (tmp_path / "piped").write_bytes(piped.stdout)
        assert times(tmp_path / "piped") == times(tmp_path / "in.mp4")


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_it_as_ctrl_c_does(tmp_path: Path, name: str, status: int) -> None:
    """The file is finished where it is, under its partial name; the exit status is the signal's."""
    write_clip(tmp_path / "in.mp4", colours(60), audio="aac")
    ended = ended_by(tmp_path, name, 30, "in.mp4", "-t", "cat", "-o", "out.mp4", "--json", "out.jsonl")
    assert ended.returncode == status and b"Traceback" not in ended.stderr, ended.stderr
    left = partial(tmp_path / "out.mp4")
    assert f"{left.name}: holds what was written until then, and can be played".encode() in ended.stderr
    kept = times(left)
    assert 20 <= len(kept) < 40 and kept == times(tmp_path / "in.mp4")[: len(kept)]
    assert len(partial(tmp_path / "out.jsonl").read_text().splitlines()) >= len(kept)


def test_a_signal_ends_a_camera_properly(tmp_path: Path) -> None:
    ended = ended_by(tmp_path, "SIGTERM", 20, "camera:0", "-t", "cat", camera=True)
    assert ended.returncode == 143 and b"written: camera-0.gem.mp4" in ended.stdout, ended.stderr
    kept = times(tmp_path / "camera-0.gem.mp4")
    assert kept[0] == 0 and len(kept) > 5 and kept == sorted(kept) and not list(tmp_path.glob("*partial*"))


@pytest.mark.parametrize(("suffix", "count"), [(".mp4", 2), (".mkv", 2)])
def test_a_run_that_is_killed_at_its_second_frame(tmp_path: Path, suffix: str, count: int) -> None:
    """The first frame, written by then, plays; there is no moment without it."""
    write_clip(tmp_path / "in.mp4", colours(60), audio="aac")
    ended = ended_by(tmp_path, "SIGKILL", count + 3, "in.mp4", "-t", "cat", "-o", f"out{suffix}")
    assert ended.returncode == -signal.SIGKILL
    left = partial(tmp_path / f"out{suffix}")
    kept = times(left)
    assert kept and kept == [Fraction(index, 10) for index in range(len(kept))]
    assert [index_of(each) for each in pictures(left)] == list(range(len(kept)))


def test_ctrl_c_among_several(run: Run, engine: StandIn, tmp_path: Path) -> None:
    """Complete videos stay; the one under way is left as a part, and those to come are not begun."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_clip(tmp_path / name, colours(40))
    (tmp_path / "0.mp4").write_text("words")
    engine.then = lambda count: os.kill(os.getpid(), signal.SIGINT) if count == 60 else None
    ended = run("video", "0.mp4", "a.mp4", "b.mp4", "c.mp4", "-t", "cat", "-o", "out")
    assert ended.status == 130 and "1 of 4 videos could not be used:" in ended.err
    assert len(times(tmp_path / "out" / "a.gem.mp4")) == 40
    assert 10 <= len(times(partial(tmp_path / "out" / "b.gem.mp4"))) <= 25
    assert len(list((tmp_path / "out").iterdir())) == 2 and Camera.live


def test_options_of_exported_files(run: Run, tmp_path: Path) -> None:
    from fastloc.embedded import GEM_ONNX, GEM_TEXT_ONNX, MODEL

    write_clip(tmp_path / "a.mp4", colours(3))
    assert run("embed", "cat", "-o", "words.npz").status == 0
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(GEM_ONNX.read_bytes())
    # its weights, as they lie in the package
    shutil.copy(MODEL, tmp_path)
    without = run("video", "a.mp4", "-t", "cat", "--model", alone, "--json")
    assert without.status == 1 and "--embeddings" in without.err and "--text-tower" in without.err
    for options in (("--embeddings", "words.npz"), ("--text-tower", GEM_TEXT_ONNX)):
        assert run("video", "a.mp4", "-t", "cat", "--model", alone, "--json", *options).status == 0
    # the texts of embeddings need not be said again
    ended = run("video", "a.mp4", "--model", alone, "--json", "--embeddings", "words.npz")
    assert ended.status == 0 and '"cat"' in ended.out
    assert run("video", "a.mp4", "--json").status == 2
