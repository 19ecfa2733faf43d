"""`fastloc video` run by tests: a stand-in for the engine that knows which frame it was shown, a camera, and how a command ended."""

import functools
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from clips import coded, index_of
from command_line import Ended
from fastloc.cli import video
from fastloc.imaging.geometry import fit
from fastloc.results.result import Result
from fastloc.video.sources.base import Info
from fastloc.video.sources.frame import Frame


class StandIn:
    """Stand-in for a Localizer: its similarity encodes the frame it saw, and peaks at the frame's yellow square."""

    method = "gem"

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.then: Callable[[int], None] = lambda count: None

    def __call__(self, picture: Image.Image, texts: list[str]) -> Result:
        pixels = np.asarray(picture)
        self.seen.append(index_of(pixels))
        self.then(len(self.seen))
        geometry = fit((picture.height, picture.width), 64, 8, "stretch")
        similarity = np.zeros((len(texts), 8, 8), np.float32)
        # between equal patches a map is flat, and its peak is theirs
        similarity[:, 2:4, 3:5] = 0.1 + self.seen[-1] / 1000
        return Result(picture=picture, texts=tuple(texts), similarity=similarity, geometry=geometry, order="picture", method=self.method)


@pytest.fixture(name="engine")
def engine_fixture(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setattr(video, "engine", lambda args: made)
    return made


def errors(ended: Ended) -> list[str]:
    """The error, which is one line, and no note beside that of the embedded model."""
    lines = [line for line in ended.err.splitlines() if "note: the embedded model" not in line]
    assert "Traceback" not in ended.err
    return lines


class Camera:
    """A source of frames that come without end, with times of their own and no others."""

    name, live, corrupt, reconnects = "camera 0", True, 0, 0

    def __init__(self) -> None:
        self.info, self.closed = Info(size=(48, 64), rate=50.0), threading.Event()

    def frames(self) -> Iterator[Frame]:
        for index in range(500):
            if self.closed.wait(0.004):
                return
            yield Frame(index, 3 + index / 50, time.monotonic(), (48, 64), functools.partial(coded, index))

    def close(self) -> None:
        self.closed.set()
