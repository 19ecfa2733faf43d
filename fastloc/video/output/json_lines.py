"""Each frame's results as JSON, one object a line, on standard output or in a file."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from fastloc.errors import VideoError, warn
from fastloc.results.result import Result
from fastloc.video.output.partial_file import PartialFile, reason

__all__ = ["Records", "record"]

# of `Result.to_dict`: what differs from frame to frame
FIELDS = ("picture", "texts")


def record(index: int, time: float, result: Result, threshold: float = 0.5) -> dict[str, Any]:
    """One frame: its index and time, the picture's size, and of each text the score, the peak and the boxes; positions in its pixels."""
    found = result.to_dict(threshold)
    return {"index": index, "time": time, **{name: found[name] for name in FIELDS}}


class Records:
    """Lines of JSON; a context manager.

    A file lies under a partial name until it is complete, as a `VideoWriter`'s does, and stays there after an error; every line in it is
    whole. Raises VideoError where the file cannot be made.

    path    None for standard output
    """

    def __init__(self, path: Path | None, force: bool = False) -> None:
        self._file = None if path is None else PartialFile(path, force)
        self.lines = 0

    def write(self, found: dict[str, Any]) -> None:
        """Add one line. Raises VideoError where it cannot be written, BrokenPipeError where the reader is gone."""
        line = json.dumps(found)
        if self._file is None:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        else:
            self._file.write((line + "\n").encode())
            if self._file.failed:
                raise VideoError(f"{self._file.path}: cannot be written ({reason(self._file.failed)}); {self._left()}")
        self.lines += 1

    def _left(self) -> str:
        assert self._file is not None
        return f"{self.lines} lines are in {self._file.part}"

    def __enter__(self) -> Records:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is None:
            return
        if not self.lines:
            self._file.discard()
        elif kind is None:
            self._file.finish()
        else:
            with suppress(OSError):
                self._file.close()
            if not self._file.failed:
                warn(f"{self._file.part}: {self.lines} lines of JSON were written until then", stacklevel=2)
