"""The end of an mp4 that could not be finished: what is only half there is cut off."""

from __future__ import annotations

import io
import struct

__all__ = ["trim"]

# size and kind; the size of a box that is larger than four bytes can say comes behind them
HEADER, LONG = struct.Struct(">I4s"), struct.Struct(">Q")


def trim(file: io.FileIO) -> None:
    """Cut a fragmented mp4 (ISO/IEC 14496-12) behind its last whole fragment: a `moof` and the `mdat` after it."""
    size, at, whole = file.seek(0, io.SEEK_END), 0, 0
    while at + HEADER.size <= size:
        file.seek(at)
        length, kind = HEADER.unpack(file.read(HEADER.size))
        if length == 1:
            length = LONG.unpack(file.read(LONG.size).ljust(LONG.size, b"\0"))[0]
        at += max(length, HEADER.size)
        if kind != b"moof" and at <= size:
            whole = at
    file.truncate(whole)
