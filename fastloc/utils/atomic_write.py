"""Atomic file writes: a file or a folder gets its name once it is complete, and a write that fails leaves nothing behind.

An unfinished file lies beside the target under a random name, created exclusively, so that nobody can plant a link there; the next write of
the target removes what a killed process left there (`fastloc.utils.system.remains`). A target that is a link stays a link, and the file it
points at is replaced. A pipe or a character device is written into. With `sync` a file is on the disk before it gets its name: after a loss
of power the name stands for the old content or the new one, whatever the file system is.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from fastloc.errors import FastlocError
from fastloc.utils.system import files, remains
from fastloc.utils.system.remains import part_of

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
    "write_text",
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
    descriptor = files.open_descriptor(path, flags)
    if like is not None and hasattr(os, "fchmod"):
        with suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(like.stat().st_mode))
    return descriptor


def no_follow(path: str, flags: int) -> int:
    """An opener, for `files.opened(…, opener=no_follow)`, of a file whose name others may guess: where it is a link it raises OSError."""
    return files.open_descriptor(path, flags | getattr(os, "O_NOFOLLOW", 0))


@contextmanager
def replacing(path: Path, sync: bool = False) -> Iterator[Path]:
    """Yield a path to write a file to; it replaces the target when the block ends without an error. A pipe or device is yielded itself.

    sync: wait for the disk, for what a later run goes on from. Raises OSError.
    """
    if is_stream(path):
        yield path
        return
    target = destination(path)
    remains.clean(target)
    part = part_of(target)
    held: int | None = None
    try:
        # within, because an interruption may come as soon as it is there
        held = remains.held(part, lambda: create(part, like=target))
        yield part
        if sync:
            files.sync_file(part)
        files.rename(part, target)
        if sync:
            files.sync_folder(target.parent)
    finally:
        _remove(part, target)
        _release(held)


@contextmanager
def replacing_files(path: Path) -> Iterator[Path]:
    """Yield a folder for `path.name` and its companion files; they are moved beside the target when the block ends without an error.

    While companions are moved the target has no file, so that a file of its name always has its own companions; where one of them cannot be
    moved, all are as they were. Where the target is a link, all files go beside the file it points at, under their own names; a pipe or a
    device takes the file's bytes. Raises OSError.
    """
    stream = is_stream(path)
    target = path if stream else destination(path)
    if not stream:
        remains.clean(target)
    folder = part_of(target)
    held: int | None = None
    try:
        # nobody else may put a file in it; within, because an interruption may come as soon as it is there
        held = remains.held(folder, lambda: files.make_folder(folder, 0o700))
        yield folder
        made = sorted(folder.iterdir(), key=lambda each: each.name == path.name)
        if stream:
            files.copy(folder / path.name, path)
            made = made[:-1]
        moves = [(file, target if file.name == path.name else target.with_name(file.name)) for file in made]
        for file, _ in moves:
            files.sync_file(file)
        if len(moves) > 1:
            remains.move_all(moves, folder / remains.OLD)
        else:
            for file, name in moves:
                files.rename(file, name)
        files.sync_folder(target.parent)
    finally:
        _remove(folder, target)
        _release(held)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder, which replaces the target when the block ends without an error.

    Where the system cannot exchange two names at once (Linux can), a process that is killed between two renames leaves the old folder under
    the name of an unfinished one. The files are not waited for to be on the disk. Raises OSError.
    """
    target = destination(path)
    remains.clean(target)
    folder, old = part_of(target), part_of(target)
    held: int | None = None
    try:
        held = remains.held(folder, lambda: files.make_folder(folder, parents=True))
        yield folder
        # a folder cannot be renamed over one that is not empty; after an exchange it is the old one that has the name of the unfinished
        if not target.exists():
            files.rename(folder, target)
        elif not files.exchange(folder, target):
            _replace_in_two_steps(folder, target, old)
    finally:
        _remove(folder, target)
        _remove(old, target)
        _release(held)


def _replace_in_two_steps(folder: Path, target: Path, old: Path) -> None:
    """Move the target aside, where it is not lost if the second rename fails."""
    files.rename(target, old)
    try:
        files.rename(folder, target)
    except BaseException:
        with suppress(OSError):
            files.rename(old, target)
        raise


def _remove(part: Path, target: Path) -> None:
    """Remove an unfinished file or folder, if it exists; an interruption is raised only after the removal is complete."""
    # a write that failed is what is raised, not that its remains cannot be removed
    with suppress(OSError):
        try:
            remains.remove(part, target)
        except KeyboardInterrupt:
            remains.remove(part, target)
            raise
        except OSError:
            raise
        # memory that ran out, of which there is some again by now; the interpreter itself may call that a TypeError or a SystemError
        except Exception:
            remains.remove(part, target)


def _release(held: int | None) -> None:
    if held is not None:
        os.close(held)


def write_whole(path: Path, write: Callable[[BinaryIO], object], sync: bool = False) -> Path:
    """Write a file by `write`, which gets it open. sync: see `replacing`. Returns the path.

    Raises FastlocError where the file cannot be written.
    """
    if not path.parent.is_dir():
        raise FastlocError(f"{path}: the folder {path.parent} does not exist")
    try:
        if is_stream(path):
            # encoders seek, which pipes cannot
            whole = io.BytesIO()
            write(whole)
            files.write_bytes(path, whole.getbuffer())
        else:
            with replacing(path, sync) as part, files.opened(part, "r+b") as file:
                write(file)
    except IsADirectoryError:
        raise FastlocError(f"{path}: is a folder") from None
    except OSError as error:
        raise FastlocError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def write_text(path: Path, content: str) -> Path:
    """Write a file of this text, in UTF-8. Returns the path. Raises FastlocError where the file cannot be written."""
    return write_whole(path, lambda file: file.write(content.encode("utf-8")))
