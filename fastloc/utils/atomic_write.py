"""Atomic file writes: a file or a folder gets its name once it is complete, and a write that fails leaves nothing behind.

An unfinished file lies beside the target under a random name, created exclusively, so that nobody can plant a link there. A target that
is a link stays a link, and the file that it points at is replaced. A pipe or a character device is written into.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from fastloc.errors import FastlocError

__all__ = [
    "create",
    "destination",
    "is_stream",
    "no_follow",
    "part_of",
    "picture_format",
    "replacing",
    "replacing_files",
    "replacing_folder",
    "write_whole",
]


def picture_format(path: Path) -> str:
    """Pillow's name of the format that the extension stands for. Raises FastlocError for one that Pillow cannot write."""
    # the usual formats first: importing the drivers of all that Pillow knows takes longer than writing a picture
    Image.preinit()
    kind = Image.EXTENSION.get(path.suffix.lower()) or Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        extension = path.suffix or "no extension"
        raise FastlocError(f"{path}: the extension must be that of a picture format, such as .png, .jpg or .webp, got {extension!r}")
    return kind


# beside these, names that stand for an open file of this process
_STREAMS = ("/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")


def is_stream(path: Path) -> bool:
    """True for a pipe or a character device, such as /dev/stdout, which is written into; False for a file or a name that is free.

    Raises OSError for a target that cannot be written as a file: a folder, a socket or a block device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        kind = "socket" if stat.S_ISSOCK(mode) else "block device"
        raise OSError(errno.EINVAL, f"is a {kind}, which no output is written to", str(path))
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or os.path.abspath(path).startswith(_STREAMS)


def destination(path: Path) -> Path:
    """The file that a write to `path` changes: the target of its links, or `path` itself.

    Raises OSError for links in a circle, and for a link that somebody else put into a folder that everybody may write to, such as /tmp: the
    file it points at is not theirs to choose (Linux refuses to open it, too: fs.protected_symlinks).
    """
    seen = 0
    while path.is_symlink():
        seen += 1
        link, folder = path.lstat(), path.parent.stat()
        if seen > 40:
            raise OSError(errno.ELOOP, "links in a circle", str(path))
        shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if shared and hasattr(os, "geteuid") and link.st_uid not in (os.geteuid(), folder.st_uid):
            raise PermissionError(errno.EACCES, "is somebody else's link in a folder that everybody may write to", str(path))
        path = path.parent / path.readlink()
    return path


def create(path: Path, like: Path | None = None) -> int:
    """Create a file that must not exist yet, following no link, with the permissions of `like` where that exists. Returns its descriptor,
    open for reading and writing. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o666)
    if like is not None and hasattr(os, "fchmod"):
        with suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(like.stat().st_mode))
    return descriptor


def no_follow(path: str, flags: int) -> int:
    """An opener, for `open(…, opener=no_follow)`, of a file whose name others may guess: where it is a link it raises OSError."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def part_of(path: Path) -> Path:
    """A unique name beside `path` for an unfinished file; on the same file system, so that it can be renamed."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write a file to; it replaces the target when the block ends without an error. A pipe or device is yielded itself.

    Raises OSError.
    """
    if is_stream(path):
        yield path
        return
    target = destination(path)
    part = part_of(target)
    try:
        # within, because an interruption may come as soon as it is there
        os.close(create(part, like=target))
        yield part
        part.replace(target)
    finally:
        # a write that failed is what is raised, not that its remains cannot be removed
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def replacing_files(path: Path) -> Iterator[Path]:
    """Yield a folder for `path.name` and its companion files; they are moved beside the target when the block ends without an error.

    The target is moved last, so that a file of its name always has its companions. Where the target is a link, all files go beside the
    file it points at, under their own names; a pipe or a device takes the file's bytes. Raises OSError.
    """
    stream = is_stream(path)
    target = path if stream else destination(path)
    folder = part_of(target)
    try:
        # nobody else may put a file in it; within, because an interruption may come as soon as it is there
        folder.mkdir(mode=0o700)
        yield folder
        for file in sorted(folder.iterdir(), key=lambda each: each.name == path.name):
            if file.name != path.name:
                file.replace(target.with_name(file.name))
            elif stream:
                with file.open("rb") as whole, path.open("wb") as out:
                    shutil.copyfileobj(whole, out)
            else:
                file.replace(target)
    finally:
        _remove(folder)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder, which replaces the target when the block ends without an error. Raises OSError."""
    target = destination(path)
    folder, old = part_of(target), part_of(target)
    try:
        folder.mkdir(parents=True)
        yield folder
        # a folder cannot be renamed over one that is not empty; moved aside it is not lost where the second rename fails
        if target.exists():
            target.replace(old)
        try:
            folder.replace(target)
        except OSError:
            if old.exists():
                old.replace(target)
            raise
    finally:
        _remove(folder)
        _remove(old)


def _remove(folder: Path) -> None:
    """Remove a folder, if it exists; an interruption is raised only after the removal is complete."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file by `write`, which gets it open. Returns the path. Raises FastlocError where the file cannot be written."""
    if not path.parent.is_dir():
        raise FastlocError(f"{path}: the folder {path.parent} does not exist")
    try:
        if is_stream(path):
            # encoders seek, which pipes cannot
            whole = io.BytesIO()
            write(whole)
            with path.open("wb") as file:
                file.write(whole.getbuffer())
        else:
            with replacing(path) as part, part.open("r+b") as file:
                write(file)
    except IsADirectoryError:
        raise FastlocError(f"{path}: is a folder") from None
    except OSError as error:
        raise FastlocError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path
