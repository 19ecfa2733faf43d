"""The interface of data sets: items to read, samples with their truth, and the errors of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError

__all__ = ["IGNORE", "DataSet", "Item", "Labels", "Question", "Sample", "SampleError"]

Labels = NDArray[np.int16]

# the label of pixels that no metric counts; data sets store 255
IGNORE = -1


class SampleError(FastlocError):
    """A picture or its truth that cannot be read: it is listed and counted, and the run continues."""


@dataclass(frozen=True)
class Item:
    """One picture of a set, not read yet. key is unique in the set; picture and truth are for the set's own `read`."""

    key: str
    picture: Any
    truth: Any = None


@dataclass(frozen=True, eq=False)
class Question:
    """One text to find in a picture, and the truth of its position.

    text: a class name or a phrase.
    label: its class, an index into `DataSet.classes`; -1 for a phrase.
    mask: bool [H, W], or None. ignored: bool [H, W], pixels that no metric counts, or None.
    points: (x, y, inside) in pixels of the picture, x to the right.
    boxes: (x0, y0, x1, y1) in pixels, ends exclusive.
    """

    text: str
    label: int = -1
    mask: NDArray[np.bool_] | None = None
    ignored: NDArray[np.bool_] | None = None
    points: tuple[tuple[float, float, bool], ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture and its truth: of a set of task "labels" labels, int16 [H, W], class indices or IGNORE; of "questions" questions."""

    key: str
    picture: Image.Image  # RGB, upright
    labels: Labels | None = None
    questions: tuple[Question, ...] = ()


class DataSet(Protocol):
    """A set on disk."""

    name: str  # a row of `fastloc.evaluation.sets.table.SETS`
    task: str  # "labels" or "questions"
    classes: tuple[str, ...]  # one plain name a class, in the order of the labels; () of free phrases
    background: bool  # class 0 is what no other class is

    def items(self) -> Sequence[Item]:
        """All pictures in the set's own order. Raises FastlocError for a layout in which something is missing, with the path."""

    def read(self, item: Item) -> Sample:
        """One sample. Raises SampleError in one line that names the file. Threads may call it side by side."""
