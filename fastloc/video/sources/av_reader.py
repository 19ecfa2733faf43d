"""One opened file, device or connection: its packets decoded in order, what is damaged skipped and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from fastloc.errors import VideoError
from fastloc.video.sources.av_errors import reason
from fastloc.video.sources.av_pixels import orientation
from fastloc.video.sources.av_tail import Tail
from fastloc.video.sources.base import Info
from fastloc.video.sources.timestamps import PictureOrder, Timeline

__all__ = ["Opened", "Reader"]

# reads in a row that fail, after which the rest is given up
HOPELESS = 50
# AV_CODEC_FLAG_LOW_DELAY, for decoders that thread by themselves, as dav1d does
LOW_DELAY = 1 << 19
# decoders with packets that are never shown
HIDING = ("vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d")
# containers that say when a packet is decoded, and not when its picture is shown
UNORDERED = ("avi",)
# seconds by which a file may end before its time without a warning
EARLY = 1.0
# frames a second where nothing says it
RATE = 25.0
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Opened:
    """A container and the stream of it that is read."""

    container: InputContainer
    stream: VideoStream


class Reader:
    """Decodes one stream to its end.

    Args:
        name: for messages.
        opening: opens it; called once more where the last frames must be decoded again.
        quick: hand each frame out as soon as it can be, else several are decoded at once, which is faster; None: quick if it has no end.
        patience: seconds to wait for the first frame; None for a file.

    Attributes: corrupt (frames and packets skipped), info, step (seconds between frames on average), failure (why frames ended; "" where
    the stream did), cut (whether the last packet is damaged, and its frame is shown as far as it is there).

    Raises: VideoError where it cannot be opened or has no frame.
    """

    def __init__(self, name: str, opening: Callable[[], Opened], *, quick: bool | None, patience: float | None = None) -> None:
        self.name, self.corrupt, self.failure, self.cut = name, 0, "", False
        self._opening, self._opened = opening, opening()
        quick = not self._opened.container.duration if quick is None else quick
        self._tail = None if quick else Tail()
        self._context = self._opened.stream.codec_context
        self._context.thread_type = "SLICE" if quick else "AUTO"
        if quick:
            self._context.flags |= LOW_DELAY
        self._packets, self._listed, self._shown, self._jumped = 0, 0, 0, False
        self._last_dts: int | None = None
        # the timestamp of the last packet: the end of the file may go through it, and many containers do not know
        self._broken: int | None = None
        self._order = PictureOrder() if self._opened.container.format.name in UNORDERED else None
        self._patience, self._deadline = patience, float("inf")
        self._decoded = self._decode()
        try:
            self._first = self._await_first()
            self.step = _step(self._opened.stream)
            self.info = _info(self._opened, self._first, self.step)
        except BaseException:
            self.close()
            raise

    def frames(self, timeline: Timeline) -> Iterator[tuple[av.VideoFrame, float]]:
        """Each frame from the first on, and its place in time."""
        for frame in self._all():
            if self._jumped:
                self._jumped = False
                timeline.expect_restart()
            placed = timeline.place(frame.pts, self._opened.stream.time_base)
            # a decoder that lost a key frame puts frames out in any order
            if placed is None:
                self.corrupt += 1
            else:
                self._shown += 1
                yield frame, placed
        # and withholds others without a word
        if self.corrupt and self._context.codec.name not in HIDING:
            self.corrupt = max(self.corrupt, self._packets - self._shown)

    def shortfall(self, end: float) -> str:
        """Description of the part that a file lacks of its header's promise, if its last frame is at `end` seconds; "" for nothing."""
        if "mov" in self._opened.container.format.name.split(","):
            listed = len(self._opened.stream.index_entries) - self._listed
            return f"{listed} of its frames are not there" if listed > 0 else ""
        lasts = _promised(self._opened)
        late = lasts is not None and lasts - end > max(EARLY, 3 * self.step)
        return f"its last frame is at {end:.1f} s, though it is said to last {lasts:.1f} s" if late else ""

    def close(self) -> None:
        """Close the container: in the thread that iterates, or when none does."""
        self._decoded.close()
        self._opened.container.close()

    def _all(self) -> Iterator[av.VideoFrame]:
        yield self._first
        yield from self._decoded

    def _await_first(self) -> av.VideoFrame:
        if self._patience is not None:
            self._deadline = time.monotonic() + self._patience
        first = next(self._decoded, None)
        self._deadline = float("inf")
        if first is not None:
            return first
        what = f"none of its packets ({self._packets}) can be decoded" if self._packets else "it holds no frame"
        raise VideoError(f"{self.name}: {self.failure or what}")

    def _decode(self) -> Generator[av.VideoFrame]:
        for packet, last in self._packets_and_last():
            self._note(packet)
            if last:
                self._broken = packet.pts
            yield from self._sound(self._attempt(packet))
            if time.monotonic() > self._deadline:
                self.failure = f"packets come, but no picture within {self._patience:g} s"
                return
        yield from self._sound(self._drain())

    def _packets_and_last(self) -> Iterator[tuple[Any, bool]]:
        """Each packet, and whether none comes behind it. Of what has no end that is never known: no packet waits for the next one there."""
        waiting = None
        for packet in self._demux():
            if self._tail is None:
                yield packet, False
                continue
            if waiting is not None:
                yield waiting, False
            waiting = packet
        if waiting is not None:
            yield waiting, True

    def _demux(self) -> Iterator[Any]:
        failures = 0
        while failures < HOPELESS:
            try:
                for packet in self._opened.container.demux(self._opened.stream):
                    failures = 0
                    # the last one is empty, and stands for the end
                    if packet.size:
                        yield packet
                return
            except av.error.InvalidDataError:
                self.corrupt += 1
                failures += 1
            except (av.FFmpegError, OSError) as error:
                self.failure = reason(error)
                return

    def _note(self, packet: Any) -> None:
        self._listed += 1
        # what an edit list cuts off is decoded, and never shown
        self._packets += not packet.is_discard
        if packet.dts is not None:
            # within one recording it never decreases
            self._jumped = self._jumped or (self._last_dts is not None and packet.dts < self._last_dts)
            self._last_dts = packet.dts
        if self._tail is not None:
            self._tail.sent(packet)
        if self._order is not None:
            self._order.sent(packet.pts)

    def _attempt(self, packet: Any) -> list[av.VideoFrame]:
        try:
            return self._context.decode(packet)
        except av.FFmpegError:
            self.corrupt += 1
            if self._tail is not None:
                self._tail.failed()
            return []

    def _drain(self) -> Iterator[av.VideoFrame]:
        try:
            yield from self._context.decode(None)
        except av.FFmpegError:
            self.corrupt += self._tail is None
        if self._tail is None or not self._tail.lost:
            return
        try:
            fresh = self._opening()
        # a connection that broke off may be gone
        except VideoError:
            self.corrupt += self._tail.lost
            return
        try:
            frames, refused = self._tail.again(fresh.stream.codec_context)
            self.corrupt += refused
            yield from frames
        finally:
            fresh.container.close()

    def _sound(self, frames: Any) -> Iterator[av.VideoFrame]:
        for frame in frames:
            if self._tail is not None:
                self._tail.came(frame)
            pts = frame.pts
            if self._order is not None:
                frame.pts = self._order.place(pts, frame.key_frame)
            # concealed, or predicted from what is not there: showing it would be a guess. The frame that a file ends in the middle of is
            # shown as far as it is there, as players do
            if frame.is_corrupt and (pts is None or pts != self._broken):
                self.corrupt += 1
            else:
                self.cut = self.cut or frame.is_corrupt
                # drained frames come without
                frame.time_base = self._opened.stream.time_base
                yield frame


def _step(stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return 1 / float(rate) if rate else 1 / RATE


def _promised(opened: Opened) -> float | None:
    """Duration that the header promises for the video itself, seconds; None where it does not."""
    stream, container = opened.stream, opened.container
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None if len(container.streams) > 1 or not container.duration else container.duration / MICROSECONDS


def _info(opened: Opened, first: av.VideoFrame, step: float) -> Info:
    stream, turn = opened.stream, orientation(first)
    aspect = stream.sample_aspect_ratio or 1
    unit = stream.time_base
    # what has no end says 0 at times
    if stream.duration and unit:
        duration: float | None = float(stream.duration * unit)
    else:
        duration = opened.container.duration / MICROSECONDS if opened.container.duration else None
    return Info(
        size=turn.size(first.height, first.width), rate=1 / step, count=stream.frames or None, duration=duration, time_base=unit,
        pixel_aspect=1 / Fraction(aspect) if turn.transposed else Fraction(aspect), audio=bool(opened.container.streams.audio),
    )  # fmt: skip
