"""`fastloc video`: its output against the video it read; its refusals; and interruptions. A stand-in for the engine answers
at once, and knows the frame it was shown; one test runs the embedded model."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")

from clips import colours, index_of, write_clip, write_sound  # noqa: E402
from command_line import Run, run_fixture  # noqa: E402, F401
from fastloc.cli import video  # noqa: E402
from fastloc.cli.video_progress import Spent, bar  # noqa: E402
from fastloc.embedded import GEM_ONNX, SAMPLES  # noqa: E402
from fastloc.errors import ModelError  # noqa: E402
from fastloc.video.output.jobs import stem_of  # noqa: E402
from repo import REPO, SUPPORT  # noqa: E402
from video_command import Camera, StandIn, engine_fixture, errors  # noqa: E402, F401
from written import largest_file, partial, pictures, sounds, times  # noqa: E402

UNEVEN = np.cumsum(np.random.default_rng(5).uniform(0.02, 0.12, 30)).tolist()
INPUTS: dict[str, dict[str, Any]] = {
    "even.mp4": {"audio": "aac"},
    "uneven.mp4": {"times": UNEVEN, "audio": "aac"},
    "uneven.mkv": {"times": UNEVEN, "audio": "opus"},
    "uneven.ts": {"times": UNEVEN, "audio": "aac"},
    "rotated.mp4": {"rotation": 90, "times": UNEVEN},
    "ntsc.mov": {"times": [Fraction(index * 1001, 30000) for index in range(30)], "time_base": Fraction(1001, 30000), "audio": "pcm"},
    "silent.webm": {"times": UNEVEN},
}


@pytest.mark.slow("a video of every kind", quick=3)
@pytest.mark.parametrize("name", INPUTS)
def test_every_frame_once_at_its_time(run: Run, engine: StandIn, tmp_path: Path, name: str) -> None:
    """Frame count, times and order of the output and of the JSON are the input's; and sound is there where there was some."""
    source = write_clip(tmp_path / name, colours(30), **INPUTS[name])
    ended = run("video", name, "-t", "cat", "dog", "-o", "out.mp4", "--json", "out.jsonl", "--style", "points")
    assert ended.status == 0, ended.err
    expected = times(source)
    assert times(tmp_path / "out.mp4") == expected, name
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(30))
    assert [line["time"] for line in lines] == pytest.approx([float(each - expected[0]) for each in expected], abs=1e-9)
    if name != "rotated.mp4":
        assert engine.seen == list(range(30)) == [index_of(each) for each in pictures(tmp_path / "out.mp4")]
    # each line is about its own frame
    assert [round((line["texts"][1]["peak"]["similarity"] - 0.1) * 1000) for line in lines] == engine.seen
    size = (64, 48) if name == "rotated.mp4" else (48, 64)
    assert all((line["picture"]["height"], line["picture"]["width"]) == size for line in lines)
    assert pictures(tmp_path / "out.mp4")[0].shape[:2] == size
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert bool(file.streams.audio) == ("audio" in INPUTS[name])
    assert ended.out.splitlines()[:2] == ["written: out.mp4", "written: out.jsonl"] and "30 frames in" in ended.out
    assert {path.name for path in tmp_path.iterdir()} == {name, "out.mp4", "out.jsonl"}


