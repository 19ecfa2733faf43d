"""The first pictures of a video as a file of their own, which stands where the video will until its own first pictures are in the file.

An encoder looks at pictures to come, and a muxer collects what it gets: without this a file would be empty for the first second of video,
which a slow model needs a minute for.
"""

from __future__ import annotations

import io
import os
import time
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer

from fastloc.video.output.picture_track import add_pictures
from fastloc.video.sources.av_allowed import Allowed

__all__ = ["Preview", "PreviewedFile"]

# seconds from one writing to the next
PAUSE = 0.5
# bytes of pictures, after which no more are added
MOST = 16 << 20


class PreviewedFile(io.RawIOBase):
    """A file whose bytes are held back until there are pictures among them, which come behind a `mark`; until then it holds a preview."""

    def __init__(self, file: Any, mark: bytes) -> None:
        super().__init__()
        self._file, self._mark, self._end, self._marked = file, mark, b"", False
        self._held: io.BytesIO | None = io.BytesIO()

    def holds_pictures(self) -> bool:
        """True once there are pictures among the bytes: what is behind the first mark may be sound alone."""
        if self._held is None or not self._marked:
            return self._held is None
        self._marked = False
        try:
            with av.open(io.BytesIO(self._held.getvalue()), "r", options=Allowed().options()) as file:
                return any(packet.size for packet in file.demux(video=0))
        except (av.FFmpegError, IndexError):
            return False

    def show(self, content: bytes) -> None:
        """Put a preview in place of the last one."""
        if self._held is not None:
            self._file.replace(content)

    def release(self) -> None:
        """Put the file's own bytes in place of the preview."""
        if self._held is not None:
            content, at = self._held.getvalue(), self._held.tell()
            self._held = None
            self._file.replace(content)
            self._file.seek(at)

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self._held is None:
            return int(self._file.write(data))
        written = self._held.write(data)
        # it may lie across two writes
        around = self._end + bytes(data)
        self._end = around[-len(self._mark) :]
        self._marked = self._marked or self._mark in around
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int((self._file if self._held is None else self._held).seek(offset, whence))

    def tell(self) -> int:
        return int((self._file if self._held is None else self._held).tell())


class Preview:
    """Encodes pictures at once, and makes files of them."""

    def __init__(
        self, kind: str, muxing: dict[str, str], encoder: str, options: dict[str, str], size: tuple[int, int], time_base: Fraction,
        rate: Fraction, pixel_aspect: Fraction,
    ) -> None:  # fmt: skip
        self._kind, self._muxing = kind, muxing
        # it is never read: the track's encoder needs a container
        self._nowhere = self._open(io.BytesIO())
        self._stream = add_pictures(self._nowhere, encoder, options, size, time_base, rate, pixel_aspect)
        self._nowhere.start_encoding()
        self._packets: list[Any] = []
        self._bytes, self._last = 0, float("-inf")

    def add(self, frame: av.VideoFrame) -> bytes | None:
        """Add a picture. Returns a file of all of them; None where the last one was made just now, and once there are too many."""
        now = time.monotonic()
        if self._bytes >= MOST:
            return None
        made = self._stream.encode(frame)
        self._packets += made
        self._bytes += sum(packet.size for packet in made)
        if now - self._last < PAUSE or not self._packets:
            return None
        self._last = now
        return self._file()

    def close(self) -> None:
        """Let go of the encoder."""
        self._packets.clear()
        self._nowhere.close()

    def _open(self, file: io.BytesIO) -> OutputContainer:
        return av.open(file, "w", format=self._kind, options=dict(self._muxing))

    def _file(self) -> bytes:
        out = io.BytesIO()
        with self._open(out) as output:
            stream = output.add_stream_from_template(self._stream)
            for packet in self._packets:
                packet.stream = stream
                output.mux(packet)
        return out.getvalue()
