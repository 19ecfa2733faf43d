"""Cameras of this machine, by their number."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fastloc.errors import VideoError
from fastloc.video.sources.av_allowed import MAX_PIXELS, Allowed
from fastloc.video.sources.av_container import open_container
from fastloc.video.sources.av_reader import Reader
from fastloc.video.sources.reconnecting_source import LiveSource

__all__ = ["SYSTEMS", "open_camera"]


@dataclass(frozen=True, slots=True)
class System:
    """A system's names of its cameras.

    Attributes:
        format: FFmpeg's input device
        place: from a number to what the device is opened by; raises LookupError where there is none
        present: the cameras that are there, for messages
    """

    format: str
    place: Callable[[int], str]
    present: Callable[[], list[str]]


def _video_node(index: int) -> str:
    place = f"/dev/video{index}"
    if not os.path.exists(place):
        raise LookupError(f"{place} is not there")
    return place


def _video_nodes() -> list[str]:
    return sorted(glob.glob("/dev/video*"))


def _devices(format: str) -> list[str]:
    import av

    return [device.name for device in av.enumerate_input_devices(format) if "video" in device.media_types]


def _by_name(format: str, prefix: str, index: int) -> str:
    names = _devices(format)
    if index >= len(names):
        raise LookupError(f"there is no camera number {index}")
    return prefix + names[index]


# the first row is tested on a machine without cameras, the others are not tested at all
SYSTEMS = {
    "linux": System("v4l2", _video_node, _video_nodes),
    "darwin": System("avfoundation", lambda index: f"{index}:none", partial(_devices, "avfoundation")),
    "win32": System("dshow", partial(_by_name, "dshow", "video="), partial(_devices, "dshow")),
}


def open_camera(
    camera: int | str, *, live: bool = True, rate: float | None = None, format: str | None = None, options: dict[str, str] | None = None,
    timeout: float = 10.0, retries: int | None = None, backoff: tuple[float, float] = (0.5, 15.0), max_pixels: int = MAX_PIXELS,
) -> LiveSource:  # fmt: skip
    """A camera as a source: by its number, or by what the system calls it ("/dev/video0"). One that was unplugged is opened again when it
    is back.

    Args:
        rate: frames a second requested from the camera.
        format: another of FFmpeg's input devices than the system's own.
        options: of FFmpeg's input device, such as {"video_size": "640x480", "input_format": "mjpeg"}.

    Raises: VideoError where there is no such camera, it is in use, or may not be read.
    """
    name = f"camera {camera}"
    system = SYSTEMS.get(sys.platform)
    if system is None and format is None:
        raise VideoError(f"{name}: cameras of {sys.platform} are not known, only those of {', '.join(SYSTEMS)}; give format=")
    requested = ({"framerate": f"{rate:g}"} if rate else {}) | (options or {})

    def connect() -> Reader:
        place = _place(name, camera, None if format else system)
        kind = format or (system.format if system else None)
        # a device is opened by its driver, without a protocol
        opening = partial(
            open_container, name, place, Allowed((), ()), format=kind, options=requested, timeout=timeout, max_pixels=max_pixels,
        )  # fmt: skip
        return Reader(name, opening, quick=True, patience=timeout)

    return LiveSource(connect(), connect, live=live, retries=retries, backoff=backoff)


def _place(name: str, camera: int | str, system: System | None) -> str:
    if system is None:
        return str(camera)
    try:
        if isinstance(camera, int):
            return system.place(camera)
        if system.format == "v4l2" and not os.path.exists(camera):
            raise LookupError(f"{camera} is not there")
        return camera
    except LookupError as error:
        here = ", ".join(system.present()) or "none"
        raise VideoError(f"{name}: {error}; cameras here: {here}") from None