def test_the_default_output(run: Run, engine: StandIn, tmp_path: Path) -> None:
    """<IN>.<method>.mp4 in the current folder; none with --json alone, whose lines go to standard output and nothing else does."""
    (tmp_path / "far").mkdir()
    write_clip(tmp_path / "far" / "clip.mkv", colours(4))
    assert run("video", "far/clip.mkv", "-t", "cat").status == 0
    assert len(times(tmp_path / "clip.gem.mp4")) == 4
    assert run("video", "far/clip.mkv", "-t", "cat", "--method", "itsm").status == 0 and (tmp_path / "clip.itsm.mp4").exists()
    before = set(tmp_path.iterdir())
    ended = run("video", "far/clip.mkv", "-t", "cat", "--json")
    assert [json.loads(line)["index"] for line in ended.out.splitlines()] == [0, 1, 2, 3] and set(tmp_path.iterdir()) == before
    assert set(json.loads(ended.out.splitlines()[0])) == {"index", "time", "picture", "texts"} and "4 frames in" in ended.err
    assert [stem_of(each) for each in ("camera:0", "rtsp://me:secret@host:554/live/", "rtsp://host", "a b.mp4", "/dev/video0")] == [
        "camera-0", "live", "host", "a-b", "video0",
    ]  # fmt: skip


