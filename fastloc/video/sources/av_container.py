"""PyAV's container for a file, an address or a device; or a VideoError that says in one line what is wrong with it."""

from __future__ import annotations

from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from fastloc.errors import VideoError, unknown
from fastloc.utils.system.exhaustion import exhausted
from fastloc.video.sources.av_allowed import MAX_PIXELS, Allowed
from fastloc.video.sources.av_errors import reason
from fastloc.video.sources.av_reader import Opened

__all__ = ["open_container"]

# formats that are one picture; FFmpeg calls the rest of them *_pipe
PICTURES = ("image2", "jpegxl_anim")
NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails


def open_container(
    name: str, place: str, allowed: Allowed, *, format: str | None = None, options: dict[str, str] | None = None,
    timeout: float | None = None, max_pixels: int = MAX_PIXELS,
) -> Opened:  # fmt: skip
    """Opens `place` and picks its video stream. `name` stands in messages, `place` never does. Options of the caller come last.

    Raises VideoError: it cannot be opened, is of a kind that is not `allowed`, a picture, has no video, none that can be decoded, or frames
    of more than `max_pixels`.
    """
    container = _container(name, place, format, allowed.options(format, max_pixels) | (options or {}), timeout)
    try:
        _refuse(name, container.format.name, format)
        stream = _video(name, container)
        _limit(name, stream, max_pixels)
        return Opened(container, stream)
    except BaseException:
        container.close()
        raise


def _container(name: str, place: str, format: str | None, options: dict[str, str], timeout: float | None) -> InputContainer:
    if format is not None and format not in av.formats_available:
        raise VideoError(f"{name}: {unknown('format', format, sorted(av.formats_available))}")
    try:
        return av.open(place, "r", format=format, options=options, timeout=timeout, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        # FFmpeg's own lack of memory is mostly a damaged file
        why, short = reason(error), None if isinstance(error, av.FFmpegError) else exhausted(error)
    if short is not None:
        raise MemoryError(short)
    # raised out here, for the error that PyAV raised holds the address with its password
    raise VideoError(f"{name}: {why}")


def _refuse(name: str, detected: str, requested: str | None) -> None:
    kinds = detected.split(",")
    if requested is not None:
        return
    if detected.endswith("_pipe") or any(kind in PICTURES for kind in kinds):
        raise VideoError(f"{name}: must be a video, got a picture; `fastloc locate` and Localizer take pictures")


def _limit(name: str, stream: VideoStream, max_pixels: int) -> None:
    """Refuses a size before anything is decoded at it; the decoder refuses one that comes later."""
    context = stream.codec_context
    if (pixels := context.width * context.height) > max_pixels:
        raise VideoError(
            f"{name}: frames must have at most max_pixels = {max_pixels:,} pixels, got {context.width} x {context.height} = {pixels:,}; "
            "raise max_pixels where you trust it"
        )
    context.options = {**context.options, "max_pixels": str(max_pixels)}


def _video(name: str, container: InputContainer) -> VideoStream:
    streams = [stream for stream in container.streams.video if not stream.disposition & NO_VIDEO]
    if not streams:
        raise VideoError(f"{name}: has no video{_instead(container)}")
    best: Any = container.streams.best("video")
    stream: VideoStream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise VideoError(f"{name}: this build of FFmpeg has no decoder for its video")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all
    return stream


def _instead(container: InputContainer) -> str:
    kinds = dict.fromkeys(stream.type for stream in container.streams)
    if container.streams.video:
        return ", only sound and a cover" if container.streams.audio else ", only a picture"
    return f", only {' and '.join({'audio': 'sound'}.get(kind, kind) for kind in kinds)}" if kinds else ""
