"""Pictures in a file that can be played while it is being written: the clock, the colours, and the order of pictures and sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
from av.video.reformatter import ColorRange, Colorspace

from fastloc.errors import warn
from fastloc.video.output.audio import Sound
from fastloc.video.output.canvas import Canvas
from fastloc.video.output.containers import Container
from fastloc.video.output.picture_track import add_pictures
from fastloc.video.output.preview import Preview, PreviewedFile
from fastloc.video.sources.planes import Planes

__all__ = ["Encoder"]

# a container's clock is made at least this fine, a power of two finer than the pictures': sound is placed on it too
FINEST = 10000
# a finer unit of time than this is not kept: frames could be a few seconds apart at most in it
MICROSECOND = Fraction(1, 1_000_000)
# microseconds of pictures that wait for sound of the same time, before they are written without it
PATIENCE = 1_000_000
# seconds from one picture that can be jumped to, to the next
GROUP = 2
# pictures from one that can be jumped to, to the next, where there will be no next
LONG = 10_000


class Encoder:
    """Pictures of one size into one open file.

    Attributes:
        file: a `PartialFile`
        container: a row of `CONTAINERS`
        size: (height, width), both even
        time_base: the unit of timestamps, seconds, kept exactly down to a microsecond
        rate: frames a second, about
        pixel_aspect: width over height of a pixel
        sound: a file whose sound is kept, or None
        shift: what is taken off every timestamp, in units of time_base
        quality, preset: x264's

    Raises av.FFmpegError for a size that the encoder does not take.
    """

    def __init__(
        self, file: Any, container: Container, size: tuple[int, int], *, time_base: Fraction, rate: float, pixel_aspect: Fraction,
        sound: Path | None, shift: int, quality: int, preset: str,
    ) -> None:  # fmt: skip
        # units of the encoder's time in one of the caller's
        self._scale = min(time_base / MICROSECOND, Fraction(1))
        time_base = max(time_base, MICROSECOND)
        self.size, self.time_base, self.shift = size, time_base, round(shift * self._scale)
        clock = str(_clock(time_base))
        # what frames may be apart, and how much was left out where they were more
        self._most = None if container.ticks is None else int(container.ticks / (int(clock) * time_base))
        self._left_out, self._name = 0, getattr(file, "path", "video")
        options = container.muxing(file.seekable())
        if "movflags" in options:
            options |= {"movie_timescale": clock, "video_track_timescale": clock}
        pictures = container.encoder()
        # a pipe cannot take back what it was given
        self._file = PreviewedFile(file, container.mark) if file.seekable() else None
        around = options | {"max_interleave_delta": str(PATIENCE)}
        self._output = av.open(cast(BinaryIO, self._file or file), "w", format=container.name, options=around)
        average = Fraction(rate).limit_denominator(1001)
        chosen = pictures.options(quality, preset, max(round(GROUP * rate), 1))
        self._stream = add_pictures(self._output, pictures.encoder, chosen, size, time_base, average, pixel_aspect)
        self._preview = None
        if self._file is not None:
            instant = pictures.options(quality, preset, LONG) | pictures.instant
            self._preview = Preview(container.name, options, pictures.encoder, instant, size, time_base, average, pixel_aspect)
        self._sound = Sound(sound, self._output, container, self._offset) if sound else None
        self._last: int | None = None
        self._finished = False
        self._step = max(round(1 / (rate * time_base)), 1)

    def write(self, picture: Canvas, pts: int | None) -> None:
        """Add one picture of `size`; without `pts` one frame after the last one, and always after it."""
        at = self._place(None if pts is None else round(pts * self._scale)) - self._left_out
        made = _frame(picture)
        made.pts, made.time_base, made.duration = at - self.shift, self.time_base, self._step
        self._mux(self._stream.encode(made))
        self._show(made)

    def _show(self, frame: av.VideoFrame) -> None:
        """The first pictures are in the file at once."""
        if self._file is None or self._preview is None:
            return
        if self._file.holds_pictures():
            self._file.release()
            self._end_preview()
            return
        content = self._preview.add(frame)
        if content is not None:
            self._file.show(content)

    def _end_preview(self) -> None:
        if self._preview is not None:
            self._preview.close()
            self._preview = None

    def _place(self, pts: int | None) -> int:
        """The picture's timestamp."""
        if self._last is None:
            self._last = self.shift if pts is None else pts
        elif pts is None:
            self._last += self._step
        else:
            before, self._last = self._last, max(pts, self._last + 1)
            self._step = self._last - before
            if self._most is not None and self._step > self._most:
                self._shorten()
        return self._last

    def _shorten(self) -> None:
        """Leave out what is too much of the time between two frames."""
        assert self._most is not None
        apart, most = (float(each * self.time_base) for each in (self._step, self._most))
        message = (
            f"{self._name}: the time between two frames must be at most {most:.0f} s in this container, got {apart:.0f} s; it is shortened "
            "and later frames come earlier; .mkv keeps it"
        )
        warn(message, stacklevel=2)
        self._left_out += self._step - self._most
        self._step = self._most

    def finish(self, rest: bool) -> None:
        """Write what is held back, and the index; once. rest: all sound that is left, else that up to the last picture's end."""
        if self._finished:
            return
        self._finished = True
        self._end_preview()
        self._mux(self._stream.encode(None))
        if self._sound is not None:
            last = ((self._last or 0) - self._left_out + self._step) * self.time_base
            self._sound.until(None if rest else last, self._offset)
            self._sound.finish()
        self._output.close()
        if self._file is not None:
            self._file.release()

    @property
    def _offset(self) -> Fraction:
        return self.shift * self.time_base

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._sound is not None:
                self._sound.until(packet.dts * packet.time_base + self._offset, self._offset)
            self._output.mux(packet)


def _frame(picture: Canvas) -> av.VideoFrame:
    """A new frame, yuv420p in BT.709, limited range."""
    if isinstance(picture, Planes):
        # a decoder's frame keeps its own times
        return cast(av.VideoFrame, (picture if picture.new else picture.copy()).native)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)


def _clock(time_base: Fraction) -> int:
    """Ticks a second that every multiple of time_base is a whole number of."""
    clock = time_base.denominator
    while clock < FINEST:
        clock *= 2
    return clock
