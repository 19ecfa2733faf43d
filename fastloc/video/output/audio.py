"""The sound of a file, brought into another one beside new pictures: as it is where the container takes it, else as AAC or Opus."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer

from fastloc.errors import warn
from fastloc.video.output.containers import Container, Sounds
from fastloc.video.sources.av_allowed import LOCAL, local_place

__all__ = ["Sound"]

# layouts by count of channels that sound is encoded with; another count becomes stereo
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
# samples a second of what has a rate that the encoder does not know
RATE = 48000
# seconds that timestamps may be off what the samples add up to: containers that count milliseconds round them
LOOSE = Fraction(1, 20)
# packets that a container is tried with
TRIED = 3
# seconds that are read before a time that is looked for: where a file is gone to is not exact
NEAR = 5
# seconds of nothing after the pictures' end, behind which there is no more sound; and anywhere
GAP, LONGEST = 600, 1_000_000


class Sound:
    """All sound tracks of a file. They are read again beside the pictures, a little at a time, so that no more than that is held.

    Sound that cannot be kept is a FastlocWarning: the pictures are what counts.
    """

    def __init__(self, path: Path, output: OutputContainer, container: Container, begin: Fraction = Fraction(0)) -> None:
        """Adds the tracks that have something from `begin` on to `output`, a container of that row, which must not have begun."""
        self._path = path
        self._tracks: dict[int, _Track] = {}
        self._input: InputContainer | None = None
        try:
            self._input = av.open(local_place(path), options=LOCAL.options())
            filled = _filled(path, begin) if self._input.streams.audio else set()
            for stream in self._input.streams.audio:
                # a muxer waits for a track's first packet, and would write nothing until then
                if stream.index in filled:
                    self._add(stream, output, container)
                else:
                    self._warn(f"track {stream.index} has nothing from {float(begin):g} s on")
        except (av.FFmpegError, OSError, ValueError) as error:
            self._warn("cannot be read", error)
        self._packets = self._read()
        self._next = next(self._packets, None)
        # seconds that pictures and sound have come to
        self._reached = begin

    def __len__(self) -> int:
        return len(self._tracks)

    def until(self, time: Fraction | None, shift: Fraction = Fraction(0)) -> None:
        """Write the sound that comes before `time`, seconds on the file's own clock; all that is left for None.

        `shift` seconds are taken off every timestamp, and what would then begin before 0 is left out.
        """
        while self._next is not None and (time is None or _time(self._next) < time):
            track, now = self._tracks.get(self._next.stream.index), _time(self._next)
            if track is not None and not (shift and now < shift):
                try:
                    if time is None and now > self._reached + GAP:
                        raise ValueError(f"it goes on {float(now - self._reached):.0f} s after the pictures")
                    track.put(self._next, shift)
                except (av.FFmpegError, ValueError, OverflowError) as error:
                    self._drop(track, error)
                else:
                    self._reached = max(self._reached, now)
            self._next = next(self._packets, None)
        self._reached = max(self._reached, time or self._reached)

    def finish(self) -> None:
        """Write what encoders hold back, and let go of the file."""
        for track in list(self._tracks.values()):
            try:
                track.finish()
            except (av.FFmpegError, ValueError, OverflowError) as error:
                self._drop(track, error)
        self.close()

    def close(self) -> None:
        self._next = None
        if self._input is not None:
            self._input.close()

    def _add(self, stream: Any, output: OutputContainer, container: Container) -> None:
        codec, encoder = stream.codec_context, container.sound_encoder()
        if codec is None:
            self._warn(f"track {stream.index} is of a kind that this FFmpeg does not know")
        elif codec.codec.canonical_name in container.copied and _takes(self._path, stream.index, container):
            self._tracks[stream.index] = _Copied(stream, output, container)
        elif encoder is None:
            self._warn(f"track {stream.index} cannot be copied, and this build of FFmpeg has no encoder for it")
        else:
            self._tracks[stream.index] = _Encoded(stream, output, container, encoder)

    def _read(self) -> Iterator[Any]:
        """Packets with a time, in the file's order."""
        if self._input is None or not self._tracks:
            return
        try:
            for packet in self._input.demux([track.source for track in self._tracks.values()]):
                if packet.dts is not None:
                    yield packet
        except (av.FFmpegError, OSError) as error:
            self._warn("ends early", error)

    def _drop(self, track: _Track, error: Exception) -> None:
        self._warn(f"track {track.source.index} ends early", error)
        self._tracks.pop(track.source.index, None)

    def _warn(self, what: str, error: Exception | None = None) -> None:
        # FFmpeg's errors carry the file's name along
        why = f" ({getattr(error, 'strerror', None) or error})" if error else ""
        warn(f"{self._path}: its sound {what}{why}", stacklevel=2)


