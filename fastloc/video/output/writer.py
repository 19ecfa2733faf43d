"""Pictures -> a video that a person can play, with the timing of where they came from, and its sound."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import VideoError, warn
from fastloc.video.output.canvas import Canvas
from fastloc.video.output.containers import container_of
from fastloc.video.output.encoder import Encoder
from fastloc.video.output.mp4_repair import trim
from fastloc.video.output.partial_file import PartialFile, reason
from fastloc.video.sources.av_allowed import LOCAL, local_place
from fastloc.video.sources.planes import Planes

__all__ = ["VideoWriter"]

Pixels = NDArray[np.uint8]

# a unit of time that every usual rate of frames divides, for pictures without one of their own
TIME_BASE = Fraction(1, 90000)
# seconds: a first picture later than this is moved to 0, or players would show nothing until then
LATEST = 60


class VideoWriter:
    """A video file in the making; a context manager.

        with VideoWriter("out.mp4", time_base=frame.time_base, sound="in.mp4") as video:
            video.write(pixels, frame.pts)

    The file lies beside the target as `out.partial-….mp4`, a new name each time, until it is complete, in fragments: it can be played at
    any moment, also after the process was killed, from its first picture on, but for the last second or so of video. An error inside the
    block, Ctrl-C too, ends the file properly where it is, leaves it under that name, and issues a FastlocWarning. Without a single
    frame no file is left. A target that is a link stays one, and the file it points at is replaced; a pipe or a device is written into.

    Attributes:
        path: a row of `CONTAINERS` by its extension; .mkv and .webm round times to milliseconds
        time_base: the unit of the timestamps that `write` gets, seconds; they are kept exactly, uneven ones too, down to a microsecond
        rate: frames a second, about: for the encoder's budget and the last frame's duration
        pixel_aspect: width over height of a pixel
        sound: a file whose sound tracks are kept: see `fastloc.video.output.audio`
        from_zero: whether the first frame is moved to time 0 and sound before it left out; by default where it is before 0 or after
            `LATEST`
        force: whether a file of that name is written over
        quality: x264's constant rate factor, 0 (lossless) to 51, also where another encoder has a scale of its own; preset: x264's speed

    Pictures are BT.709, limited range, and tagged so. Odd sides are filled up by one row or column of the same colours, right or below, so
    that positions stay what they were; a picture of another size than the first one's is fitted into that, on black.

    Raises VideoError for another extension, a folder that is not there or cannot be written to, and a file that exists.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, time_base: Fraction | None = None, rate: float | None = None,
        pixel_aspect: Fraction = Fraction(1), sound: str | os.PathLike[str] | None = None, from_zero: bool | None = None,
        force: bool = False, quality: int = 20, preset: str = "veryfast",
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self.frames = 0
        self._time_base = Fraction(time_base or TIME_BASE)
        self._from_zero = from_zero
        self._container = container_of(self.path)
        self._start = functools.partial(
            Encoder, container=self._container, time_base=self._time_base, rate=rate if rate and math.isfinite(rate) and rate > 0 else 30.0,
            pixel_aspect=pixel_aspect, sound=None if sound is None else Path(sound), quality=quality, preset=preset,
        )  # fmt: skip
        self._file = PartialFile(self.path, force)
        self._encoder: Encoder | None = None

    @property
    def partial(self) -> Path:
        """Path of the file until it is complete."""
        return self._file.part

    def write(self, picture: Canvas, pts: int | None = None) -> None:
        """Add one picture, uint8 [H, W, 3] RGB or `Planes`, shown from `pts` (in units of `time_base`) on; None: one frame after the last
        one. Planes of the first picture's size are encoded as they are.

        A timestamp that is not after the last one is moved to the next tick. Raises VideoError where it cannot be encoded, or written.
        """
        if not isinstance(picture, Planes) and (picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8):
            raise VideoError(f"{self.path}: a picture must be uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}")
        high, wide = picture.shape[:2]
        if self._encoder is None:
            self._encoder = self._begin((high, wide), 0 if pts is None else pts)
        if isinstance(picture, Planes) and (high, wide) != self._encoder.size:
            picture = picture.rgb()
        self._step(self._encoder.write, picture if isinstance(picture, Planes) else fitted(picture, self._encoder.size), pts)
        self.frames += 1

    def close(self, rest: bool = True) -> None:
        """Complete the file and move it to its name. rest: whether sound goes on after the last picture, as far as there is any.

        Raises VideoError where that cannot be done; what was written stays under its partial name. Without a picture no file is left.
        """
        if self._file.closed:
            return
        if self._encoder is None:
            self._file.discard()
            return
        self._step(self._encoder.finish, rest)
        self._file.finish()

    def abandon(self) -> Path | None:
        """End the file where it is, under its partial name, which is returned; None where there is nothing to keep."""
        if self._file.closed:
            return None
        if self._encoder is not None:
            # whatever it says now, what is in the file is looked at below
            with contextlib.suppress(av.FFmpegError):
                self._encoder.finish(rest=False)
        if self._file.failed and self._container.mark == b"moof":
            self._file.cut(trim)
        with contextlib.suppress(OSError):
            self._file.close()
        if self._encoder is None or self._file.stream or not _playable(self.partial):
            self._file.discard()
            return None
        return self.partial

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif left := self.abandon():
            warn(f"{left}: holds what was written until then, and can be played", stacklevel=2)

    def _begin(self, shape: tuple[int, int], first: int) -> Encoder:
        size = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
        try:
            return self._start(self._file, size=size, shift=self._shift(first))
        except av.FFmpegError as error:
            codec = self._container.encoder().codec
            raise VideoError(f"{self.path}: pictures of {shape[1]} x {shape[0]} cannot be encoded as {codec}") from error

    def _shift(self, first: int) -> int:
        """The offset that is subtracted from every timestamp."""
        start = first * self._time_base
        late = start > LATEST
        if late and self._from_zero is None:
            warn(f"{self.path}: starts at 0; its source starts at {float(start):.1f} s", stacklevel=3)
        moved = (first < 0 or late) if self._from_zero is None else self._from_zero
        return first if moved else 0

    def _step(self, work: Callable[..., None], *given: object) -> None:
        """Do a step of writing. Raises VideoError with the reason and the file that is left."""
        why = None
        try:
            work(*given)
        except (av.FFmpegError, OverflowError) as error:
            why = f"cannot be encoded ({getattr(error, 'strerror', None) or error})"
        if self._file.failed:
            why = f"cannot be written ({reason(self._file.failed)})"
        if why:
            left = self.abandon()
            raise VideoError(f"{self.path}: {why}" + (f"; what was written until then is in {left}, and can be played" if left else ""))


def fitted(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture at this size of even sides: its last row and column once more, or, where it is of another size, scaled, on black."""
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return np.ascontiguousarray(pixels)
    if (height + height % 2, width + width % 2) == size:
        return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    scale = min(size[0] / height, size[1] / width)
    inner = max(round(width * scale), 1), max(round(height * scale), 1)
    canvas = Image.new("RGB", size[::-1])
    canvas.paste(Image.fromarray(pixels).resize(inner, Image.Resampling.BILINEAR), ((size[1] - inner[0]) // 2, (size[0] - inner[1]) // 2))
    return np.asarray(canvas)


def _playable(path: Path) -> bool:
    """True if a picture can be decoded from the file."""
    try:
        with av.open(local_place(path), options=LOCAL.options()) as file:
            return next(file.decode(video=0), None) is not None
    except (av.FFmpegError, IndexError):
        return False