def test_nothing_is_written_over(run: Run, engine: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the model is loaded; written over with --force, and then only once all is done."""
    write_clip(tmp_path / "in.mp4", colours(4))
    for name in ("out.mp4", "out.jsonl"):
        (tmp_path / name).write_text("mine")
    expected = {
        "out.mp4: exists already; --force writes over it": ("-o", "out.mp4"),
        "out.jsonl: exists already": ("-o", "new.mp4", "--json", "out.jsonl"),
    }
    monkeypatch.setattr(video, "engine", _never)
    for message, options in expected.items():
        ended = run("video", "in.mp4", "-t", "cat", *options)
        assert ended.status == 1 and len(errors(ended)) == 1 and message in ended.err, ended.err
    assert all((tmp_path / name).read_text() == "mine" for name in ("out.mp4", "out.jsonl"))
    assert not list(tmp_path.glob("new*"))
    monkeypatch.setattr(video, "engine", lambda args: engine)
    engine.then = lambda count: _same((tmp_path / "out.mp4").read_text(), "mine")
    assert run("video", "in.mp4", "-t", "cat", "-o", "out.mp4", "--json", "out.jsonl", "--force").status == 0
    assert len(times(tmp_path / "out.mp4")) == len((tmp_path / "out.jsonl").read_text().splitlines()) == 4


def _same(here: object, there: object) -> None:
    assert here == there


def _never(args: object) -> None:
    raise AssertionError("the model was loaded")


def _folder(path: Path) -> None:
    (path / "folder.mp4").mkdir()


def _cut(path: Path) -> None:
    content = write_clip(path / "whole.mp4", colours(30)).read_bytes()
    (path / "no-index.mp4").write_bytes(content[: len(content) // 2])


REFUSED: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {
    "missing": (lambda path: None, ("none.mp4",), "none.mp4: no such file"),
    "not a video": (lambda path: (path / "x.mp4").write_text("words"), ("x.mp4",), "x.mp4"),
    "a picture without end": (lambda path: (path / "x.mp4").write_bytes(bytes(5000)), ("x.mp4",), "x.mp4"),
    "empty": (lambda path: (path / "x.mp4").touch(), ("x.mp4",), "is empty"),
    "a folder": (_folder, ("folder.mp4",), "must be a video file, got a folder"),
    "without video": (lambda path: write_sound(path / "x.mp3"), ("x.mp3",), "x.mp3"),
    "cut off": (_cut, ("no-index.mp4",), "no-index.mp4"),
    "no camera": (lambda path: None, ("camera:77",), "camera"),
    "no folder": (lambda path: None, ("in.mp4", "-o", "none/out.mp4"), "none/out.mp4: the folder none does not exist"),
    "output is the input": (lambda path: None, ("in.mp4", "-o", "./in.mp4", "--force"), "the output must be another file than the video"),
    "JSON is the input": (lambda path: None, ("in.mp4", "--json", "in.mp4", "--force"), "the output must be another file than the video"),
    "JSON is the output": (lambda path: None, ("in.mp4", "-o", "a.mp4", "--json", "a.mp4"), "must be two files, got one"),
    "extension": (lambda path: None, ("in.mp4", "-o", "out.gif"), "the extension must be one of .mp4, .m4v, .mov, .mkv, .webm, got '.gif'"),
    "opacity": (lambda path: None, ("in.mp4", "--opacity", "2"), "opacity must be above 0 and at most 1, got 2.0"),
    "threshold": (lambda path: None, ("in.mp4", "--threshold", "0"), "threshold must be above 0 and at most 1, got 0.0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_before_the_model_is_loaded(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """One line, exit status 1, and no file."""
    monkeypatch.setattr(video, "engine", _never)
    prepare, options, message = REFUSED[case]
    write_clip(tmp_path / "in.mp4", colours(3))
    prepare(tmp_path)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}
    ended = run("video", options[0], "-t", "cat", *options[1:])
    assert ended.status == 1 and ended.out == "", ended
    assert len(errors(ended)) == 1 and errors(ended)[0].startswith("fastloc: error: ") and message in ended.err, ended.err
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--maps", "cold"), "one of frame, running, background"), (("--maps", "0.3:0.1"), "got '0.3:0.1'"), (("-t", " "), "got an empty one"),
     (("--start", "-1"), "must be seconds, 0 or more"), (("--every", "0"), "1 or more, got '0'"), (("--style", "hot"), "invalid choice"),
     (("--seconds", "nan"), "must be seconds, 0 or more")],
)  # fmt: skip
def test_commands_that_cannot_be_understood(run: Run, options: tuple[str, ...], message: str) -> None:
    ended = run("video", "in.mp4", "-t", "cat", *options)
    assert ended.status == 2 and message in ended.err and "Traceback" not in ended.err


def test_a_model_that_fails_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "in.mp4", colours(3))

    def fail(args: object) -> None:
        raise ModelError("no such model")

    monkeypatch.setattr(video, "engine", fail)
    ended = run("video", "in.mp4", "-t", "cat", "-o", "out.mp4", "--json", "out.jsonl")
    assert ended.status == 1 and errors(ended) == ["fastloc: error: no such model"]
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4"}


def test_an_error_in_the_middle_leaves_a_playable_part(run: Run, engine: StandIn, tmp_path: Path) -> None:
    """The engine fails at the 12th frame: eleven are in the partial file, and in the lines."""
    write_clip(tmp_path / "in.mp4", colours(30), audio="aac")

    def fail(count: int) -> None:
        if count == 12:
            raise ModelError("out of memory")

    engine.then = fail
    ended = run("video", "in.mp4", "-t", "cat", "-o", "out.mp4", "--json", "out.jsonl")
    assert ended.status == 1 and [line for line in ended.err.splitlines() if "error" in line] == ["fastloc: error: out of memory"]
    left, lines = partial(tmp_path / "out.mp4"), partial(tmp_path / "out.jsonl")
    assert f"fastloc: note: {left.name}: holds what was written until then, and can be played" in ended.err
    assert set(tmp_path.iterdir()) == {tmp_path / "in.mp4", left, lines}
    assert times(left) == times(tmp_path / "in.mp4")[:11]
    assert [json.loads(line)["index"] for line in lines.read_text().splitlines()] == list(range(11))


def test_a_full_disk(run: Run, engine: StandIn, tmp_path: Path) -> None:
    noise = [np.random.default_rng(index).integers(0, 255, (96, 128, 3)).astype(np.uint8) for index in range(60)]
    write_clip(tmp_path / "in.mp4", noise)
    with largest_file(200_000):
        ended = run("video", "in.mp4", "-t", "cat", "-o", "out.mp4")
    assert ended.status == 1 and len(errors(ended)) == 1 and "cannot be written (File too large)" in ended.err, ended.err
    kept = times(partial(tmp_path / "out.mp4"))
    assert kept and kept == times(tmp_path / "in.mp4")[: len(kept)]


def test_ctrl_c(run: Run, engine: StandIn, tmp_path: Path) -> None:
    """130, and what was written can be played. The signal comes at any moment of the loop: in the middle of drawing and writing too."""
    write_clip(tmp_path / "in.mp4", colours(120), audio="aac")

    def interrupt(count: int) -> None:
        if count == 40:
            os.kill(os.getpid(), signal.SIGINT)

    engine.then = interrupt
    ended = run("video", "in.mp4", "-t", "cat", "-o", "out.mp4")
    left = partial(tmp_path / "out.mp4")
    assert ended.status == 130 and errors(ended) == [f"fastloc: note: {left.name}: holds what was written until then, and can be played"]
    kept = times(left)
    assert 30 <= len(kept) < 60 and kept == times(tmp_path / "in.mp4")[: len(kept)]
    assert set(tmp_path.iterdir()) == {tmp_path / "in.mp4", left}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_how_a_camera_ends(run: Run, engine: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is complete then, from 0 on; --seconds ends it too."""
    monkeypatch.setattr("fastloc.video.sources.open_source.open_source", lambda name, **more: Camera() if name == "camera:0" else name)
    engine.then = lambda count: os.kill(os.getpid(), signal.SIGINT) if count == 20 else None
    ended = run("video", "camera:0", "-t", "cat")
    assert ended.status == 0 and errors(ended) == [] and "written: camera-0.gem.mp4" in ended.out, ended
    kept = times(tmp_path / "camera-0.gem.mp4")
    assert kept[0] == 0 and kept == sorted(kept)
    shown = [index_of(each) for each in pictures(tmp_path / "camera-0.gem.mp4")]
    assert kept == [Fraction(index - shown[0], 50) for index in shown], "each frame at its own time, also where some were dropped"
    engine.then = lambda count: None
    ended = run("video", "camera:0", "-t", "cat", "-o", "second.mp4", "--seconds", "3.5")
    assert ended.status == 0 and max(times(tmp_path / "second.mp4")) < 0.5, ended


def test_a_killed_run_leaves_a_playable_file(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", colours(200), audio="aac")
    script = f"""
        import os, signal, sys
        sys.path[:0] = [{str(REPO)!r}, {str(SUPPORT)!r}, {str(Path(__file__).parent)!r}]
        from video_command import StandIn
        from fastloc.cli import main, video
        engine = StandIn()
        engine.then = lambda count: os.kill(os.getpid(), signal.SIGKILL) if count == 120 else None
        video.engine = lambda args: engine
        main(["video", "in.mp4", "-t", "cat", "-o", "out.mp4"])
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(script)]
    ended = subprocess.run(command, cwd=tmp_path, timeout=60, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    kept = times(partial(tmp_path / "out.mp4"))
    assert len(kept) >= 50 and kept == times(tmp_path / "in.mp4")[: len(kept)]


def test_a_damaged_frame_is_skipped_and_counted(run: Run, engine: StandIn, tmp_path: Path) -> None:
    """Motion JPEG with a frame of rubbish: all others are there, at their times."""
    path = write_clip(tmp_path / "in.avi", colours(20), codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(path)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
        expected = [packet.pts * packet.time_base for packet in av.open(str(path)).demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    start = content.find(b"\xff\xd8", packets[7][0])
    content[start : start + packets[7][1] - 8] = b"\0" * (packets[7][1] - 8)
    path.write_bytes(content)
    ended = run("video", "in.avi", "-t", "cat", "-o", "out.mp4")
    assert ended.status == 0 and "1 corrupt" in ended.out, ended
    assert times(tmp_path / "out.mp4") == expected[:7] + expected[8:]


def test_a_part_of_a_video(run: Run, engine: StandIn, tmp_path: Path) -> None:
    """--start and --seconds: the frames of that time, from 0 on, and their sound; indices and times in the JSON stay the video's own."""
    write_clip(tmp_path / "in.mp4", colours(40), audio="aac")
    ended = run("video", "in.mp4", "-t", "cat", "-o", "out.mp4", "--json", "where.jsonl", "--start", "1.5", "--seconds", "1")
    assert ended.status == 0, ended.err
    assert engine.seen == list(range(15, 25)) and times(tmp_path / "out.mp4") == [Fraction(index, 10) for index in range(10)]
    assert [json.loads(line)["index"] for line in (tmp_path / "where.jsonl").read_text().splitlines()] == engine.seen
    assert abs(float(sounds(tmp_path / "out.mp4")[2]) - 1) < 0.05
    ended = run("video", "in.mp4", "-t", "cat", "-o", "none.mp4", "--start", "99")
    assert ended.status == 1 and errors(ended) == ["fastloc: error: in.mp4: has no frame from 99 s on"]
    assert not list(tmp_path.glob("none*"))


def test_every_nth_frame(run: Run, engine: StandIn, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", colours(10))
    assert run("video", "in.mp4", "-t", "cat", "-o", "out.mp4", "--every", "3", "--smooth", "0.1", "--maps", "0.0:0.2").status == 0
    assert engine.seen == [0, 3, 6, 9] and len(times(tmp_path / "out.mp4")) == 10


@pytest.mark.parametrize("style", ["heat", "tiles", "boxes", "points"])
def test_styles(run: Run, engine: StandIn, tmp_path: Path, style: str) -> None:
    write_clip(tmp_path / "in.mp4", colours(3, (47, 63)), pixel_format="yuv444p")
    assert run("video", "in.mp4", "-t", "cat", "-o", "out.mp4", "--style", style).status == 0
    assert {each.shape for each in pictures(tmp_path / "out.mp4")} == ({(48, 130, 3)} if style == "tiles" else {(48, 64, 3)})


def test_an_interruption_waits_for_what_is_held() -> None:
    from fastloc.cli.interrupts import Interrupts

    done: list[str] = []

    def work() -> None:
        with Interrupts() as interrupts:
            try:
                hold(interrupts)
            finally:
                # what was interrupted once is so once
                with interrupts.held():
                    signal.raise_signal(signal.SIGINT)
                    done.append("closed")

    def hold(interrupts: Interrupts) -> None:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("finished")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["finished", "closed"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    # a thread that is not the main one changes nothing
    thread = threading.Thread(target=lambda: Interrupts().__enter__().__exit__())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_last_line() -> None:
    spent = Spent(began=0.0, frames=1)
    spent.seconds.update(model=1e9, draw=0.0)
    line = spent.line({"dropped": 0, "corrupt, skipped": 2})
    assert line.startswith("1 frame in ") and "busy: model " in line and "draw" not in line and line.endswith("; 2 corrupt, skipped")


def test_the_bar_is_for_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with bar(10, stdout_is_data=False) as (_, shown):
        shown.step(3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    with bar(10, stdout_is_data=False) as (_, shown):
        shown.step(3, "2 corrupt")
        shown.step(12)
    printed = capsys.readouterr()
    assert "12/12" in printed.out + printed.err


def test_the_embedded_model_finds_what_moves(run: Run, tmp_path: Path) -> None:
    """End to end, with nothing played: a cat of the embedded world moves right, and so do its boxes."""
    pytest.importorskip("onnxruntime")
    scene = Image.open(SAMPLES / "market.webp").convert("RGB")
    frames = [np.asarray(scene.crop((shift, 0, shift + 400, scene.height))) for shift in (0, 20, 40, 60)]
    write_clip(tmp_path / "in.mp4", frames)
    model = GEM_ONNX
    ended = run("video", "in.mp4", "-t", "cat", "--json", "-o", "out.mp4", "--maps", "background", "--model", model)
    assert ended.status == 0, ended.err
    peaks = [json.loads(line)["texts"][0]["peak"] for line in ended.out.splitlines()]
    assert len(peaks) == 4 and peaks[0]["x"] - peaks[-1]["x"] == pytest.approx(60, abs=20), peaks