class _Track:
    """One sound track on its way."""

    def __init__(self, source: Any, output: OutputContainer, container: Container, made: Any) -> None:
        self.source, self.made = source, made
        self._output, self._container = output, container
        for key, value in source.metadata.items():
            if key in ("language", "title"):
                made.metadata[key] = value

    def put(self, packet: Any, shift: Fraction) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is held back."""

    def write(self, packets: list[Any]) -> None:
        """Write packets; without those that end before 0, where the container cannot say so."""
        for packet in packets:
            if self._container.early or packet.dts is None or packet.dts + (packet.duration or 0) > 0 or packet.dts >= 0:
                self._output.mux(packet)

    def check_gap(self, seconds: Fraction, rate: int) -> None:
        """Check the gap to the packet before. Raises ValueError for more than the container can hold, or than makes sense."""
        ticks = self._container.ticks
        if seconds > LONGEST or (ticks is not None and seconds * rate > ticks):
            raise ValueError(f"nothing for {float(seconds):.0f} s")


class _Copied(_Track):
    """Packets as they are."""

    def __init__(self, source: Any, output: OutputContainer, container: Container) -> None:
        super().__init__(source, output, container, output.add_stream_from_template(source))
        self._last: int | None = None
        self._rate = source.codec_context.sample_rate or RATE
        # AAC of broadcasts: each packet begins with what a file says once
        bare = source.codec_context.codec.canonical_name == "aac" and not source.codec_context.extradata
        self._filter = BitStreamFilterContext("aac_adtstoasc", source) if bare else None

    def put(self, packet: Any, shift: Fraction) -> None:
        ticks = round(shift / packet.time_base)
        dts = packet.dts - ticks
        # a container takes no packet that goes back in time: damage in the source
        if self._last is not None and dts <= self._last:
            return
        self.check_gap((dts - (self._last or 0)) * packet.time_base, self._rate)
        self._last = dts
        # of sound they are the same
        packet.pts = packet.dts = dts
        packets = [packet] if self._filter is None else self._filter.filter(packet)
        for each in packets:
            each.stream = self.made
        self.write(packets)


class _Encoded(_Track):
    """Decoded, and encoded as AAC or Opus, whose packets follow each other without a gap: gaps are filled with silence."""

    def __init__(self, source: Any, output: OutputContainer, container: Container, encoder: Sounds) -> None:
        codec = source.codec_context
        self._format = encoder.format
        self._rate = codec.sample_rate if codec.sample_rate in encoder.rates else RATE
        layout = LAYOUTS.get(codec.layout.nb_channels, "stereo")
        self._channels = av.AudioLayout(layout).nb_channels
        made: Any = output.add_stream(encoder.encoder, rate=self._rate, layout=layout, bit_rate=encoder.bits * self._channels)
        made.codec_context.format = encoder.format
        made.time_base = Fraction(1, self._rate)
        super().__init__(source, output, container, made)
        self._resampler = av.AudioResampler(encoder.format, layout, self._rate)
        # samples before the next one, on the output's clock
        self._at: int | None = None

    def put(self, packet: Any, shift: Fraction) -> None:
        for frame in packet.decode():
            self._meet(None if frame.pts is None else frame.pts * frame.time_base - shift)
            self._encode(self._resampler.resample(frame))

    def finish(self) -> None:
        if self._at is not None:
            self._encode(self._resampler.resample(None))
        self.write(self.made.encode(None))

    def _meet(self, time: Fraction | None) -> None:
        """Silence up to this time, where samples are missing."""
        if time is not None:
            self.check_gap(time - Fraction(self._at or 0, self._rate), self._rate)
        if self._at is None:
            self._at = round((time or 0) * self._rate)
        while time is not None and time - Fraction(self._at, self._rate) > LOOSE:
            missing = round(time * self._rate) - self._at
            count = min(missing, self._rate)
            planar = self._format.endswith("p")
            silence = np.zeros((self._channels, count) if planar else (1, count * self._channels), np.float32)
            self._encode([av.AudioFrame.from_ndarray(silence, self._format, self.made.codec_context.layout.name)])

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            assert self._at is not None
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._at, Fraction(1, self._rate)
            self._at += frame.samples
            self.write(self.made.encode(frame))


def _takes(path: Path, index: int, container: Container) -> bool:
    """True if the container takes this very track, tried with its first packets: some codecs fit only at some rates, or with a header."""
    try:
        trial = av.open(io.BytesIO(), "w", format=container.name, options=container.muxing(seekable=True))
        with trial, av.open(local_place(path), options=LOCAL.options()) as source:
            stream = source.streams[index]
            track = _Copied(stream, trial, container)
            for packet in itertools.islice((each for each in source.demux(stream) if each.dts is not None), TRIED):
                track.put(packet, Fraction(0))
    except (av.FFmpegError, ValueError):
        return False
    return True


def _filled(path: Path, begin: Fraction) -> set[int]:
    """The indices of the sound tracks with a packet at this time or later. Raises av.FFmpegError."""
    found: set[int] = set()
    with av.open(local_place(path), "r", options=LOCAL.options()) as source:
        tracks = source.streams.audio
        if begin > NEAR:
            source.seek(int((begin - NEAR) * 1_000_000))
        for packet in source.demux(tracks):
            if packet.dts is not None and _time(packet) >= begin:
                found.add(packet.stream.index)
                if len(found) == len(tracks):
                    break
    return found


def _time(packet: Any) -> Fraction:
    return Fraction(packet.dts * packet.time_base)
