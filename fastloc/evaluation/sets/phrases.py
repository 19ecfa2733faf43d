"""Files of phrases and boxes, in the forms that RefCOCO, RefCOCO+ and RefCOCOg are published in, and your own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastloc.errors import FastlocError
from fastloc.evaluation.samples import SampleError
from fastloc.evaluation.sets import coco_file
from fastloc.evaluation.sets.coco_file import Box
from fastloc.utils import schema

__all__ = ["PICKLES", "Phrase", "read", "refuse_pickle"]

PICKLES = (".p", ".pkl", ".pickle")
_BYTES = 1 << 30
# first bytes of pickles of protocols 2 and later, and of lists of protocol 0
_PICKLED = (b"\x80", b"(l", b"(d")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase, its picture's file as the phrases name it, and (x0, y0, x1, y1) in pixels of its objects."""

    picture: str
    phrase: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class _Own:
    picture: str
    phrase: str
    box: Box


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of Qwen-VL's."""

    image: str
    sent: str
    bbox: Box


@dataclass(frozen=True, slots=True)
class _Sentence:
    sent: str


@dataclass(frozen=True, slots=True)
class _Ref:
    """An entry of refs(...).p."""

    image_id: int
    ann_id: int
    split: str
    sentences: list[_Sentence]


@dataclass(frozen=True, slots=True)
class _Either:
    """The field that distinguishes an entry of refs from one of your own."""

    ann_id: int | None = None


_OWN: Any = list[_Own]
_REFS: Any = list[_Ref]
_EITHER: Any = list[_Either]


def read(path: Path, instances: Path, split: str) -> Iterator[Phrase]:
    """The phrases of a file, in its order.

      .jsonl           Qwen-VL's: a line a phrase, with image, sent and bbox (x0, y0, x1, y1)
      a JSON object    MDETR's: a COCO file with an image a phrase, its caption
      a JSON list      refs(...).p saved as JSON, of which the split is read, with boxes and file names of the COCO file instances;
                       or your own: picture, phrase and box (x0, y0, x1, y1)

    Raises FastlocError: the file is of none of these forms, or a pickle.
    """
    content = schema.read_file(path, str(path), _BYTES, FastlocError)
    head = content[:64].lstrip()
    if path.suffix.lower() in PICKLES or head.startswith(_PICKLED):
        refuse_pickle(path)
    if path.suffix.lower() == ".jsonl":
        return _of_lines(content, path)
    if head.startswith(b"{"):
        return _of_captions(path)
    # both forms are lists, and the first field of refs is the second's to lack
    kinds = schema.decode(content, _EITHER, f"{path} must be a list of phrases", _BYTES, FastlocError)
    if any(each.ann_id is not None for each in kinds):
        return _of_refs(schema.decode(content, _REFS, f"{path} must be a list of refs", _BYTES, FastlocError), path, instances, split)
    return _of_own(schema.decode(content, _OWN, f"{path} must be a list of phrases", _BYTES, FastlocError), path)


def refuse_pickle(path: Path) -> None:
    """Raise FastlocError with the command that makes JSON of a pickle."""
    made = path.with_suffix(".json").name
    raise FastlocError(
        f"{path} must be JSON, got a pickle, which can run code when it is read; where you trust it, save it with python -c "
        f"\"import json, pickle; json.dump(pickle.load(open('{path.name}', 'rb'), encoding='latin1'), open('{made}', 'w'))\""
    )


def _of_own(entries: list[_Own], path: Path) -> Iterator[Phrase]:
    for number, each in enumerate(entries, 1):
        yield Phrase(each.picture, each.phrase, (_corners(each.box, f"{path}: entry {number}"),))


def _of_lines(content: bytes, path: Path) -> Iterator[Phrase]:
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            name = f"{path}: line {number}"
            each = schema.decode(line, _Line, f"{name} must have image, sent and bbox", error=FastlocError)
            yield Phrase(each.image, each.sent, (_corners(each.bbox, name),))


def _of_captions(path: Path) -> Iterator[Phrase]:
    images, annotations, _ = coco_file.opened(path)
    found = coco_file.by_picture(path, images, annotations)
    for each in images:
        boxes = tuple(_of_annotation(path, each, annotation) for annotation in found[each.id])
        if not each.caption or not boxes:
            raise FastlocError(f"{path}: picture {each.id} must have a caption and a box; COCO's own files are the set coco-boxes")
        yield Phrase(each.file_name, each.caption, boxes)


def _of_refs(refs: list[_Ref], path: Path, instances: Path, split: str) -> Iterator[Phrase]:
    splits = sorted({each.split for each in refs})
    if split not in splits:
        raise FastlocError(f"split must be one of {', '.join(map(schema.shown, splits))} as in {path}, got {schema.shown(split)}")
    images, annotations, _ = coco_file.opened(instances)
    pictures, objects = {each.id: each for each in images}, {each.id: each for each in annotations}
    for each in (each for each in refs if each.split == split):
        if each.image_id not in pictures or each.ann_id not in objects:
            raise FastlocError(f"{path}: picture {each.image_id} and annotation {each.ann_id} must be in {instances}, and are not")
        picture = pictures[each.image_id]
        box = _of_annotation(instances, picture, objects[each.ann_id])
        for sentence in each.sentences:
            yield Phrase(picture.file_name, sentence.sent, (box,))


def _of_annotation(path: Path, picture: coco_file.Entry, annotation: coco_file.Annotation) -> Box:
    name = f"{path}: annotation {annotation.id} of {picture.file_name}"
    try:
        found = coco_file.box(annotation.bbox, picture.width, picture.height, name)
    except SampleError as error:
        raise FastlocError(str(error)) from error
    if found is None:
        raise FastlocError(f"{name} must have a bbox in its picture, got {schema.shown(annotation.bbox)}")
    return found


def _corners(box: Box, name: str) -> Box:
    x0, y0, x1, y1 = box
    if not all(math.isfinite(value) for value in box) or x0 >= x1 or y0 >= y1:
        raise FastlocError(f"{name} must have a box (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {schema.shown(box)}")
    return box
