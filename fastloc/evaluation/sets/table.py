"""The table of data sets by name, with their readers and checks."""

from __future__ import annotations

from pathlib import Path

from fastloc.errors import FastlocError, unknown
from fastloc.evaluation.samples import DataSet
from fastloc.evaluation.sets import label_sets
from fastloc.evaluation.sets.classes import CLASSES
from fastloc.evaluation.sets.files import checked
from fastloc.evaluation.sets.label_sets import LabelSet
from fastloc.evaluation.sets.more import MORE
from fastloc.evaluation.sets.row import SetRow

__all__ = ["SETS", "check", "open_set", "row_of"]


def _row(name: str, pictures: int, about: str) -> SetRow:
    classes = CLASSES[name]
    return SetRow(
        reader=LabelSet, check=checked(LabelSet), task="labels", about=about, pictures=pictures, classes=len(classes),
        background=classes[0] == "background", layout=label_sets.described(name), options=label_sets.OPTIONS,
    )  # fmt: skip


SETS: dict[str, SetRow] = {
    "voc21": _row("voc21", 1449, "PASCAL VOC 2012, val: 20 classes and the background"),
    "voc20": _row("voc20", 1449, "PASCAL VOC 2012, val: 20 classes, the background ignored"),
    "context60": _row("context60", 5104, "PASCAL Context, val: 59 classes and the background"),
    "context59": _row("context59", 5104, "PASCAL Context, val: 59 classes, the background ignored"),
    "coco-object": _row("coco-object", 5000, "COCO-Object, val2017: 80 things and the background, in which what is unlabelled counts too"),
    "coco-stuff": _row("coco-stuff", 5000, "COCO-Stuff 164k, val2017: 80 things and 91 kinds of stuff"),
    "ade20k": _row("ade20k", 2000, "ADE20K, validation: 150 classes, what is unlabelled ignored"),
    "cityscapes": _row("cityscapes", 500, "Cityscapes, val: 19 classes"),
    **MORE,
}


def row_of(name: str) -> SetRow:
    """The row of a set. Raises FastlocError for an unknown name."""
    if name not in SETS:
        raise FastlocError(unknown("data set", name, SETS))
    return SETS[name]


def open_set(name: str, root: Path | str, **options: str) -> DataSet:
    """Open the set of that name in a folder.

    Args:
        name: a key of SETS.
        root: the folder, laid out as the row's `layout` says.
        options: as the row's `options` say; values are text.

    Raises FastlocError: an unknown name or option, or a folder or list that is missing.
    """
    return row_of(name).open(name, Path(root), options)


def check(name: str, root: Path | str, **options: str) -> list[str]:
    """The missing parts of a set in a folder, one line each; [] where there are none. Raises FastlocError: an unknown name or option."""
    return row_of(name).missing(name, Path(root), options)
