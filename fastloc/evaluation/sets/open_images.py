"""OpenImages-V7 points: people's yes and no at points of a picture, for labels that are in it."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError
from fastloc.evaluation.samples import Item, Question, Sample
from fastloc.evaluation.sets import files
from fastloc.utils import schema

__all__ = ["LAYOUT", "OPTIONS", "OpenImages"]

POINTS = "oidv7-val-annotations-point-labels.csv"
NAMES = "oidv7-class-descriptions.csv"
PICTURES = ("validation", "images/validation", "images")
LAYOUT = (
    f"{POINTS}   ImageId, X, Y (0 to 1), Label, EstimatedYesNo, TextLabel; other columns are not read",
    f"{NAMES}             LabelName, DisplayName: names of labels whose TextLabel is empty",
    f"{', '.join(PICTURES)}   folder of the pictures, ImageId.jpg",
)
OPTIONS = {
    "points": f"file of the points (default: {POINTS})",
    "names": f"file of the labels' names (default: {NAMES}, where it is)",
    "pictures": f"folder of the pictures (default: the first of {', '.join(PICTURES)})",
}
_COLUMNS, _TEXT = ("ImageId", "X", "Y", "Label", "EstimatedYesNo"), ("TextLabel",)


class OpenImages:
    """Data set of questions: each label with a yes at a point of the picture, with all its yes and no points; see LAYOUT and OPTIONS.

    Labels without any yes are not depicted, as far as points say, and are not asked; unsure points are left out. A point (X, Y) lies at
    (X * width, Y * height), and those on the right and lower edge just within. Classes are in the order of their first point.
    """

    task = "questions"
    background = False

    def __init__(self, name: str, root: Path, *, points: str = POINTS, names: str = "", pictures: str = "") -> None:
        """Raises FastlocError: a file is missing or of another form, or a label has no name."""
        self.name, self.points = name, root / points
        self.names_file = root / names if names else files.existing(root, (NAMES,))
        self.pictures = root / pictures if pictures else files.existing(root, PICTURES)
        needed = [(self.points, "the points and their answers"), (self.pictures, "the folder of the pictures")]
        files.require(*needed, *([(self.names_file, "the names of the labels")] if names else []))
        read = _read(self.points)
        self._pictures, self._points = _asked(read, self.points)
        kept = np.unique(self._points.label)
        self.classes = self._named([read.labels[label] for label in kept], [read.texts[label] for label in kept])
        self._points = replace(self._points, label=np.searchsorted(kept, self._points.label))
        # where the points of each picture begin
        self._first = np.searchsorted(self._points.picture, np.arange(len(self._pictures) + 1))

    def items(self) -> Sequence[Item]:
        """The pictures with a label to ask, in the file's order."""
        return [Item(key, f"{key}.jpg", index) for index, key in enumerate(self._pictures)]

    def read(self, item: Item) -> Sample:
        """One picture with a question for each label in it, in the order of the classes. Raises SampleError."""
        picture = files.picture(files.within(self.pictures, item.picture))
        here, all_points = slice(self._first[item.truth], self._first[item.truth + 1]), self._points
        x = np.minimum(all_points.x[here] * picture.width, np.nextafter(picture.width, 0))
        y = np.minimum(all_points.y[here] * picture.height, np.nextafter(picture.height, 0))
        label, inside = all_points.label[here], all_points.inside[here]
        asked = []
        for each in np.unique(label):
            found = np.flatnonzero(label == each)
            points = tuple(zip(x[found].tolist(), y[found].tolist(), inside[found].tolist(), strict=True))
            asked.append(Question(self.classes[each], int(each), points=points))
        return Sample(item.key, picture, questions=tuple(asked))

    def missing(self) -> list[str]:
        """A line for pictures that the points name and the folder does not have."""
        return files.missing_pictures(self.pictures, [f"{key}.jpg" for key in self._pictures])

    def _named(self, labels: list[str], texts: list[str]) -> tuple[str, ...]:
        described = dict(_described(self.names_file)) if "" in texts and self.names_file.exists() else {}
        names = [text or described.get(label, "") for label, text in zip(labels, texts, strict=True)]
        if "" in names:
            raise FastlocError(
                f"{self.points} must have a TextLabel for {labels[names.index('')]} and {names.count('') - 1} more labels, got none; "
                f"put {NAMES} beside it"
            )
        for name in names:
            schema.one_line(f"a label's name in {self.points}", name)
        return tuple(names)


