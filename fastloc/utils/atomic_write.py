"""Atomic file writes: a file, or a folder, has its name once it is whole, and nothing is left behind otherwise."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from fastloc.errors import FastlocError

__all__ = ["part_of", "picture_format", "replacing", "replacing_files", "replacing_folder", "write_whole"]


def picture_format(path: Path) -> str:
    """Pillow's name of the format that the extension stands for. Raises FastlocError for one that Pillow cannot write."""
    # the usual formats first: importing the drivers of all that Pillow knows takes longer than writing a picture
    Image.preinit()
    kind = Image.EXTENSION.get(path.suffix.lower()) or Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        extension = path.suffix or "no extension"
        raise FastlocError(f"{path}: no picture format is written as {extension!r}; use .png, .jpg, .webp or another that Pillow writes")
    return kind


def part_of(path: Path) -> Path:
    """A name beside `path` that nobody else has, for what is not whole yet; on the same file system, so that it can be renamed."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside the target to write a file to; it takes the target's place when the block ends well. Raises OSError."""
    part = part_of(path)
    try:
        yield part
        part.replace(path)
    finally:
        # a write that failed is what is raised, not that its remains cannot be removed
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def replacing_files(path: Path) -> Iterator[Path]:
    """Yield a folder beside the target to write `path.name` and files of its own to; they go beside the target when the block ends well.

    The target goes last, so that a file that bears its name has all that belongs to it. Raises OSError.
    """
    folder = part_of(path)
    folder.mkdir()
    try:
        yield folder
        for file in sorted(folder.iterdir(), key=lambda each: each.name == path.name):
            file.replace(path.with_name(file.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside the target, which takes the target's place when the block ends well. Raises OSError."""
    folder = part_of(path)
    try:
        folder.mkdir(parents=True)
        yield folder
        # a folder cannot be renamed over one that is not empty
        if path.exists():
            shutil.rmtree(path)
        folder.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file by `write`, which gets it open. Returns the path. Raises FastlocError where the file cannot be written."""
    if not path.parent.is_dir():
        raise FastlocError(f"{path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise FastlocError(f"{path}: is a folder")
    try:
        with replacing(path) as part, part.open("xb") as file:
            write(file)
    except OSError as error:
        raise FastlocError(f"{path}: cannot be written ({error})") from error
    return path
