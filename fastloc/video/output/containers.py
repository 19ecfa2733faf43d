"""The containers that video is written in, and the codecs that go with each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av

from fastloc.errors import VideoError
from fastloc.utils.atomic_write import is_stream

__all__ = ["CONTAINERS", "Container", "Pictures", "Sounds", "container_of"]

# microseconds of pictures that a killed process loses, beside what the encoder holds back
FRAGMENT = 500_000
# samples a second that AAC knows, and those of Opus
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
OPUS_RATES = (48000, 24000, 16000, 12000, 8000)


@dataclass(frozen=True, slots=True)
class Pictures:
    """An encoder of pictures.

    Attributes:
        encoder: FFmpeg's name of it
        codec: what people call what it makes
        options: from x264's constant rate factor, its preset and the pictures from one key frame to the next, to the encoder's own options
        instant: more options, with which each picture comes out at once, in fair quality
    """

    encoder: str
    codec: str
    options: Callable[[int, str, int], dict[str, str]]
    instant: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sounds:
    """An encoder of sound: its name, its format of samples, the samples a second that it knows, and the bits a second of one channel."""

    encoder: str
    format: str
    rates: tuple[int, ...]
    bits: int


@dataclass(frozen=True, slots=True)
class Container:
    """A container.

    Attributes:
        name: FFmpeg's
        pictures: encoders, the best one first; the first that this FFmpeg has is used
        sounds: encoders of sound that cannot be copied, likewise
        copied: codecs of sound that players expect in it
        mark: bytes that stand before pictures in a file
        ticks: of a track's clock, which two of its packets may be apart at most: FFmpeg ends the process where they are more; None for any
        early: whether sound may begin before 0, as the first packet of AAC does: elsewhere all that follows would be moved
        options: for FFmpeg's muxer: what is written can be played at any moment
        finish: more of them for a file, in which what is behind can be gone back to
    """

    name: str
    pictures: tuple[Pictures, ...]
    sounds: tuple[Sounds, ...]
    copied: tuple[str, ...]
    mark: bytes
    ticks: int | None
    early: bool
    options: dict[str, str]
    finish: dict[str, str] = field(default_factory=dict)

    def muxing(self, seekable: bool) -> dict[str, str]:
        """The muxer's options."""
        more = self.finish if seekable else {}
        return {name: self.options.get(name, "") + more.get(name, "") for name in {*self.options, *more}}

    def encoder(self) -> Pictures:
        """The encoder of pictures. Raises LookupError where this FFmpeg has none."""
        return next(row for row in self.pictures if row.encoder in av.codecs_available)

    def sound_encoder(self) -> Sounds | None:
        """The encoder of sound, if this FFmpeg has one."""
        return next((row for row in self.sounds if row.encoder in av.codecs_available), None)


def _x264(quality: int, preset: str, group: int) -> dict[str, str]:
    # without pictures that wait for later ones (bf): an edit list would have to say how long, and players cut by it
    return {"crf": str(quality), "preset": preset, "g": str(group), "bf": "0"}


def _vpx(quality: int, _: str, group: int) -> dict[str, str]:
    # its scale ends at 63, and it knows no presets; without pictures that wait for later ones, as above
    chosen = {"crf": str(round(quality * 63 / 51)), "g": str(group), "lag-in-frames": "0", "auto-alt-ref": "0"}
    return chosen | {"deadline": "realtime", "cpu-used": "6"}


def _vp9(quality: int, preset: str, group: int) -> dict[str, str]:
    return _vpx(quality, preset, group) | {"b": "0", "row-mt": "1"}


def _vp8(quality: int, preset: str, group: int) -> dict[str, str]:
    # a bound of bits a second is what makes it look at the quality at all
    return _vpx(quality, preset, group) | {"b": "20M"}


_H264 = Pictures("libx264", "h264", _x264, {"preset": "ultrafast", "tune": "zerolatency", "threads": "1"})
_VP9 = Pictures("libvpx-vp9", "VP9", _vp9, {"cpu-used": "8", "threads": "1"})
_VP8 = Pictures("libvpx", "VP8", _vp8, {"cpu-used": "8", "threads": "1"})
_AAC, _OPUS = Sounds("aac", "fltp", AAC_RATES, 96000), Sounds("libopus", "flt", OPUS_RATES, 64000)
# a file can be played at any moment: in fragments until it is closed, when one index of all of it replaces theirs. The first one waits for
# every track's first packet, which says when that begins
_FRAGMENTS = {"movflags": "+frag_keyframe+delay_moov", "frag_duration": str(FRAGMENT)}
_WHOLE = {"movflags": "+hybrid_fragmented"}
_CLUSTERS = {"cluster_time_limit": str(FRAGMENT // 1000), "flush_packets": "1"}
# a little less than what 32 bits hold: readers take what is close to it for damage
_TICKS = 2**31 - 2**16
_CLUSTER = b"\x1f\x43\xb6\x75"
_IN_MP4 = ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")
_IN_MOV = ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le")
_IN_MKV = (*_IN_MP4, "vorbis", "mp2", "dts", "truehd", "pcm_s16le", "pcm_s24le")
_MP4 = Container("mp4", (_H264,), (_AAC,), _IN_MP4, b"moof", _TICKS, True, _FRAGMENTS, _WHOLE)
# .mkv and .webm count milliseconds: the others keep any timestamp exactly
CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", (_H264,), (_AAC,), _IN_MOV, b"moof", _TICKS, True, _FRAGMENTS, _WHOLE),
    ".mkv": Container("matroska", (_H264,), (_AAC,), _IN_MKV, _CLUSTER, None, False, _CLUSTERS),
    ".webm": Container("webm", (_VP9, _VP8), (_OPUS,), ("opus", "vorbis"), _CLUSTER, None, False, _CLUSTERS),
}


def container_of(path: Path) -> Container:
    """The container that an extension stands for; .mp4 for a pipe or a device without one.

    Raises VideoError for an extension that is not a row of `CONTAINERS`, and where this FFmpeg lacks the encoder.
    """
    container = CONTAINERS.get(path.suffix.lower())
    if container is None and not path.suffix and _is_stream(path):
        container = _MP4
    if container is None:
        extension = repr(path.suffix) if path.suffix else "none"
        raise VideoError(f"{path}: the extension must be one of {', '.join(CONTAINERS)}, got {extension}")
    if not any(row.encoder in av.codecs_available for row in container.pictures):
        lacking = " nor ".join(row.encoder for row in container.pictures)
        raise VideoError(f"{path}: this build of FFmpeg has no encoder for it ({lacking}); choose another of {', '.join(CONTAINERS)}")
    return container


def _is_stream(path: Path) -> bool:
    try:
        return is_stream(path)
    except OSError:
        return False
