"""The interface of every source of frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from fastloc.video.sources.frame import Frame

__all__ = ["Info", "Source"]


@dataclass(frozen=True, slots=True)
class Info:
    """Facts of a source before its first frame; None for an unknown one.

    Attributes:
        size: (height, width) of the upright frames
        rate: frames a second on average
        count: frames, as the file says it; may be wrong
        duration: seconds
        time_base: the unit of timestamps, seconds
        pixel_aspect: width over height of one pixel of the upright frame
        audio: whether there is sound
    """

    size: tuple[int, int] | None = None
    rate: float | None = None
    count: int | None = None
    duration: float | None = None
    time_base: Fraction | None = None
    pixel_aspect: Fraction = Fraction(1)
    audio: bool = False


class Source(Protocol):
    """A source of frames. One thread iterates; `close` may be called from any.

    Attributes:
        name: for messages: a path, an address without its credentials, "camera 0", "frames"
        live: whether frames come at their own pace and the newest one matters, else every one does
        info: see `Info`
        corrupt: frames or packets that could not be decoded, and were skipped
        reconnects: how often a connection was opened again
    """

    name: str
    live: bool
    info: Info

    @property
    def corrupt(self) -> int: ...

    @property
    def reconnects(self) -> int: ...

    def frames(self) -> Iterator[Frame]:
        """Frames in order, each as soon as there is one; ends where the source does, or soon after `close`.

        Raises VideoError for a source that fails for good, after what it gave before.
        """
        ...

    def close(self) -> None:
        """Let go of file, device or connection; `frames` ends soon. May be called twice."""
        ...
