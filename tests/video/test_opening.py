"""Opening a source: the accepted kinds, and one clear line for anything that is no video."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips import coded, colours, write_clip, write_sound
from fastloc.video.sources.iterables import FramesOf
from fastloc.video.sources.open_source import open_source
from reading import fails, read, shown


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    song = write_sound(tmp_path / "song.mp3", cover=True)
    assert fails(song) == f"{song}: has no video, only sound and a cover"
    tone = write_sound(tmp_path / "tone.m4a", "aac")
    assert fails(tone) == f"{tone}: has no video, only sound"


def test_what_is_no_video(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("where is the dog?\n" * 40)
    assert fails(text) == f"{text}: must be a video, got a text"
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    assert "noise.mp4: it is not a video" in fails(tmp_path / "noise.mp4")
    for suffix in (".jpg", ".png", ".webp", ".bmp"):
        Image.fromarray(coded(1)).save(tmp_path / f"still{suffix}")
        assert f"still{suffix}: must be a video, got a picture; `fastloc locate`" in fails(tmp_path / f"still{suffix}")
    (tmp_path / "empty.mp4").touch()
    assert fails(tmp_path / "empty.mp4").endswith("empty.mp4: is empty (0 bytes)")
    assert fails(str(tmp_path)).startswith(f"{tmp_path}: must be a video file, got a folder")
    assert fails(tmp_path / "nowhere.mp4") == f"{tmp_path / 'nowhere.mp4'}: no such file"
    assert fails("a\0b.mp4").endswith("cannot be opened (embedded null byte)")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "x.mp4", colours(2))
    path.chmod(0)
    if os.geteuid() == 0:

        def refused(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refused)
    assert fails(path) == f"{path}: no permission to read it"


def test_names_that_mean_something_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("12:30.mp4", "50%d.mp4", "7", "a b#c?d.mp4", "pipe:x.mp4"):
        write_clip(tmp_path / "plain.mp4", colours(2)).rename(tmp_path / name)
        assert shown(read(open_source(name))) == [0, 1], name
    uri = (tmp_path / "a b#c?d.mp4").as_uri()
    assert shown(read(open_source(uri))) == [0, 1]


def test_a_source_is_taken_as_it_is() -> None:
    source = FramesOf(colours(2))
    assert open_source(source) is source
    assert fails(source, live=True) == "live must be left out for a Source; they take no options"


def test_what_is_no_source() -> None:
    taken = "a video source is a path, an address (rtsp://, http:// …), a camera (0, 'camera:0'), an iterable of frames or a Source"
    for source, hint in (
        (None, ", not a NoneType"), (2.5, ", not a float"), (b"x", ", not a bytes"), (True, ", not a bool"), ({}, ", not a dict"),
        (coded(0), ", not a ndarray; one picture is no video"), (Image.new("RGB", (4, 4)), ", not a Image; one picture is no video"),
        (sys.stdin, "; give the path of the file"),
    ):  # fmt: skip
        message = fails(source)
        assert message.startswith(taken) and hint in message, source


def test_settings_that_mean_nothing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", colours(2))
    assert fails(path, bgr=True) == "bgr must be left out for files; they take live, loop, format, options, max_pixels"
    assert fails(colours(2), loop=True) == "loop must be left out for iterables of frames; they take bgr, live, rate"
    assert fails(path, rate=0) == "rate must be above 0, got 0"
    assert fails(path, timeout=-1) == "timeout must be above 0, got -1"
    assert fails(path, backoff=(2, 1)).endswith("such as (0.5, 15.0), got (2, 1)")
    assert "unknown format 'mp5': did you mean" in fails(path, format="mp5")


def test_importing_it_loads_neither_pyav_nor_torch() -> None:
    rooms = "fastloc.video.sources.open_source, fastloc.video.sources.iterables"
    check = f"import sys; import {rooms}; print([m for m in ('av', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_pyav(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("fastloc.video.sources.open_source.find_spec", lambda name: None)
    assert 'pip install "fastloc[video]"' in fails(tmp_path / "x.mp4")
    assert len(read(open_source(colours(2)))) == 2
