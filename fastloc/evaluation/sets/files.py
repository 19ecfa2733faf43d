"""Files of data sets: pictures, index masks, lists of names, and a line for each that is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError, ImageError
from fastloc.evaluation.samples import SampleError
from fastloc.imaging import images, picture_files, picture_formats
from fastloc.utils import schema
from fastloc.utils.system.exhaustion import pass_on

__all__ = [
    "MASKS", "Colour", "Listed", "Missing", "checked", "existing", "index_mask", "missing_pictures", "picture", "relative_files", "require",
    "text_lines", "within", "yes_or_no",
]  # fmt: skip

Colour = tuple[int, int, int]

# lossless formats in which masks are found, the usual one first
MASKS = (".png", ".tif", ".tiff", ".bmp")
# modes of Pillow with one number a pixel
_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
# bytes of a list of names or paths
_LIST_BYTES = 64 << 20


class Missing(FastlocError):
    """Parts of a layout that are not there, a line for each; the message is the first line and their number."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines[0] + (f" (the first of {len(lines)} lines of `fastloc evaluate check`)" if len(lines) > 1 else ""))
        self.lines = lines


class Listed(Protocol):
    """A set that can report the listed files that are missing."""

    def missing(self) -> list[str]:
        """One line for each kind of file."""


def picture(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """A picture, RGB, as the evaluations of papers read it: turned upright by its EXIF orientation, as mmsegmentation has OpenCV turn it
    (CLIPer's Pillow does not), and its colour profile left out, as both do. size: the (width, height) that its annotations are for.

    Raises SampleError: it cannot be read, or has another size.
    """
    try:
        found = images.load(path, profile=False)
    except ImageError as error:
        raise SampleError(str(error)) from error
    if size is not None and found.size != size:
        raise SampleError(f"{path} must be {size[1]} x {size[0]} as its annotations say, got {found.height} x {found.width}")
    return found


def index_mask(path: Path, size: tuple[int, int], colours: Mapping[Colour, int] | None = None) -> NDArray[np.int32]:
    """The numbers of an index mask, int32 [H, W]: palette indices, grey values of 8 or 16 bits.

    Args:
        size: the picture's (width, height).
        colours: colour -> the number it stands for; a palette that has another number for it was renumbered.

    Raises SampleError: it cannot be read, has colours or lossy pixels, a renumbered palette, or another size than the picture.
    """
    try:
        with picture_files.opened(path) as (content, _):
            return _numbers(content, path, size, colours or {})
    except SampleError:
        raise
    except ImageError as error:
        raise SampleError(f"mask {error}") from error


def _numbers(content: BinaryIO, path: Path, size: tuple[int, int], colours: Mapping[Colour, int]) -> NDArray[np.int32]:
    try:
        with picture_formats.identified(content, str(path)) as opened:
            # before a pixel is decoded
            if opened.size != size:
                raise SampleError(
                    f"mask {path} must be {size[1]} x {size[0]} as its picture is, got {opened.height} x {opened.width}; export it again"
                )
            if opened.mode not in _MODES:
                raise SampleError(
                    f"mask {path} must hold one number a pixel (a palette or grey levels), got {opened.mode}; save indices, not colours"
                )
            if opened.format in ("JPEG", "MPO"):
                raise SampleError(f"mask {path} must be lossless, got JPEG, which changes numbers; save it as PNG")
            if colours and opened.mode == "P":
                _check_palette(path, opened, colours)
            return np.asarray(opened).astype(np.int32)
    except FastlocError:
        raise
    # decoders raise whatever they like on a corrupt file
    except Exception as error:
        pass_on(error)
        raise SampleError(f"mask {path} cannot be read: {schema.first_line(error)}") from error


def _check_palette(path: Path, opened: Image.Image, colours: Mapping[Colour, int]) -> None:
    """Raise SampleError for a number that occurs and has the colour of another."""
    palette = opened.getpalette("RGB") or []
    for number in (number for number, count in enumerate(opened.histogram()) if count):
        red, green, blue = palette[3 * number : 3 * number + 3] or (0, 0, 0)
        if colours.get((red, green, blue), number) != number:
            raise SampleError(
                f"mask {path} must have {colours[red, green, blue]} for the colour ({red}, {green}, {blue}), got {number}: its palette was "
                "renumbered; take the set's own mask"
            )


def text_lines(path: Path) -> list[str]:
    """The lines of a list in UTF-8, stripped; empty ones at its end are left out. Raises FastlocError."""
    content = schema.read_file(path, str(path), _LIST_BYTES, FastlocError)
    try:
        lines = [line.strip() for line in content.decode("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise FastlocError(f"{path} must be UTF-8, got byte {error.object[error.start]:#04x} at {error.start}; save it as UTF-8") from error
    while lines and not lines[-1]:
        lines.pop()
    return lines


def relative_files(folder: Path, extensions: Iterable[str]) -> list[str]:
    """Sorted relative paths, with slashes, of a folder's files with one of the extensions, folders in it too. Raises FastlocError."""
    known, found = frozenset(extensions), []
    try:
        for place, folders, files in os.walk(folder, onerror=_raise):
            folders[:] = [each for each in folders if not each.startswith(".")]
            kept = [each for each in files if os.path.splitext(each)[1].lower() in known and not each.startswith(".")]
            found += [(Path(place) / each).relative_to(folder).as_posix() for each in kept]
    except OSError as error:
        raise FastlocError(f"{folder} cannot be listed: {error.strerror or error}") from error
    return sorted(found)


def within(folder: Path, name: str) -> Path:
    """The file of that name in a folder. Raises SampleError for a name that leads out of it."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise SampleError(f"file name must lie in {folder}, got {schema.shown(name)}")
    return folder / path


def require(*needed: tuple[Path, str]) -> None:
    """Raise Missing unless each (path, its content) is there."""
    lines = [f"{path} is missing: {content}" for path, content in needed if not _exists(path)]
    if lines:
        raise Missing(lines)


def checked(reader: Callable[..., Listed]) -> Callable[..., list[str]]:
    """The check of a set: parts that its reader lacks, or listed files that are missing, one line each."""

    def check(name: str, root: Path, **options: str) -> list[str]:
        try:
            return reader(name, root, **options).missing()
        except Missing as error:
            return error.lines
        except FastlocError as error:
            return [str(error)]

    return check


def existing(root: Path, candidates: Sequence[str]) -> Path:
    """The first of the candidates that exists in a folder; the first of all where none does."""
    return next((root / each for each in candidates if _exists(root / each)), root / candidates[0])


def missing_pictures(folder: Path, names: Sequence[str]) -> list[str]:
    """A line that counts the pictures of a list which are not in a folder and names the first; nothing where all are."""
    there = set(relative_files(folder, picture_formats.EXTENSIONS))
    gone = [name for name in names if Path(name).as_posix() not in there]
    return [f"{folder / gone[0]} is missing, as are {len(gone) - 1:,} more of {len(names):,} pictures"] if gone else []


def yes_or_no(option: str, value: str) -> bool:
    """The value of an option. Raises FastlocError."""
    if value not in ("yes", "no"):
        raise FastlocError(f"{option} must be yes or no, got {schema.shown(value)}")
    return value == "yes"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _raise(error: OSError) -> None:
    raise error
