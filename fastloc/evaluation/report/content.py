"""The content of a report of one run, as its page and its Markdown show it: figures, classes, confusions, pictures, facts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from fastloc.evaluation.metrics.summary import Confusion, Estimate, Failure

__all__ = [
    "ClassLine", "Colour", "Compared", "ComparisonContent", "Figure", "MethodLine", "Panel", "Published", "RunContent", "Shown", "exact",
    "worth",
]  # fmt: skip

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Figure:
    """One figure of the whole set, a share in [0, 1]; about: its definition in a few words."""

    name: str
    estimate: Estimate
    about: str = ""


@dataclass(frozen=True)
class ClassLine:
    """One class: its figure, a share in [0, 1], and its part of all counted pixels (or questions) by the truth."""

    name: str
    estimate: Estimate
    share: float


@dataclass(frozen=True)
class Published:
    """A figure that somebody published for the same set, a share in [0, 1]; note: other conditions of its making."""

    method: str
    model: str
    protocol: str
    value: float
    source: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture, RGB, and the words above it."""

    caption: str
    picture: Image.Image


@dataclass(frozen=True, eq=False)
class Shown:
    """One picture of the set in panels: itself, the truth, the prediction.

    best: it is among the best ones and not among the worst. value: the picture's own figure, a share in [0, 1].
    notes: its largest mistakes in words. legend: (class, colour) of what the panels show.
    """

    key: str
    value: float
    best: bool
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    legend: tuple[tuple[str, Colour], ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class RunContent:
    """A run.

    figures: the protocol's own measure first; () where no picture could be used. per_class: the name of the classes' figure.
    published: the nearest to the run first. differences: reasons for a difference from the first published one.
    failures: the first of those that failed.
    facts: heading -> (name, value) of the run's settings. changed: protocol fields that are not the paper's.
    """

    name: str
    method: str
    model: str
    data: str
    protocol: str
    pictures: int
    total: int
    figures: tuple[Figure, ...]
    per_class: str = "IoU"
    classes: tuple[ClassLine, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    published: tuple[Published, ...] = ()
    differences: tuple[str, ...] = ()
    shown: tuple[Shown, ...] = ()
    failures: tuple[Failure, ...] = ()
    failed: int = 0
    facts: Mapping[str, tuple[tuple[str, str], ...]]
    changed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Compared:
    """A figure of two runs on the same pictures: their shares in [0, 1] and the second less the first, resampled in pairs."""

    name: str
    first: float
    second: float
    difference: Estimate


@dataclass(frozen=True, kw_only=True)
class ComparisonContent:
    """Two runs side by side.

    first, second: short names. pictures: that both have; alone: the number that each has alone.
    changes: (key, first, second) of pictures whose own figure, a share in [0, 1], moved most. settings: (name, first, second) that differ.
    """

    first: str
    second: str
    data: str
    pictures: int
    alone: tuple[int, int]
    figures: tuple[Compared, ...]
    per_class: str = "IoU"
    classes: tuple[Compared, ...] = ()
    changes: tuple[tuple[str, float, float], ...] = ()
    settings: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class MethodLine:
    """One run of several over the same pictures.

    report: its page, as a link from the table's.
    difference: the run's first figure less that of the run with the highest one, resampled in pairs; NaN for that run itself.
    """

    content: RunContent
    report: str
    difference: Estimate


def exact(value: float) -> Estimate:
    """A value without an interval."""
    return Estimate(value, math.nan, math.nan, math.nan)


def worth(estimate: Estimate) -> float:
    """A key to sort by: the value, and of none -1."""
    return -1.0 if math.isnan(estimate.value) else estimate.value
