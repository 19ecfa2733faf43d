"""Two runs on the pictures that both have: differences of figures and classes with a paired bootstrap, and what moved most."""

from __future__ import annotations

import heapq
import math
from pathlib import Path

import numpy as np

from fastloc.errors import FastlocError
from fastloc.evaluation.metrics.answers import QuestionSums
from fastloc.evaluation.metrics.bootstrap import ends, resampled
from fastloc.evaluation.metrics.confusion import Floats, LabelSums
from fastloc.evaluation.metrics.measures import MEASURES
from fastloc.evaluation.metrics.summary import Estimate, Summary, sums_of
from fastloc.evaluation.report.content import Compared, ComparisonContent
from fastloc.evaluation.report.row_pairs import RowPairs, read_rows
from fastloc.evaluation.report.run_content import CLASS_MEASURES, class_measure, ordered
from fastloc.evaluation.report.run_facts import settings_rows
from fastloc.evaluation.running import folder
from fastloc.evaluation.running.settings import Settings

__all__ = ["compare"]

# pictures that moved most
_MOVED = 20


def compare(first: Path, second: Path) -> ComparisonContent:
    """Two runs side by side: figures of the pictures that neither failed on, the second less the first with the 95 % interval of a paired
    bootstrap over pictures (the resamples of `fastloc.evaluation.metrics.bootstrap`, the same for both).

    Args:
        first, second: folders of one method's run each.

    Raises:
        FastlocError: no finished run or a damaged one; runs of other sets, classes or tasks; no picture in common.
    """
    before, after = (folder.read(path).settings for path in (first, second))
    _check(before, after)
    summary = Summary.read(second / folder.RESULT)
    sums = sums_of(after.task, len(after.classes))
    totals, moved, pairs = np.zeros((2, sums.width)), list[tuple[float, str, float, float]](), _pairs(first, second)
    for both in pairs:
        vectors = [sums.of(row) for row in both]
        totals += vectors
        one, two = (sums.score(vector) for vector in vectors)
        if not math.isnan(one - two):
            (heapq.heappush if len(moved) < _MOVED else heapq.heappushpop)(moved, (abs(two - one), both[0].key, one, two))
    if not pairs.pictures:
        raise FastlocError(f"runs must have pictures in common, got none in {first} and {second}; compare runs of the same pictures")
    drawn = resampled((np.concatenate([sums.of(row) for row in both]) for both in _pairs(first, second)), pairs.pictures)
    samples = (drawn[:, : sums.width], drawn[:, sums.width :])
    names, measure = _names(first, second), class_measure(summary)
    rows = (settings_rows(before), settings_rows(after))
    return ComparisonContent(
        first=names[0], second=names[1], data=after.data, pictures=pairs.pictures, alone=(pairs.alone[0], pairs.alone[1]),
        figures=_figures(sums, totals, samples, ordered(summary)), per_class=CLASS_MEASURES.get(measure, ""),
        classes=_classes(sums, totals, samples, measure, after.classes) if measure else (),
        changes=tuple((key, one, two) for _, key, one, two in sorted(moved, reverse=True) if one != two),
        settings=tuple((name, rows[0][name], rows[1][name]) for name in rows[0] if rows[0][name] != rows[1][name]),
    )  # fmt: skip


def _check(before: Settings, after: Settings) -> None:
    for name in ("data", "task", "classes"):
        one, two = getattr(before, name), getattr(after, name)
        if one != two:
            shown = "others" if name == "classes" else f"{one} and {two}"
            raise FastlocError(f"runs must have the same {name}, got {shown}; compare runs of one data set")


def _pairs(first: Path, second: Path) -> RowPairs:
    return RowPairs(read_rows(first / folder.ROWS), read_rows(second / folder.ROWS))


def _names(first: Path, second: Path) -> tuple[str, str]:
    """The folders' names, with those that they lie in where they are the same."""
    one, two = first.resolve(), second.resolve()
    return (one.name, two.name) if one.name != two.name else (f"{one.parent.name}/{one.name}", f"{two.parent.name}/{two.name}")


def _figures(
    sums: LabelSums | QuestionSums, totals: Floats, samples: tuple[Floats, Floats], names: list[str]
) -> tuple[Compared, ...]:  # fmt: skip
    values = [sums.figures(total) for total in totals]
    drawn = [sums.figures(sample) for sample in samples]
    found = (_compared(MEASURES[name].title, *(each[name] for each in (*values, *drawn)))[0] for name in names)
    return tuple(each for each in found if not math.isnan(each.difference.value))


def _classes(
    sums: LabelSums | QuestionSums, totals: Floats, samples: tuple[Floats, Floats], measure: str, classes: tuple[str, ...]
) -> tuple[Compared, ...]:
    found = (sums.of_classes(each)[measure] for each in (*totals, *samples))
    lines = _compared("", *found)
    return tuple(
        Compared(name, each.first, each.second, each.difference)
        for name, each in zip(classes, lines, strict=True)
        if not math.isnan(each.difference.value)
    )


def _compared(name: str, first: Floats, second: Floats, first_drawn: Floats, second_drawn: Floats) -> list[Compared]:
    """Lines of figures [...] and their resamples [resamples, ...]."""
    columns = (first, second, second - first, *ends(second_drawn - first_drawn))
    rows = zip(*(np.atleast_1d(column).tolist() for column in columns), strict=True)
    return [Compared(name, one, two, Estimate(*difference)) for one, two, *difference in rows]
