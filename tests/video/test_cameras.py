"""Cameras: one that is not there, one that FFmpeg draws, and one that is taken away."""

import itertools
import sys

import numpy as np
import pytest

from clips import SIZE
from fastloc.video.sources import camera
from reading import fails


@pytest.mark.skipif(bool(camera._video_nodes()) or sys.platform != "linux", reason="needs Linux without a camera")
def test_no_camera() -> None:
    for source in (0, np.int64(0), "0", "camera:0"):
        assert fails(source) == "camera 0: /dev/video0 is not there; cameras here: none"
    assert fails("/dev/video7") == "camera /dev/video7: /dev/video7 is not there; cameras here: none"
    assert fails(-1) == "camera must be a number from 0 on, got -1"


def test_a_camera_that_ffmpeg_draws() -> None:
    """The path a camera takes, on an input device that needs none."""
    source = camera.open_camera("testsrc=size=64x48:rate=30,realtime", format="lavfi")
    assert source.live and source.info.size == SIZE and source.info.duration is None
    frames = list(itertools.islice(source.frames(), 6))
    assert [frame.index for frame in frames] == list(range(6))
    assert all(later.captured - former.captured > 0.005 for former, later in itertools.pairwise(frames[2:]))
    source.close()


def test_a_camera_that_is_taken_away() -> None:
    source = camera.open_camera("testsrc=size=64x48:rate=30:duration=0.2", format="lavfi", retries=3, backoff=(0.01, 0.02))
    frames = list(itertools.islice(source.frames(), 15))
    assert source.reconnects == 2 and [frame.index for frame in frames] == list(range(15))
    times = [frame.time for frame in frames]
    assert times == sorted(times) and len(set(times)) == 15
    source.close()
