"""A batch's rows as one of the formats, with counts and warnings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fastloc.errors import FastlocError, warn
from fastloc.scale.labels import coco, fiftyone, label_studio, yolo
from fastloc.scale.labels.source import Filter, Picture, Rows
from fastloc.utils.atomic_write import is_stream
from fastloc.utils.schema import number, one_of

__all__ = ["FORMATS", "Written", "convert"]

# name -> what writes it; the generator ends once the output has its name
FORMATS: dict[str, Callable[[Rows, Path, str], Iterator[Picture]]] = {
    "coco": coco.write,
    "yolo": yolo.write,
    "label-studio": label_studio.write,
    "fiftyone": fiftyone.write,
}


@dataclass(frozen=True)
class Written:
    """Counts of what was written."""

    pictures: int
    objects: int
    texts: int


def convert(folder: Path, to: str, path: Path, *, images: str = "", score: float | None = None, heat: float | None = None) -> Written:
    """Write the labels of a batch, whole or not at all.

    Args:
        folder: what `fastloc batch -o` was given.
        to: a row of FORMATS.
        path: the file (coco) or folder (the others) to write, which must not be there yet.
        images: where the pictures lie: goes before each key. See the formats.
        score: the least calibrated score of a text, within [0, 1].
        heat: the least heat of an object.

    Raises:
        FastlocError: an argument out of range, an output that is there, no rows, damaged ones, or others than this fastloc reads; rows
            without scores, where `score` is given; an output that cannot be written.
    """
    one_of("format", to, FORMATS)
    for name, value, least, most in (("score", score, 0, 1), ("heat", heat, -math.inf, math.inf)):
        if value is not None:
            number(name, value, least, most)
    if not _free(path, to == "coco"):
        raise FastlocError(f"output must be a name that is free, got {path}; give another, or remove what is there")
    if not path.absolute().parent.is_dir():
        raise FastlocError(f"{path}: the folder {path.parent} does not exist")
    rows = Rows(folder, Filter(score, heat))
    pictures = objects = boxes = 0
    try:
        for picture in FORMATS[to](rows, path, images):
            pictures += 1
            objects += len(picture.objects)
            boxes += sum(each.mask is None for each in picture.objects)
    except OSError as error:
        raise FastlocError(f"{path}: cannot be written ({error.strerror or error})") from error
    if to == "yolo" and boxes:
        warn(f"{boxes} objects have no mask: their polygons are the boxes' rectangles", stacklevel=2)
    return Written(pictures, objects, len(rows.texts))


def _free(path: Path, stream: bool) -> bool:
    """True for a name that nothing has, and for a pipe or a device where a stream will do."""
    try:
        return not path.exists() or (stream and is_stream(path))
    except OSError:
        return False
