"""Several pictures in one argument: a folder, a pattern, a list file, a batch, or any iterable of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastloc.errors import ImageError
from fastloc.imaging.picture_files import is_address
from fastloc.imaging.picture_formats import EXTENSIONS
from fastloc.utils.patterns import is_pattern, matching

__all__ = ["LIST", "is_many", "paths", "pictures"]

# a text file with one path or address a line
LIST = ".txt"
# bytes of a list file; a million long paths fit
_MAX_LIST = 256 << 20


def is_many(images: Any) -> bool:
    """True for a source of any number of pictures, even if it holds one: see `pictures`. False for a source that `images.load` takes."""
    if isinstance(images, (str, os.PathLike)):
        return _many_paths(os.fsdecode(images))
    if hasattr(images, "shape") and hasattr(images, "dtype"):
        return len(images.shape) == 4
    single = (bytes, bytearray, memoryview, Image.Image, Mapping)
    return isinstance(images, Iterable) and not isinstance(images, single) and not callable(getattr(images, "read", None))


def pictures(images: Any) -> Iterator[Any]:
    """Each picture of:

      a folder        its picture files, by name, not those of folders in it
      a pattern       "shots/*.jpg", "shots/**/*.png" (`**`: folders in folders too), by name
      a list file     .txt: a path or an address a line, relative to the file's folder; blank lines and lines that begin with # are left out
      a batch         array or tensor [B, H, W, C] or [B, C, H, W], C of 1, 3 or 4; where both could be, a tensor has its channels first
      an iterable     a list, a generator, a data loader: its items, as they come

    Raises ImageError for a folder or pattern without a picture, a list file that cannot be read, and a batch of another shape.
    """
    if isinstance(images, (str, os.PathLike)):
        yield from paths(os.fsdecode(images))
    elif hasattr(images, "shape") and hasattr(images, "dtype"):
        yield from _batch(images)
    else:
        yield from images


def paths(source: str) -> list[str]:
    """The pictures that an argument names: those of a folder, a pattern or a list file, see `pictures`; else the argument alone.

    Raises ImageError as `pictures` does.
    """
    if not _many_paths(source):
        return [source]
    if os.path.isdir(source):
        found = [os.path.join(source, name) for name in sorted(os.listdir(source)) if _is_picture(os.path.join(source, name))]
        return _some(found, f"{source}: must hold pictures ({' '.join(sorted(EXTENSIONS))}), got a folder with none; for those of folders "
                            f"in it give a pattern, '{os.path.join(source, '**', '*.jpg')}'")  # fmt: skip
    if source.endswith(LIST):
        return _listed(source)
    return _some(matching(source), f"{source}: no file matches this pattern")


def _many_paths(source: str) -> bool:
    if is_address(source):
        return False
    return os.path.isdir(source) or source.endswith(LIST) or is_pattern(source)


def _is_picture(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in EXTENSIONS and os.path.isfile(path)


def _some(found: list[str], without: str) -> list[str]:
    if not found:
        raise ImageError(without)
    return found


def _listed(source: str) -> list[str]:
    try:
        if (size := os.stat(source).st_size) > _MAX_LIST:
            raise ImageError(f"{source}: must hold at most {_MAX_LIST:,} bytes, got {size:,}; split the list")
        lines = Path(source).read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise ImageError(f"{source}: cannot be read ({error.strerror or error})") from None
    folder = os.path.dirname(source)
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    found = [each if is_address(each) else os.path.join(folder, each) for each in found]
    return _some(found, f"{source}: must name a picture a line, got none")


def _batch(batch: Any) -> Iterator[Any]:
    shape, channels = tuple(batch.shape), (1, 3, 4)
    if len(shape) != 4 or 0 in shape or not (shape[1] in channels or shape[3] in channels):
        raise ImageError(f"a batch must be [B, H, W, C] or [B, C, H, W] with 1, 3 or 4 channels, got {list(shape)}")
    # an array's channels are last, as `images.load` has it; a tensor's are first, and one picture of it is read so again
    first = isinstance(batch, np.ndarray) and shape[3] not in channels
    yield from (np.moveaxis(each, 0, -1) if first else each for each in batch)
