"""Long times between two frames or two packets of sound, as damaged timestamps make them: FFmpeg's muxer of mp4 ends the process there."""

import subprocess
import sys
import textwrap
import warnings
from fractions import Fraction
from pathlib import Path

import pytest

from clips import coded, colours, write_clip
from fastloc.errors import FastlocWarning, VideoError
from fastloc.video.output.writer import VideoWriter
from repo import REPO
from written import times


def written(target: Path, unit: Fraction, seconds: list[float]) -> list[Fraction]:
    with VideoWriter(target, time_base=unit, rate=10) as video:
        for index, second in enumerate(seconds):
            video.write(coded(index), round(second / unit))
    return times(target)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_frames_a_few_seconds_apart_in_a_fine_unit(tmp_path: Path, suffix: str) -> None:
    """Nanoseconds, as some sources count: 2.1 s of them is all that 32 bits hold."""
    assert written(tmp_path / f"x{suffix}", Fraction(1, 10**9), [0, 0.1, 5.1, 5.2]) == [
        0,
        Fraction(1, 10),
        Fraction(51, 10),
        Fraction(52, 10),
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_frames_too_far_apart(tmp_path: Path, suffix: str) -> None:
    """Shortened, and said; what comes next keeps its distance."""
    with pytest.warns(FastlocWarning, match=rf"x{suffix}: the time between two frames must be at most 23860 s .*, got 30000 s"):
        found = written(tmp_path / f"x{suffix}", Fraction(1, 90000), [0, 0.1, 30000.1, 30000.3])
    assert found[:2] == [0, Fraction(1, 10)] and found[3] - found[2] == Fraction(2, 10) and 23860 < found[2] < 23861
    with warnings.catch_warnings():
        warnings.simplefilter("error", FastlocWarning)
        found = written(tmp_path / "x.mkv", Fraction(1, 90000), [0, 0.1, 30000.1, 30000.3])
    assert found == [0, Fraction(1, 10), Fraction(300001, 10), Fraction(300003, 10)]


def test_a_timestamp_that_is_no_number_of_64_bits(tmp_path: Path) -> None:
    def write() -> None:
        with VideoWriter(tmp_path / "out.mkv", from_zero=False) as video:
            video.write(coded(0), 1)
            video.write(coded(1), 2**70)

    with pytest.raises(VideoError, match=r"out\.mkv: cannot be encoded"):
        write()


SCRIPT = """
    import sys, warnings
    from fractions import Fraction
    from fastloc.video.output.writer import VideoWriter
    import numpy as np
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with VideoWriter(sys.argv[2], time_base=Fraction(1, 10), rate=10, sound=sys.argv[1]) as video:
            for index in range(20):
                video.write(np.zeros((48, 64, 3), np.uint8), index)
    print(*(each.message for each in seen))
"""


@pytest.mark.parametrize(("suffix", "audio"), [(".mp4", "aac"), (".mov", "mp3"), (".mkv", "aac"), (".webm", "aac")])
def test_sound_that_jumps_by_weeks(tmp_path: Path, suffix: str, audio: str) -> None:
    """An FLV whose tags, of sound, jump in the middle: the sound ends there, copied or encoded, and is not filled with weeks of silence.

    In a process of its own: without the limit it aborts.
    """
    path = write_clip(tmp_path / "in.flv", colours(20), audio=audio)
    content, at, count = bytearray(path.read_bytes()), 13, 0
    while at < len(content) - 11:
        kind, size = content[at], int.from_bytes(content[at + 1 : at + 4], "big")
        if kind == 8:
            count += 1
            # the highest of a time's four bytes, milliseconds
            content[at + 7] = 0x7F if count > 30 else 0
        at += 11 + size + 4
    path.write_bytes(content)
    target = tmp_path / f"out{suffix}"
    command = [sys.executable, "-P", "-c", textwrap.dedent(SCRIPT), str(path), str(target)]
    ended = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "its sound track" in ended.stdout and "ends early" in ended.stdout
    assert len(times(target)) == 20 and target.stat().st_size < 200_000
