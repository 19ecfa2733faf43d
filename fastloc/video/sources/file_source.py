"""Files: every frame, in order; or, as if it came from a camera, at the file's own pace."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fastloc.errors import VideoError, warn
from fastloc.video.sources.av_allowed import LOCAL, MAX_PIXELS, local_place
from fastloc.video.sources.av_base import AvSource
from fastloc.video.sources.av_container import open_container
from fastloc.video.sources.av_reader import Opened, Reader
from fastloc.video.sources.frame import Frame
from fastloc.video.sources.redact import redact_address

__all__ = ["FileSource", "open_file"]

# reading a pipe or a socket would wait for its writer, and a video is read at several places
REFUSED: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "must be a video file, got a folder; give the pictures in it as an iterable"),
    (stat.S_ISFIFO, "must be a video file, got a pipe; a video is read at several places, so write it to a file first"),
    (stat.S_ISSOCK, "must be a video file, got a socket"),
    (stat.S_ISCHR, "must be a video file, got a device; give a camera as camera:0 or /dev/video0"),
    (stat.S_ISBLK, "must be a video file, got a device"),
)
# bytes of a file by which a text is recognised, and those that texts are made of
SNIFFED = 512
PRINTABLE = bytes([9, 10, 12, 13, *range(32, 127), *range(128, 256)])


class FileSource(AvSource):
    """Frames of what has an end. With `live` each is handed out when its time has come; with `loop` it begins anew at its end.

    One that ends too early is warned of, for there will not be more; where it is `remote`, VideoError is raised.
    """

    def __init__(
        self, reader: Reader, connect: Callable[[], Reader], live: bool = False, loop: bool = False, remote: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(reader, connect, live)
        self._loop, self._remote = loop, remote

    def _run(self) -> Iterator[Frame]:
        began = time.monotonic()
        while True:
            for frame in self._read():
                if self.live and self._stop.wait(max(0.0, began + frame.time - time.monotonic())):
                    return
                frame.captured = time.monotonic()
                yield frame
            self._ended()
            if not self._loop or self._stop.is_set():
                return
            self._open_again()
            self._timeline.resume(0.0)

    def _ended(self) -> None:
        if self._stop.is_set():
            return
        lacks = self._reader.shortfall(self._timeline.last or 0.0)
        # FFmpeg calls many a broken connection an end
        broken = self._reader.failure or (lacks if self._remote else "")
        if broken:
            raise VideoError(f"{self.name}: broke off after {self._count} frames: {broken}")
        if self._reader.cut:
            lacks = "; ".join(filter(None, (lacks, "its last frame is shown as far as it is there")))
        if lacks:
            warn(f"{self.name}: is cut short or damaged: {lacks}", stacklevel=2)


def open_file(
    path: Path, *, live: bool = False, loop: bool = False, format: str | None = None, options: dict[str, str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> FileSource:  # fmt: skip
    """A video file as a source. Raises VideoError: missing, a folder, empty, unreadable, not a video, without video, without frames."""
    name = _checked(path)

    def opening() -> Opened:
        try:
            return open_container(name, local_place(path), LOCAL, format=format, options=options, max_pixels=max_pixels)
        except VideoError:
            if format is None and _is_text(path):
                raise VideoError(f"{name}: must be a video, got a text") from None
            raise

    def connect() -> Reader:
        return Reader(name, opening, quick=False)

    return FileSource(connect(), connect, live, loop)


def _checked(path: Path) -> str:
    name = str(path)
    try:
        mode = path.stat().st_mode
        for is_kind, error in REFUSED:
            if is_kind(mode):
                raise VideoError(f"{name}: {error}")
        with path.open("rb") as file:
            if not file.read(1):
                raise VideoError(f"{name}: is empty (0 bytes)")
        return name
    except FileNotFoundError:
        hint = "; standard input is no source of video, for a video is read at several places" if name == "-" else ""
        # a mistyped address ends here too
        raise VideoError(f"{redact_address(name)}: no such file{hint}") from None
    except PermissionError:
        raise VideoError(f"{name}: no permission to read it") from None
    except VideoError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
    raise VideoError(f"{redact_address(name)!r}: cannot be opened ({why})")


def _is_text(path: Path) -> bool:
    """True if the file begins as a text does: a playlist, a list of files, a description of streams, or words."""
    with path.open("rb") as file:
        return not file.read(SNIFFED).translate(None, PRINTABLE)
