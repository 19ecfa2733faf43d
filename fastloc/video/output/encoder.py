"""One h264 track in an mp4 that can be played while it is being written: the clock, the colours, and the order of pictures and sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from fastloc.video.output.audio import FRAGMENTS, Sound

__all__ = ["Encoder"]

Pixels = NDArray[np.uint8]

# a container's clock is made at least this fine, a power of two finer than the pictures': sound is placed on it too
FINEST = 10000
# microseconds of pictures that a killed process loses, beside what the encoder holds back
FRAGMENT = 500_000
# microseconds of pictures that wait for sound of the same time, before they are written without it
PATIENCE = 1_000_000
# seconds from one picture that can be jumped to, to the next
GROUP = 2


class Encoder:
    """Pictures of one size into one open file.

    file          takes the bytes: write, seek, tell
    kind          FFmpeg's name of the container: "mp4" or "mov"
    size          (height, width), both even
    time_base     the unit of timestamps, seconds, kept exactly
    rate          frames a second, about
    pixel_aspect  width over height of a pixel
    sound         a file whose sound is kept, or None
    shift         what is taken off every timestamp, in units of time_base
    quality, preset    x264's

    Raises av.FFmpegError for a size that x264 does not take.
    """

    def __init__(
        self, file: Any, kind: str, size: tuple[int, int], *, time_base: Fraction, rate: float, pixel_aspect: Fraction, sound: Path | None,
        shift: int, quality: int, preset: str,
    ) -> None:  # fmt: skip
        self.size, self.time_base, self.shift = size, time_base, shift
        # in fragments until it is closed, when one index of all of it replaces theirs; the first one waits for every track's first packet,
        # which says when that begins
        clock = str(_clock(time_base))
        options = FRAGMENTS | {"frag_duration": str(FRAGMENT), "movie_timescale": clock, "video_track_timescale": clock}
        options["max_interleave_delta"] = str(PATIENCE)
        self._output = av.open(cast(BinaryIO, file), "w", format=kind, options=options)
        self._stream = self._add(rate, pixel_aspect, quality, preset)
        self._sound = Sound(sound, self._output, kind) if sound else None
        self._last: int | None = None
        self._finished = False
        self._step = max(round(1 / (rate * time_base)), 1)

    def _add(self, rate: float, pixel_aspect: Fraction, quality: int, preset: str) -> Any:
        # without pictures that wait for later ones (bf): an edit list would have to say how long, and players cut by it
        options = {"crf": str(quality), "preset": preset, "g": str(max(round(GROUP * rate), 1)), "bf": "0"}
        stream = self._output.add_stream("libx264", options=options)
        codec = stream.codec_context
        codec.height, codec.width = self.size
        codec.pix_fmt, codec.sample_aspect_ratio = "yuv420p", pixel_aspect
        stream.time_base = codec.time_base = self.time_base
        codec.framerate = Fraction(rate).limit_denominator(1001)
        codec.color_range, codec.colorspace = ColorRange.MPEG, Colorspace.ITU709
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        codec.open()
        return stream

    def write(self, pixels: Pixels, pts: int | None) -> None:
        """Add one picture, uint8 [H, W, 3] RGB of `size`; without `pts` one frame after the last one, and always after it."""
        at = self._place(pts)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        made = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        made.pts, made.time_base, made.duration = at - self.shift, self.time_base, self._step
        self._mux(self._stream.encode(made))

    def _place(self, pts: int | None) -> int:
        """The picture's timestamp."""
        if self._last is None:
            self._last = self.shift if pts is None else pts
        elif pts is None:
            self._last += self._step
        else:
            before, self._last = self._last, max(pts, self._last + 1)
            self._step = self._last - before
        return self._last

    def finish(self, rest: bool) -> None:
        """Write what is held back, and the index; once. rest: all sound that is left, else that up to the last picture's end."""
        if self._finished:
            return
        self._finished = True
        self._mux(self._stream.encode(None))
        if self._sound is not None:
            last = ((self._last or 0) + self._step) * self.time_base
            self._sound.until(None if rest else last, self._offset)
            self._sound.finish()
        self._output.close()

    @property
    def _offset(self) -> Fraction:
        return self.shift * self.time_base

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._sound is not None:
                self._sound.until(packet.dts * packet.time_base + self._offset, self._offset)
            self._output.mux(packet)


def _clock(time_base: Fraction) -> int:
    """Ticks a second that every multiple of time_base is a whole number of."""
    clock = time_base.denominator
    while clock < FINEST:
        clock *= 2
    return clock