@dataclass(frozen=True)
class _Points:
    """Columns, one entry a point, ordered by picture: x and y from 0 to 1."""

    picture: NDArray[Any]
    label: NDArray[Any]
    inside: NDArray[np.bool_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class _Read:
    """A file of points: pictures and labels in the order of their first point, and the labels' names or ""."""

    pictures: list[str]
    labels: list[str]
    texts: list[str]
    points: _Points


def _asked(read: _Read, path: Path) -> tuple[list[str], _Points]:
    """The pictures and points of labels that have a yes in their picture. Raises FastlocError where there are none."""
    every = read.points
    _, pair = np.unique(every.picture * np.int64(len(read.labels)) + every.label, return_inverse=True)
    kept = np.flatnonzero(np.bincount(pair, every.inside)[pair] > 0)
    if not len(kept):
        raise FastlocError(f"{path} must have a yes, got none")
    kept = kept[np.argsort(every.picture[kept], kind="stable")]
    pictures, picture = np.unique(every.picture[kept], return_inverse=True)
    names = [read.pictures[index] for index in pictures]
    return names, _Points(picture, every.label[kept], every.inside[kept], every.x[kept], every.y[kept])


def _read(path: Path) -> _Read:
    """Read the file's yes and no points. Raises FastlocError with the number of a bad line."""
    pictures: dict[str, int] = {}
    labels: dict[str, int] = {}
    texts: list[str] = []
    picture, label, inside, x, y = array("q"), array("q"), array("b"), array("d"), array("d")
    for number, (key, across, down, mid, answer, text) in _columns(path, _COLUMNS, _TEXT):
        if answer.lower() == "unsure":
            continue
        if answer.lower() not in ("yes", "no") or not key or not mid:
            raise FastlocError(f"{path}: line {number} must have an ImageId, a Label and yes, no or unsure, got {schema.shown(answer)}")
        index = labels.setdefault(mid, len(labels))
        if index == len(texts):
            texts.append("")
        texts[index] = texts[index] or text.strip()
        picture.append(pictures.setdefault(key, len(pictures)))
        label.append(index)
        inside.append(answer.lower() == "yes")
        x.append(_share(path, number, across))
        y.append(_share(path, number, down))
    made = _Points(np.asarray(picture), np.asarray(label), np.asarray(inside) > 0, np.asarray(x), np.asarray(y))
    return _Read(list(pictures), list(labels), texts, made)


def _share(path: Path, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise FastlocError(f"{path}: line {number} must have X and Y from 0 to 1, got {schema.shown(text)}")
    return value


def _described(path: Path) -> Iterator[tuple[str, str]]:
    return ((label, name.strip()) for _, (label, name) in _columns(path, ("LabelName", "DisplayName")))


def _columns(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line of a CSV file with a header, in the requested order; "" for optional ones that are missing.

    Raises FastlocError.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if absent := [name for name in required if name not in header]:
                raise FastlocError(f"{path} must have columns {', '.join(required)}, got no {', '.join(absent)}")
            places = [header.index(name) if name in header else None for name in (*required, *optional)]
            for row in rows:
                if len(row) != len(header):
                    raise FastlocError(f"{path}: line {rows.line_num} must have {len(header)} fields, got {len(row)}")
                yield rows.line_num, ["" if place is None else row[place] for place in places]
    except FastlocError:
        raise
    # csv.Error and UnicodeDecodeError among them
    except (OSError, ValueError, csv.Error) as error:
        raise FastlocError(f"{path} cannot be read: {getattr(error, 'strerror', None) or schema.first_line(error)}") from error
