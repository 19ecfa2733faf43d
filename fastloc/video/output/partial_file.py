"""A file under a name that says it is not finished, moved to its own name when it is."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import TracebackType

from fastloc.errors import VideoError

__all__ = ["PartialFile", "check", "partial_name", "reason"]


def partial_name(path: Path) -> Path:
    """Where the file lies until it is complete: `clip.partial.mp4` for `clip.mp4`."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def check(path: Path, force: bool = False) -> None:
    """Raises VideoError where `path` could not be written in the end: before any work is done for it.

    Without `force` neither the file nor what an interrupted run left of it is written over.
    """
    try:
        if not path.parent.is_dir():
            raise VideoError(f"{path}: the folder {path.parent} does not exist")
        if path.is_dir():
            raise VideoError(f"{path}: is a folder; the name of a file is wanted")
        if path.exists() and not force:
            raise VideoError(f"{path}: exists already; --force writes over it")
        left = partial_name(path)
        if left.exists() and left.stat().st_size and not force:
            raise VideoError(f"{left}: is left from a run that was interrupted; move it away, or write over it with --force")
    except OSError as error:
        raise VideoError(f"{path}: cannot be written ({reason(error)})") from error


def reason(error: OSError) -> str:
    """Why, without the file's name."""
    return error.strerror or str(error)


class PartialFile(io.RawIOBase):
    """The file, open for writing. A disk that is full does not raise here: nothing more is written, and `failed` says why.

    What writes through it may be a library's buffer in the middle of its work, where an exception would be lost or told too late, and
    where a later write, a header over the beginning for instance, would spoil what is there.
    """

    def __init__(self, path: Path, force: bool = False) -> None:
        """Makes the file under its partial name. Raises VideoError where it cannot be made; see `check`."""
        super().__init__()
        check(path, force)
        self.path, self.part, self.force = path, partial_name(path), force
        self.failed: OSError | None = None
        # seeks of a file that is written no more still have to make sense
        self._at = 0
        try:
            self._file = io.FileIO(self.part, "w+")
        except OSError as error:
            raise VideoError(f"{self.part}: cannot be written ({reason(error)})") from error

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """All of the data, or as much as there is room for."""
        left = memoryview(data)
        while left and self.failed is None:
            try:
                left = left[self._file.write(left) or 0 :]
            except OSError as error:
                self.failed = error
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = self._file.seek(offset, whence) if self.failed is None else offset
        return self._at

    def tell(self) -> int:
        return self._at

    def check(self) -> None:
        """Raises VideoError if something could not be written."""
        if self.failed is not None:
            raise VideoError(f"{self.part}: cannot be written ({reason(self.failed)})") from self.failed

    def close(self) -> None:
        """Leave the file under its partial name."""
        if not self.closed:
            self._file.close()
        super().close()

    def discard(self) -> None:
        """Leave nothing."""
        self.close()
        self.part.unlink(missing_ok=True)

    def finish(self) -> Path:
        """Move the file to its own name. Raises VideoError where that cannot be done; it then stays under the partial one."""
        self.close()
        if self.path.exists() and not self.force:
            raise VideoError(f"{self.path}: was made by somebody else meanwhile; what was written here is in {self.part}")
        try:
            return self.part.replace(self.path)
        except OSError as error:
            raise VideoError(f"{self.path}: cannot be written ({reason(error)}); what was written here is in {self.part}") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
