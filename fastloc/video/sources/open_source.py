"""Opens a path, an address, a camera or an iterable as a source of frames."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass, fields
from importlib.util import find_spec
from numbers import Integral
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fastloc.errors import VideoError
from fastloc.video.sources.av_allowed import MAX_PIXELS
from fastloc.video.sources.base import Source
from fastloc.video.sources.redact import is_address

__all__ = ["KINDS", "open_source"]

TAKEN = "a path, an address (rtsp://, http:// …), a camera (0, 'camera:0'), an iterable of frames or a Source"


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a source; each kind takes some of them."""

    bgr: bool = False
    live: bool | None = None
    rate: float | None = None
    loop: bool = False
    format: str | None = None
    options: dict[str, str] | None = None
    timeout: float = 10.0
    retries: int | None = None
    backoff: tuple[float, float] = (0.5, 15.0)
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of source: a test for it, the function that opens it, and the settings that it takes."""

    plural: str
    recognises: Callable[[Any], bool]
    opens: Callable[[Any, dict[str, Any]], Source]
    takes: tuple[str, ...] = ()


def open_source(
    given: Any, *, bgr: bool = False, live: bool | None = None, rate: float | None = None, loop: bool = False, format: str | None = None,
    options: dict[str, str] | None = None, timeout: float = 10.0, retries: int | None = None, backoff: tuple[float, float] = (0.5, 15.0),
    max_pixels: int = MAX_PIXELS,
) -> Source:  # fmt: skip
    """Opens a video, up to its first frame.

    Args:
        given: a path; an address (rtsp, rtsps, http, https, rtmp, udp, tcp, srt …); a camera (0, "0", "camera:0", "/dev/video0"); an
            iterable of frames (see `frame_of`); or a `Source`, which is returned as it is.
        bgr: arrays and tensors are blue, green, red.
        live: whether the newest frame matters rather than every one. By default cameras are, and addresses without an end. A file that is
            live is handed out at its own pace.
        rate: frames a second: of an iterable whose frames carry no time (by default 30), or requested from a camera.
        loop: begin a file anew at its end.
        format: FFmpeg's name of the format or input device, where it must not be guessed. One that is else not read, such as a playlist
            of files ("hls", "concat"), is read where it is named here.
        options: more for FFmpeg's demuxer, protocol or device, as {"rtsp_transport": "udp"}. A "protocol_whitelist" or "format_whitelist"
            takes the place of the lists in `av_allowed`.
        timeout: seconds without data after which a connection counts as lost.
        retries: how often to try to open a lost connection or camera again before `frames` raises VideoError; None for ever.
        backoff: seconds before the first try, and at most before any; they double.
        max_pixels: of one frame, as the file says it or as it comes in its middle. Formats that say it late, as .flv does, decode one frame
            before it is known; FFmpeg's own limit holds for that, 268 million.

    Raises: VideoError, one line, for what is none of these, is not there, cannot be read or holds no frame, and for an argument that means
        nothing for this kind of source. A connection that fails at first is not tried again.
    """
    settings = Settings(bgr, live, rate, loop, format, options, timeout, retries, backoff, max_pixels)
    _check(settings)
    kind = next((kind for kind in KINDS if kind.recognises(given)), None)
    if kind is None:
        raise VideoError(_unknown(given))
    chosen = {each.name: getattr(settings, each.name) for each in fields(Settings) if getattr(settings, each.name) != each.default}
    for name in chosen:
        if name not in kind.takes:
            raise VideoError(f"{name} must be left out for {kind.plural}; they take {', '.join(kind.takes) or 'no options'}")
    return kind.opens(given, chosen)


def _check(settings: Settings) -> None:
    for name in ("rate", "timeout"):
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise VideoError(f"{name} must be above 0, got {value!r}")
    if isinstance(settings.max_pixels, bool) or not isinstance(settings.max_pixels, int) or settings.max_pixels < 1:
        raise VideoError(f"max_pixels must be a whole number, 1 or more, got {settings.max_pixels!r}")
    if settings.retries is not None and settings.retries < 0:
        raise VideoError(f"retries must be 0 or more, or None for ever, got {settings.retries!r}")
    first, cap = settings.backoff
    if not 0 < first <= cap:
        raise VideoError(f"backoff must be seconds before the first try and at most, such as (0.5, 15.0), got {settings.backoff!r}")


def _unknown(given: Any) -> str:
    kind = type(given).__name__
    hint = ""
    if hasattr(given, "read"):
        hint = "; give the path of the file, and of cv2.VideoCapture what it was opened with"
    elif _is_picture(given):
        hint = "; one picture is no video, Localizer takes it as it is"
    elif isinstance(given, AsyncIterable):
        hint = "; submit its frames to a fastloc.video Pipeline"
    return f"a video source is {TAKEN}, not a {kind}{hint}"


def _is_source(given: Any) -> bool:
    return callable(getattr(given, "frames", None)) and callable(getattr(given, "close", None)) and hasattr(given, "live")


def _is_camera(given: Any) -> bool:
    if isinstance(given, str):
        named = re.fullmatch(r"camera:\d+|/dev/video\d+", given) is not None
        return named or (given.isascii() and given.isdigit() and not os.path.exists(given))
    return isinstance(given, Integral) and not isinstance(given, bool)


def _is_address(given: Any) -> bool:
    return isinstance(given, str) and is_address(given) and not given.lower().startswith("file:")


def _is_picture(given: Any) -> bool:
    shape = getattr(given, "shape", None)
    return (shape is not None and len(shape) < 4) or hasattr(given, "getpixel")


def _is_frames(given: Any) -> bool:
    no_frames = isinstance(given, (bytes, bytearray, dict)) or hasattr(given, "read") or _is_picture(given)
    return isinstance(given, Iterable) and not no_frames


def _source(given: Source, _: dict[str, Any]) -> Source:
    return given


def _camera(given: Any, settings: dict[str, Any]) -> Source:
    _needs_av()
    from fastloc.video.sources.camera import open_camera

    if isinstance(given, str):
        number = given.removeprefix("camera:").removeprefix("/dev/video")
        # a device keeps its name in messages
        return open_camera(given if given.startswith("/") else int(number), **settings)
    if int(given) < 0:
        raise VideoError(f"camera must be a number from 0 on, got {int(given)}")
    return open_camera(int(given), **settings)


def _address(given: str, settings: dict[str, Any]) -> Source:
    _needs_av()
    from fastloc.video.sources.network_source import open_address

    return open_address(given, **settings)


def _file(given: Any, settings: dict[str, Any]) -> Source:
    _needs_av()
    from fastloc.video.sources.file_source import open_file

    place = os.fsdecode(given)
    if place.lower().startswith("file://"):
        place = url2pathname(urlsplit(place).path)
    return open_file(Path(place), **settings)


def _frames(given: Any, settings: dict[str, Any]) -> Source:
    from fastloc.video.sources.iterables import FramesOf

    return FramesOf(given, **settings)


def _needs_av() -> None:
    if find_spec("av") is None:
        raise VideoError('files, cameras and addresses need PyAV, which is not installed: pip install "fastloc[video]"')


_CONNECTED = ("live", "format", "options", "timeout", "retries", "backoff", "max_pixels")
# the first that recognises it opens it
KINDS = (
    Kind("a Source", _is_source, _source),
    Kind("cameras", _is_camera, _camera, ("rate", *_CONNECTED)),
    Kind("addresses", _is_address, _address, ("loop", *_CONNECTED)),
    Kind("files", lambda given: isinstance(given, (str, os.PathLike)), _file, ("live", "loop", "format", "options", "max_pixels")),
    Kind("iterables of frames", _is_frames, _frames, ("bgr", "live", "rate")),
)
