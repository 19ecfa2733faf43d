"""Unfinished files: their names, the lock that says that somebody is at work on one, and the removal of what a killed process left.

An unfinished file or folder lies beside its target as `.NAME.0123456789abcdef.part`. Its writer holds a lock on it (flock), which the
system releases when the process ends, for any reason; the next write of the same target removes those that nobody holds.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fastloc.utils.system import files

__all__ = ["OLD", "abandoned", "clean", "held", "move_all", "part_of", "remove"]

# the folder within an unfinished one that keeps the files that are being replaced
OLD = "old"
_PART = re.compile(r"\.(.+)\.[0-9a-f]{16}\.part", re.DOTALL)
# tries to make an unfinished file, which another process may take for a killed one's in the moment before it is locked
TRIES = 5


def part_of(path: Path) -> Path:
    """A unique name beside `path` for an unfinished file; on the same file system, so that it can be renamed."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")


def held(part: Path, make: Callable[[], int | None]) -> int | None:
    """Make an unfinished file or folder, and lock it.

    Args:
        make: makes it, and returns a descriptor of it, or None for a folder.

    Returns: the descriptor, which the caller closes; None where the system has no such locks. Raises OSError.
    """
    for _ in range(TRIES):
        descriptor = make()
        if os.name != "posix":
            # Windows renames nothing that is open
            if descriptor is not None:
                os.close(descriptor)
            return None
        if descriptor is None:
            descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        if _locked(descriptor) is not False and _is(descriptor, part):
            return descriptor
        os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, "was removed by another process while it was made", str(part))


def clean(path: Path) -> None:
    """Remove what killed writes of this target left, and put back the files that one was just replacing. Raises nothing for what cannot be
    removed."""
    with suppress(OSError):
        for part in abandoned(path):
            remove(part, path)


def abandoned(path: Path) -> list[Path]:
    """The unfinished files of this target that belong to this user and that no process works on. Raises OSError."""
    with os.scandir(path.parent) as entries:
        found = [path.with_name(each.name) for each in entries if (match := _PART.fullmatch(each.name)) and match[1] == path.name]
    return [part for part in found if _abandoned(part)]


def move_all(moves: Sequence[tuple[Path, Path]], aside: Path) -> None:
    """Move files to their names; where one of them cannot be moved, all are as they were.

    Args:
        moves: (file, name). The last one's name is the one by which the others are found: it has no file while they are moved, so that it
            never stands beside files that are not its own.
        aside: a folder that is made for the files that have the names now.

    Raises OSError.
    """
    # each is noted before it is done: no memory may be left to do so afterwards
    undo: list[tuple[Path, Path]] = []
    try:
        files.make_folder(aside, 0o700)
        for _, name in reversed(moves):
            if os.path.lexists(name):
                undo.append((aside / name.name, name))
                files.rename(name, undo[-1][0])
        for file, name in moves:
            undo.append((name, file))
            files.rename(file, name)
    except BaseException:
        for now, before in reversed(undo):
            with suppress(OSError):
                files.rename(now, before)
        raise


def _locked(descriptor: int) -> bool | None:
    """True once the lock is held, False where somebody else holds it, None where the file system has none."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is(descriptor: int, path: Path) -> bool:
    """True if the open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _abandoned(part: Path) -> bool:
    """True for a file or folder of this user's that no process works on."""
    if os.name != "posix":
        return False
    try:
        descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.fstat(descriptor).st_uid == os.geteuid() and _locked(descriptor) is True
    finally:
        os.close(descriptor)


def remove(part: Path, target: Path) -> None:
    """Remove an unfinished file or folder of this target, if it is there. Raises OSError.

    Files that were being replaced go back first, where their places are free; where they cannot go back, the folder stays.
    """
    if not part.is_dir():
        files.remove(part)
        return
    old = part / OLD
    if old.is_dir() and not os.path.lexists(target):
        # the target's own file last, as it was the first to be moved aside
        for file in sorted(old.iterdir(), key=lambda each: each.name == target.name):
            files.rename(file, target.with_name(file.name))
    files.remove_tree(part)
