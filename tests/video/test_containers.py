"""The containers that video is written in: pictures, times and sound in each, and what is there after a process was killed."""

import itertools
import signal
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import pytest

from clips import coded, colours, index_of, write_clip, write_sound
from fastloc.errors import FastlocWarning, VideoError
from fastloc.video.output import containers
from fastloc.video.output.containers import CONTAINERS, container_of
from fastloc.video.output.writer import VideoWriter
from reading import UNEVEN
from repo import REPO, SUPPORT
from written import partial, pictures, sounds, times

SUFFIXES = tuple(CONTAINERS)
MILLISECOND = Fraction(1, 1000)


def test_rows() -> None:
    assert set(SUFFIXES) == {".mp4", ".m4v", ".mov", ".mkv", ".webm"}
    for container in CONTAINERS.values():
        assert container.encoder() is container.pictures[0] and container.sound_encoder() is container.sounds[0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_picture_at_its_time(tmp_path: Path, suffix: str) -> None:
    """Uneven times, and sides that are odd. Milliseconds are what .mkv and .webm can say."""
    unit = Fraction(1, 90000)
    ticks = [round(time / unit) for time in UNEVEN]
    with VideoWriter(tmp_path / f"out{suffix}", time_base=unit, rate=10) as video:
        for index, pts in enumerate(ticks):
            video.write(coded(index, (95, 127)), pts)
    assert [path.name for path in tmp_path.iterdir()] == [f"out{suffix}"]
    off = MILLISECOND if suffix in (".mkv", ".webm") else 0
    found = times(tmp_path / f"out{suffix}")
    assert len(found) == len(ticks) and all(abs(time - pts * unit) <= off for time, pts in zip(found, ticks, strict=True))
    assert [index_of(each) for each in pictures(tmp_path / f"out{suffix}")] == list(range(len(ticks)))


@pytest.mark.parametrize(
    ("suffix", "audio", "kept"),
    [(".mkv", "aac", "aac"), (".mkv", "pcm", "pcm_s16le"), (".mkv", "vorbis", "vorbis"), (".webm", "opus", "opus"),
     (".webm", "vorbis", "vorbis"), (".webm", "aac", "opus"), (".webm", "pcm", "opus"), (".mp4", "vorbis", "aac")],
)  # fmt: skip
def test_sound(tmp_path: Path, suffix: str, audio: str, kept: str) -> None:
    """Copied where the container takes it, else encoded; as long as it was."""
    source = write_clip(tmp_path / "in.mkv", colours(20), audio=audio)
    with VideoWriter(tmp_path / f"out{suffix}", time_base=Fraction(1, 10), rate=10, sound=source) as video:
        for index in range(20):
            video.write(coded(index), index)
    codec, start, end, wave = sounds(tmp_path / f"out{suffix}")
    assert codec == kept and abs(start) < 0.03 and abs(end - 2) < 0.06
    assert abs(wave[len(wave) // 2 :]).max() > 0.2 * (32767 if wave.dtype.kind == "i" else 1)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("name", "audio"), [("in.mp4", "aac"), ("in.mkv", "opus"), ("in.avi", "pcm")])
def test_sound_before_0_moves_no_picture(tmp_path: Path, suffix: str, name: str, audio: str) -> None:
    """The first packet of AAC begins before it, and an encoder's own too."""
    source = write_clip(tmp_path / name, colours(10), audio=audio, time_base=Fraction(1, 10))
    with VideoWriter(tmp_path / f"out{suffix}", time_base=Fraction(1, 10), rate=10, sound=source) as video:
        for index in range(10):
            video.write(coded(index), index)
    assert times(tmp_path / f"out{suffix}") == [Fraction(index, 10) for index in range(10)]
    assert len(sounds(tmp_path / f"out{suffix}")[3])


def test_no_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, before anything is written; sound without one is left out."""
    monkeypatch.setattr(containers.av, "codecs_available", frozenset({"libx264", "libvpx"}))
    assert container_of(Path("x.webm")).encoder().codec == "VP8"
    source = write_sound(tmp_path / "in.wav", "pcm")
    with pytest.warns(FastlocWarning, match="track 0 cannot be copied, and this build of FFmpeg has no encoder for it"):  # noqa: SIM117
        with VideoWriter(tmp_path / "out.webm", sound=source) as video:
            video.write(coded(0))
    assert len(times(tmp_path / "out.webm")) == 1
    monkeypatch.setattr(containers.av, "codecs_available", frozenset({"aac"}))
    message = r"new\.webm: this build of FFmpeg has no encoder for it \(libvpx-vp9 nor libvpx\); choose another of \.mp4, "
    with pytest.raises(VideoError, match=message):
        VideoWriter(tmp_path / "new.webm")
    assert not list(tmp_path.glob("new*"))


KILLED = """
    import os, signal, sys
    sys.path[:0] = [{repo!r}, {support!r}]
    from fractions import Fraction
    from pathlib import Path
    from clips import coded
    from fastloc.video.output import preview
    from fastloc.video.output.writer import VideoWriter
    preview.PAUSE = 0
    video = VideoWriter({name!r}, time_base=Fraction(1, 10), rate=10, sound={sound!r})
    for index in range({count}):
        video.write(coded(index), index + 3)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(folder: Path, name: str, count: int, sound: Path | None = None) -> Path:
    """The partial file of a process that is killed once it has written so many pictures."""
    script = KILLED.format(repo=str(REPO), support=str(SUPPORT), name=name, count=count, sound=sound and str(sound))
    ended = subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(script)], cwd=folder, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    return partial(folder / name)


@pytest.mark.parametrize(("suffix", "count"), [*itertools.product((".mp4", ".mkv", ".webm"), (1, 4)), (".mov", 2)])
def test_a_process_that_is_killed_at_once(tmp_path: Path, suffix: str, count: int) -> None:
    """The file plays from its first picture on: all that were written are in it, at their times."""
    sound = write_clip(tmp_path / "in.mp4", colours(20), audio="aac")
    left = killed(tmp_path, f"out{suffix}", count, sound)
    assert times(left) == [Fraction(index + 3, 10) for index in range(count)]
    assert [index_of(each) for each in pictures(left)] == list(range(count))


@pytest.mark.slow("a process for each of many moments", quick=1)
@pytest.mark.parametrize("count", [60, 10, 15, 20, 25, 30, 40, 100])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_process_that_is_killed_later(tmp_path: Path, suffix: str, count: int) -> None:
    """But for what the encoder holds and the last half second of video: ten pictures to come, one a thread, and five."""
    left = killed(tmp_path, f"out{suffix}", count, write_clip(tmp_path / "in.mp4", colours(count), audio="aac"))
    kept = times(left)
    assert kept == [Fraction(index + 3, 10) for index in range(len(kept))] and count - 45 <= len(kept) <= count and kept


def test_the_preview_is_seldom_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast model pays for one, at the first picture; and none is there once the file's own pictures are."""
    from fastloc.video.output.preview import PreviewedFile

    shown: list[int] = []
    show = PreviewedFile.show

    def count(self: PreviewedFile, content: bytes) -> None:
        shown.append(len(content))
        show(self, content)

    monkeypatch.setattr(PreviewedFile, "show", count)
    with VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 10), rate=10) as video:
        for index in range(30):
            video.write(coded(index), index)
    assert len(shown) == 1 and len(times(tmp_path / "out.mp4")) == 30
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].frames == 30


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_track_without_sound_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    """Its sound ends before the first picture: the file would hold nothing until it is closed, and memory all of it."""
    tone = write_sound(tmp_path / "tone.m4a", "aac", 0.5)
    with VideoWriter(tmp_path / f"out{suffix}", time_base=Fraction(1, 10), rate=10, sound=tone, from_zero=True) as video:
        for index in range(60):
            if index:
                video.write(coded(index), 50 + index)
            else:
                with pytest.warns(FastlocWarning, match="its sound track 0 has nothing from 5 s on"):
                    video.write(coded(0), 50)
        (tmp_path / f"copy{suffix}").write_bytes(video.partial.read_bytes())
    assert len(times(tmp_path / f"copy{suffix}")) >= 20
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        assert len(file.streams.audio) == 0 and len(list(file.decode(video=0))) == 60
    # sound that is there from then on is kept
    with VideoWriter(tmp_path / f"more{suffix}", time_base=Fraction(1, 10), rate=10, sound=tone, from_zero=True) as video:
        video.write(coded(0), 3)
    with av.open(str(tmp_path / f"more{suffix}")) as file:
        assert len(list(file.decode(audio=0))) > 3


def test_a_complete_mkv_can_be_jumped_in(tmp_path: Path) -> None:
    """The file states its duration and the positions of its key frames."""
    with VideoWriter(tmp_path / "out.mkv", time_base=Fraction(1, 10), rate=10) as video:
        for index in range(100):
            video.write(coded(index), index)
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert file.duration == 10_000_000
        file.seek(7_500_000)
        frame = next(file.decode(video=0))
        assert 5.4 <= frame.time <= 7.5 and index_of(frame.to_ndarray(format="rgb24")) == round(frame.time * 10)
