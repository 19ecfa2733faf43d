"""Reading sources for tests: every frame of one without a warning, what the frames show, and the line that refuses one."""

import warnings
from typing import Any

import pytest

from clips import index_of
from fastloc.errors import FastlocWarning, VideoError
from fastloc.video.sources.base import Source
from fastloc.video.sources.frame import Frame
from fastloc.video.sources.open_source import open_source

UNEVEN = [0, 0.1, 0.15, 0.4, 0.41, 0.8, 1.0, 1.2, 1.5, 1.9, 2.0, 2.5]


def read(source: Source) -> list[Frame]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FastlocWarning)
        return list(source.frames())


def shown(frames: list[Frame]) -> list[int]:
    return [index_of(frame.rgb) for frame in frames]


def fails(source: Any, **settings: Any) -> str:
    with pytest.raises(VideoError) as raised:
        open_source(source, **settings)
    message = str(raised.value)
    assert "\n" not in message and raised.value.__cause__ is None
    return message
