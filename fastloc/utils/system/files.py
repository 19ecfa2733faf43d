"""The calls that change files, each in one place: everything that fastloc writes goes through this module.

    from fastloc.utils.system import files

    files.rename(part, target)

Callers look a call up here each time, so that tests can make the nth of them fail, or end the process at it: `OPERATIONS` names them. The
files that `opened` gives have no `fileno`, so that a library cannot write past this module; `sync` takes them. Libraries that take nothing
but a path write into unfinished files alone (`fastloc.utils.atomic_write`). All of them raise OSError.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "OPERATIONS", "File", "copy", "exchange", "link", "make_folder", "open_descriptor", "opened", "opened_text", "remove", "remove_tree",
    "rename", "reserve", "reserve_all", "sync", "sync_descriptor", "sync_file", "sync_folder", "truncate", "write", "write_bytes",
    "write_text",
]  # fmt: skip

# what the system may refuse
OPERATIONS = (
    "open_descriptor", "write", "sync_descriptor", "truncate", "reserve", "rename", "exchange", "remove", "remove_tree", "make_folder",
    "link",
)  # fmt: skip
# of renameat2(2): the current folder, and the flag for an exchange
_HERE, _EXCHANGE = -100, 2


def open_descriptor(path: str | os.PathLike[str], flags: int, mode: int = 0o666) -> int:
    """Open a file for writing. Returns its descriptor."""
    return os.open(path, flags, mode)


def write(descriptor: int, data: ReadableBuffer) -> int:
    """Write bytes, or as many as the system takes at once. Returns their number."""
    return os.write(descriptor, data)


def sync_descriptor(descriptor: int) -> None:
    """Wait until a file's content is on the disk."""
    os.fsync(descriptor)


def truncate(descriptor: int, size: int) -> None:
    """Cut a file, or fill it with zeros, to `size` bytes."""
    os.ftruncate(descriptor, size)


def reserve(descriptor: int, size: int) -> None:
    """Give a file's first `size` bytes their room on the disk now: a mapped file that finds none later ends the process with SIGBUS."""
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(descriptor, 0, size)


def rename(old: Path, new: Path) -> None:
    """Give a file or a folder another name on its file system, in the place of a file that has it."""
    os.replace(old, new)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once. Returns False where the system or the file system cannot; then nothing has changed."""
    call = _renameat2()
    if call is None:
        return False
    number = call(os.fsencode(one), os.fsencode(other))
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    if number:
        raise OSError(number, os.strerror(number), str(one))
    return True


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, as far as that can be done. Raises nothing but interruptions."""
    shutil.rmtree(path, ignore_errors=True)


def make_folder(path: Path, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
    """Make a folder. parents: those above it too; exist_ok: unless it is there."""
    path.mkdir(mode, parents=parents, exist_ok=exist_ok)


def link(target: Path, name: Path) -> None:
    """Make a symbolic link of this name."""
    name.symlink_to(target)


class File(io.FileIO):
    """A file without a buffer, whose calls are those above. The arguments are io.FileIO's; `file` may be a descriptor."""

    def __init__(self, file: str | os.PathLike[str] | int, mode: str = "r", opener: Callable[[str, int], int] | None = None) -> None:
        super().__init__(cast(Any, file), mode, opener=opener or _opened)

    def write(self, data: ReadableBuffer) -> int:
        return write(self.fileno(), data)

    def truncate(self, size: int | None = None) -> int:
        wanted = self.tell() if size is None else size
        truncate(self.fileno(), wanted)
        return wanted


class _Writer(io.BufferedWriter):
    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


class _Updater(io.BufferedRandom):
    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def opened(path: str | os.PathLike[str], mode: str = "wb", opener: Callable[[str, int], int] | None = None) -> BinaryIO:
    """Open a file of bytes for writing, buffered. mode: "wb", "xb", "ab", or "r+b", "w+b", "x+b" to read as well."""
    file = File(path, mode.replace("b", ""), opener)
    return _Updater(file) if "+" in mode else _Writer(file)


def opened_text(path: str | os.PathLike[str], mode: str = "w", newline: str | None = None) -> TextIO:
    """Open a file of UTF-8 for writing. mode: "w" or "x"."""
    return io.TextIOWrapper(opened(path, f"{mode}b"), encoding="utf-8", newline=newline)


def write_bytes(path: Path, content: ReadableBuffer) -> None:
    """Write a file of these bytes."""
    with opened(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write a file of this text, in UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes."""
    with source.open("rb") as whole, opened(target) as out:
        shutil.copyfileobj(whole, out)


def sync(file: IO[Any]) -> None:
    """Bring what was written to a file that `opened` gave to the disk."""
    file.flush()
    sync_descriptor(cast(Any, file).raw.fileno())


def reserve_all(file: IO[Any], size: int) -> None:
    """Make a file that `opened` gave `size` bytes long, with their room on the disk; see `reserve`."""
    file.truncate(size)
    reserve(cast(Any, file).raw.fileno(), size)


def sync_file(path: Path) -> None:
    """Bring a file's content to the disk, whoever wrote it. Does nothing on Windows, where that takes the writer's own descriptor."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Bring a folder's new names to the disk, where the system can."""
    with suppress(OSError):
        sync_file(path)


def _opened(path: str, flags: int) -> int:
    return open_descriptor(path, flags)


@cache
def _renameat2() -> Callable[[bytes, bytes], int] | None:
    """The exchange of Linux, which returns an error's number or 0; None elsewhere, and with a C library that has none."""
    if sys.platform != "linux":
        return None
    # nothing but the replacement of a folder needs it
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return None

    def exchanged(one: bytes, other: bytes) -> int:
        return 0 if call(_HERE, one, _HERE, other, _EXCHANGE) == 0 else ctypes.get_errno()

    return exchanged
