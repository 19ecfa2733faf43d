"""A COCO file: pictures, annotations and categories of one JSON file, and the masks and boxes of an annotation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError
from fastloc.evaluation.samples import SampleError
from fastloc.utils import schema

__all__ = ["Annotation", "Box", "Category", "Entry", "box", "by_picture", "mask", "opened"]

Box = tuple[float, float, float, float]
# instances_train2017.json has 0.47 GB
_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture of the file. caption: the phrase of a file of MDETR's, which has an entry a phrase."""

    id: int
    file_name: str
    width: int
    height: int
    caption: str = ""


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """One object. bbox: (x, y, width, height) in pixels; segmentation: JSON, read when it is drawn."""

    image_id: int
    category_id: int = 0
    id: int = 0
    bbox: tuple[float, ...] = ()
    segmentation: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class Category:
    """A class."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class _File:
    images: list[Entry]
    annotations: list[Annotation]
    categories: list[Category] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Runs:
    size: tuple[int, int]
    counts: list[int] | str


_SEGMENTATION: Any = list[list[float]] | _Runs | None


def opened(path: Path) -> tuple[list[Entry], list[Annotation], list[Category]]:
    """The pictures, annotations and categories of a file, categories by their ids. Raises FastlocError."""
    content = schema.read_file(path, str(path), _BYTES, FastlocError)
    found = schema.decode(content, _File, f"{path} must be a COCO file", _BYTES, FastlocError)
    for what, ids in (("picture", [each.id for each in found.images]), ("category", [each.id for each in found.categories])):
        if len(set(ids)) < len(ids):
            raise FastlocError(f"{path} must give each {what} an id of its own, got one twice")
    for each in found.images:
        if not 0 < each.width <= 1 << 20 or not 0 < each.height <= 1 << 20:
            raise FastlocError(f"{path}: picture {each.id} must have a size, got {each.height} x {each.width}")
    return found.images, found.annotations, sorted(found.categories, key=lambda each: each.id)


def by_picture(path: Path, images: Sequence[Entry], annotations: Sequence[Annotation]) -> dict[int, list[Annotation]]:
    """The annotations of each picture's id, in their order. Raises FastlocError for one of a picture that is not in the file."""
    found: dict[int, list[Annotation]] = {each.id: [] for each in images}
    for each in annotations:
        if each.image_id not in found:
            raise FastlocError(f"{path}: annotation {each.id} must be of a picture in the file, got image_id {each.image_id}")
        found[each.image_id].append(each)
    return found


def box(bbox: Sequence[float], width: int, height: int, name: str) -> Box | None:
    """(x0, y0, x1, y1) in pixels of an annotation's (x, y, width, height), cut at the picture's edge; None where nothing is left.

    Raises SampleError: it is not four finite numbers.
    """
    if len(bbox) != 4 or not all(math.isfinite(value) for value in bbox):
        raise SampleError(f"{name} must have a bbox of four numbers, got {schema.shown(tuple(bbox))}")
    x, y, across, down = bbox
    x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + across, float(width)), min(y + down, float(height))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def mask(annotation: Annotation, width: int, height: int, name: str) -> NDArray[np.bool_]:
    """The pixels of an annotation, bool [height, width]: of polygons, or of run lengths as numbers or as text. Raises SampleError."""
    shape = schema.decode(bytes(annotation.segmentation), _SEGMENTATION, f"{name} must have a segmentation of polygons or run lengths",
                          error=SampleError)  # fmt: skip
    if isinstance(shape, _Runs):
        return _of_runs(shape, width, height, name)
    if not shape:
        raise SampleError(f"{name} must have a segmentation of polygons or run lengths, got none")
    return _of_polygons(shape, width, height, name)


def _of_polygons(polygons: list[list[float]], width: int, height: int, name: str) -> NDArray[np.bool_]:
    from pycocotools import mask as coco

    for points in polygons:
        # pycocotools takes four numbers for a box, and walks along every edge however far it leads
        if len(points) < 6 or len(points) % 2:
            raise SampleError(f"{name} must have polygons of three points or more, got {len(points)} numbers")
        away = (max(abs(x - width / 2) / width for x in points[::2]), max(abs(y - height / 2) / height for y in points[1::2]))
        if not max(away) <= 1.5:
            raise SampleError(f"{name} must have polygons in its picture of {height} x {width}, got one that leads far out of it")
    drawn = coco.merge(coco.frPyObjects(polygons, height, width))
    return np.asarray(coco.decode(drawn)).astype(np.bool_)


def _of_runs(runs: _Runs, width: int, height: int, name: str) -> NDArray[np.bool_]:
    if runs.size != (height, width):
        raise SampleError(f"{name} must have run lengths of its picture's {height} x {width}, got {runs.size[0]} x {runs.size[1]}")
    counts = _counts(runs.counts) if isinstance(runs.counts, str) else runs.counts
    # pycocotools' decoder leaves pixels as the memory was where run lengths end early
    if sum(counts) != width * height or min(counts, default=0) < 0:
        raise SampleError(f"{name} must have run lengths that fill its picture of {height} x {width}, got others")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def _counts(text: str) -> list[int]:
    """Run lengths of COCO's text: numbers of five bits a character, lowest first, from the third on less the one before the last."""
    counts: list[int] = []
    value, bits = 0, 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 31) << bits
        bits += 5
        if not 0 <= code < 64 or bits > 35:
            return []
        if not code & 32:
            value -= (code & 16) << (bits - 4)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, bits = 0, 0
    return [] if bits else counts
