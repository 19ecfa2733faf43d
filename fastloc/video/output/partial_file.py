"""A file under a name that marks it as unfinished, moved to its own name when it is complete."""

from __future__ import annotations

import errno
import io
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from fastloc.errors import VideoError
from fastloc.utils.atomic_write import create, destination, is_stream
from fastloc.utils.system import files

__all__ = ["PartialFile", "check", "reason"]

# bytes of the random part of a name
RANDOM = 4
# seconds that a pipe's reader may come later than its writer
PATIENCE = 10.0


def check(path: Path, force: bool = False) -> None:
    """Check, before any work is done, that `path` can be written. Raises VideoError where it cannot.

    Without `force` no file is written over; a pipe or a device always is.
    """
    try:
        if not path.parent.is_dir():
            raise VideoError(f"{path}: the folder {path.parent} does not exist")
        if path.is_dir():
            raise VideoError(f"{path}: must be a file, got a folder")
        if is_stream(path):
            return
        if path.exists() and not force:
            raise VideoError(f"{path}: exists already; --force writes over it")
        target = destination(path)
        if not target.parent.is_dir():
            raise VideoError(f"{path}: is a link into the folder {target.parent}, which does not exist")
    except OSError as error:
        raise VideoError(f"{path}: cannot be written ({reason(error)})") from error


def reason(error: OSError) -> str:
    """The error's reason, without the file's name."""
    return error.strerror or str(error)


def _open_stream(path: Path) -> int:
    """A descriptor of a pipe or a device. Raises OSError, also for a pipe without a reader."""
    # what stands behind a name such as /dev/stdout may be a file with something in it
    flags, end = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0), time.monotonic() + PATIENCE
    while True:
        try:
            descriptor = files.open_descriptor(path, flags)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > end:
                raise OSError(errno.ENXIO, f"is a pipe that nobody reads; nobody began to within {PATIENCE:g} s") from None
            time.sleep(0.05)
        else:
            if flags & getattr(os, "O_NONBLOCK", 0):
                os.set_blocking(descriptor, True)
            return descriptor


def _part_of(target: Path) -> Path:
    """Path of the file until it is complete: `clip.partial-0a1b2c3d.mp4` for `clip.mp4`."""
    return target.with_name(f"{target.stem}.partial-{secrets.token_hex(RANDOM)}{target.suffix}")


class PartialFile(io.RawIOBase):
    """The file, open for writing. A disk that is full does not raise here: nothing more is written, and `failed` holds the reason.

    The writer may be a library's buffer in the middle of its work, where an exception would be lost or raised too late, and
    where a later write, a header over the beginning for instance, would spoil what is there.
    """

    def __init__(self, path: Path, force: bool = False) -> None:
        """Makes the file under its partial name, which cannot be guessed, beside where the links of `path` end. A pipe or a device
        (`stream`) is opened itself, and has no other name. Raises VideoError where it cannot be made; see `check`.
        """
        super().__init__()
        check(path, force)
        self.path, self.force = path, force
        self.failed: OSError | None = None
        # seeks of a file that is written no more still have to make sense
        self._at = 0
        try:
            self.stream = is_stream(path)
            self._target = path if self.stream else destination(path)
            self.part = path if self.stream else _part_of(self._target)
            descriptor = _open_stream(path) if self.stream else create(self.part, like=self._target)
            self._file = files.File(descriptor, "w" if self.stream else "w+")
        except OSError as error:
            raise VideoError(f"{path}: cannot be written ({reason(error)})") from error

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return not self.stream

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write all of the data, or as much as there is room for."""
        left = memoryview(data)
        while left and self.failed is None:
            try:
                left = left[self._file.write(left) or 0 :]
            except OSError as error:
                self.failed = error
        self._at += len(data)
        return len(data)

    def replace(self, content: bytes) -> None:
        """Put this in place of all that was written; what comes next comes behind it."""
        self.seek(0)
        self.write(content)
        try:
            if self.failed is None:
                self._file.truncate(len(content))
        except OSError as error:
            self.failed = error

    def cut(self, work: Callable[[io.FileIO], None]) -> None:
        """Let `work` change what was written, at the end."""
        # what cannot be cut stays as it is
        if not self.stream:
            with suppress(OSError):
                work(self._file)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = self._file.seek(offset, whence) if self.failed is None else offset
        return self._at

    def tell(self) -> int:
        return self._at

    def check(self) -> None:
        """Raises VideoError if something could not be written."""
        if self.failed is not None:
            raise VideoError(f"{self.path}: cannot be written ({reason(self.failed)})") from self.failed

    def close(self) -> None:
        """Leave the file under its partial name. Raises OSError where the system says only now that it could not write."""
        try:
            if not self.closed:
                self._file.close()
        finally:
            super().close()

    def discard(self) -> None:
        """Leave nothing."""
        with suppress(OSError):
            self.close()
        # what is raised is why there is nothing to keep, not that it cannot be removed
        if not self.stream:
            with suppress(OSError):
                files.remove(self.part)

    def finish(self) -> Path:
        """Move the file to its own name. Raises VideoError where that cannot be done; it then stays under the partial one."""
        kept = "" if self.stream else f"; what was written here is in {self.part}"
        try:
            try:
                # no name for what a loss of power could still take away
                if not self.stream:
                    files.sync_descriptor(self._file.fileno())
            finally:
                self.close()
            if self.stream:
                return self.path
            if self.path.exists() and not self.force:
                raise VideoError(f"{self.path}: was made by somebody else meanwhile{kept}")
            files.rename(self.part, self._target)
            return self.path
        except OSError as error:
            raise VideoError(f"{self.path}: cannot be written ({reason(error)}){kept}") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
