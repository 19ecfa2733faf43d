"""Files that are written whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from fastloc.errors import FastlocError

__all__ = ["picture_format", "write_whole"]


def picture_format(path: Path) -> str:
    """Pillow's name of the format that the extension stands for. Raises FastlocError for one that Pillow cannot write."""
    # the usual formats first: importing the drivers of all that Pillow knows takes longer than writing a picture
    Image.preinit()
    kind = Image.EXTENSION.get(path.suffix.lower()) or Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        extension = path.suffix or "no extension"
        raise FastlocError(f"{path}: no picture format is written as {extension!r}; use .png, .jpg, .webp or another that Pillow writes")
    return kind


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Writes beside the target and moves into place, so that a reader never finds half a file. Raises FastlocError where it cannot."""
    if not path.parent.is_dir():
        raise FastlocError(f"{path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise FastlocError(f"{path}: is a folder")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            write(file)
        part.replace(path)
    except OSError as error:
        raise FastlocError(f"{path}: cannot be written ({error})") from error
    finally:
        part.unlink(missing_ok=True)
    return path
