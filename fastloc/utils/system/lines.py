"""Files that grow line by line, each line on the disk before the next is made."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from fastloc.utils.system import files

__all__ = ["append"]


def append(path: Path, line: bytes) -> None:
    """Add a line, which ends with a line feed, to a file, and bring it to the disk; where that fails, the file is as it was.

    What a killed process had begun behind the last whole line is cut off first. Raises OSError.
    """
    with files.File(path, "r+" if path.exists() else "x+") as file:
        end = _behind_last_line(file)
        left = memoryview(line)
        try:
            if file.seek(0, os.SEEK_END) != end:
                file.truncate(end)
                file.seek(end)
            while left:
                left = left[file.write(left) :]
            files.sync_descriptor(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(end)
            raise


def _behind_last_line(file: files.File) -> int:
    size = file.seek(0, os.SEEK_END)
    if not size:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return size
    file.seek(0)
    return (file.readall() or b"").rfind(b"\n") + 1
