"""The contents of a written video, and a disk that is full while one is written."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def times(path: Path) -> list[Fraction]:
    """Presentation time of each picture, seconds."""
    with av.open(str(path)) as file:
        return [frame.pts * frame.time_base for frame in file.decode(video=0)]


def pictures(path: Path) -> list[Any]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def sounds(path: Path, track: int = 0) -> tuple[str, Fraction, Fraction, Any]:
    """The codec of a sound track, when it begins and ends, and its first channel's samples."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[track]
        frames = list(file.decode(stream))
        end = frames[-1].pts * frames[-1].time_base + Fraction(frames[-1].samples, frames[-1].sample_rate)
        wave = [frame.to_ndarray().reshape(-1)[: frame.samples] for frame in frames]
        return stream.codec_context.codec.canonical_name, frames[0].pts * frames[0].time_base, end, np.concatenate(wave)


def partial(path: Path) -> Path:
    """The only file that was left where `path` was not completed."""
    [left] = path.parent.glob(f"{path.stem}.partial-*{path.suffix}")
    return left


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that is full: no file grows beyond this."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
