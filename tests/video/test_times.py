"""Times of frames: at a file's own pace, from its beginning again, over a clock that was set back, and after a wait."""

import itertools
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest

from clips import coded, colours, index_of, write_clip
from fastloc.errors import VideoError
from fastloc.video.sources.backoff import delays
from fastloc.video.sources.open_source import open_source
from fastloc.video.sources.timestamps import Timeline
from reading import shown


def test_a_file_at_its_own_pace(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", colours(8), rate=25)
    source = open_source(path, live=True)
    assert source.live
    began = time.monotonic()
    frames = [(frame, time.monotonic()) for frame in source.frames()]
    for frame, came in frames:
        # never early; how late is the machine's matter
        assert began + frame.time <= frame.captured <= came
    assert shown([frame for frame, _ in frames]) == list(range(8))


def test_a_file_that_begins_anew(tmp_path: Path) -> None:
    source = open_source(write_clip(tmp_path / "x.mp4", colours(5)), loop=True)
    frames = list(itertools.islice(source.frames(), 13))
    assert [index_of(frame.rgb) for frame in frames] == [*range(5), *range(5), *range(3)]
    assert [frame.index for frame in frames] == list(range(13))
    assert [frame.time for frame in frames] == pytest.approx([index / 10 for index in range(13)])


def test_closing_ends_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", [coded(0), coded(1)], [0, 60])
    source = open_source(path, live=True)
    frames = source.frames()
    next(frames)
    with pytest.raises(VideoError, match="is being read already"):
        next(source.frames())
    threading.Timer(0.05, source.close).start()
    began = time.monotonic()
    assert list(frames) == [] and time.monotonic() - began < 30
    source.close()
    unread = open_source(path)
    unread.close()
    assert list(unread.frames()) == []


def test_timeline() -> None:
    line, unit = Timeline(0.1), Fraction(1, 10)
    assert [line.place(pts, unit) for pts in (7, 8, 10, 10)] == pytest.approx([0, 0.1, 0.3, 0.3])
    # out of its place, and a clock that was set back
    assert line.place(9, unit) is None
    line.expect_restart()
    assert [line.place(pts, unit) for pts in (2, 3)] == pytest.approx([0.4, 0.5])
    assert line.place(1, unit) is None
    assert line.place(None, unit) == pytest.approx(0.6)
    line.resume(2.0)
    assert [line.place(pts, unit) for pts in (500, 501)] == pytest.approx([2.6, 2.7])
    first = Timeline(0.1)
    assert [first.place(pts, unit) for pts in (None, 5, 6)] == pytest.approx([0, 0.1, 0.2])


def test_delays_double_to_a_cap_and_vary() -> None:
    assert [wait for wait, _ in zip(delays(0.5, 3, lambda: 0.0), range(5), strict=False)] == [0.5, 1, 2, 3, 3]
    assert [wait for wait, _ in zip(delays(0.5, 3, lambda: 1.0), range(3), strict=False)] == [0.25, 0.5, 1]
    assert len({round(wait, 9) for wait, _ in zip(delays(1, 1), range(20), strict=False)}) > 10
