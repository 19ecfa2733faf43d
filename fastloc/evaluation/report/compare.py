"""Two runs on the pictures that both have: differences of figures and classes with a paired bootstrap, and the largest changes."""

from __future__ import annotations

from pathlib import Path

from fastloc.errors import FastlocError
from fastloc.evaluation.metrics.comparison import Comparison, Difference
from fastloc.evaluation.metrics.measures import MEASURES
from fastloc.evaluation.metrics.summary import Summary
from fastloc.evaluation.report.content import Compared, ComparisonContent
from fastloc.evaluation.report.row_pairs import RowPairs, read_rows
from fastloc.evaluation.report.run_content import CLASS_MEASURES, class_measure, ordered
from fastloc.evaluation.report.run_facts import settings_rows
from fastloc.evaluation.running import folder
from fastloc.evaluation.running.settings import Settings

__all__ = ["compare"]


def compare(first: Path, second: Path) -> ComparisonContent:
    """Two runs side by side: figures of the pictures that neither failed on, the second less the first with the 95 % interval of a paired
    bootstrap over pictures.

    Args:
        first, second: folders of one method's run each.

    Raises:
        FastlocError: no finished run or a damaged one; runs of other sets, classes or tasks; no picture in common.
    """
    before, after = (folder.read(path).settings for path in (first, second))
    _check(before, after)
    summary = Summary.read(second / folder.RESULT)
    pairs = RowPairs(lambda: read_rows(first / folder.ROWS), lambda: read_rows(second / folder.ROWS))
    found = Comparison.of(lambda: pairs, after.classes, after.task)
    if not found.pictures:
        raise FastlocError(f"runs must have pictures in common, got none in {first} and {second}; compare runs of the same pictures")
    names, measure = _names(first, second), class_measure(summary)
    rows = (settings_rows(before), settings_rows(after))
    return ComparisonContent(
        first=names[0], second=names[1], data=after.data, pictures=found.pictures, alone=pairs.alone,
        figures=tuple(_compared(MEASURES[name].title, found.figures[name]) for name in ordered(summary) if name in found.figures),
        per_class=CLASS_MEASURES.get(measure, ""),
        classes=tuple(_compared(each.name, each.figures[measure]) for each in found.classes if measure in each.figures),
        changes=tuple((each.key, each.first, each.second) for each in found.changes),
        settings=tuple((name, rows[0][name], rows[1][name]) for name in rows[0] if rows[0][name] != rows[1][name]),
    )  # fmt: skip


def _check(before: Settings, after: Settings) -> None:
    for name in ("data", "task", "classes"):
        one, two = getattr(before, name), getattr(after, name)
        if one != two:
            shown = "others" if name == "classes" else f"{one} and {two}"
            raise FastlocError(f"runs must have the same {name}, got {shown}; compare runs of one data set")


def _names(first: Path, second: Path) -> tuple[str, str]:
    """The folders' names, with those that they lie in where they are the same."""
    one, two = first.resolve(), second.resolve()
    return (one.name, two.name) if one.name != two.name else (f"{one.parent.name}/{one.name}", f"{two.parent.name}/{two.name}")


def _compared(name: str, found: Difference) -> Compared:
    return Compared(name, found.first, found.second, found.difference)
