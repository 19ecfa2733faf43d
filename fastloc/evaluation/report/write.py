"""Writes the reports of a run: a page and Markdown in the folder of each method, and a table over methods beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastloc.evaluation.judges import Judge
from fastloc.evaluation.metrics.summary import Estimate, Summary
from fastloc.evaluation.report.compare import compare
from fastloc.evaluation.report.compare_page import comparison_page
from fastloc.evaluation.report.content import ComparisonContent, MethodLine, RunContent, Shown, exact
from fastloc.evaluation.report.gallery import HeatmapJudge, asked_pictures, label_gallery, question_gallery
from fastloc.evaluation.report.markdown import comparison_markdown, markdown, methods_markdown
from fastloc.evaluation.report.methods_page import methods_page
from fastloc.evaluation.report.page import page
from fastloc.evaluation.report.row_pairs import read_rows
from fastloc.evaluation.report.run_content import run_content
from fastloc.evaluation.running import folder
from fastloc.evaluation.samples import DataSet
from fastloc.evaluation.segmentation.judge import SegmentationJudge
from fastloc.utils.atomic_write import write_whole

__all__ = ["PAGE", "TEXT", "write_comparison", "write_reports"]

PAGE, TEXT = "report.html", "report.md"


def write_reports(root: Path, dataset: DataSet, judges: Mapping[str, Judge[Any]]) -> list[Path]:
    """Write report.html and report.md into the folder of each method, and of several methods into the one that holds them.

    Args:
        root: the folder in which each judge has a finished run's folder under its name.
        dataset, judges: these read and judge again the few pictures that the pages show.

    Returns: the pages, that over all methods first.

    Raises:
        FastlocError: a folder that holds no finished run, and files that cannot be written.
    """
    contents = {}
    for name, judge in judges.items():
        contents[name] = run_content(root / name, _gallery(root / name, dataset, judge))
        _write(root / name, page(contents[name]), markdown(contents[name]))
    lines = _lines(root, [each for each in contents.values() if each.figures])
    written = [root / name / PAGE for name in judges]
    if len(lines) > 1:
        _write(root, methods_page(lines), methods_markdown(lines))
        written.insert(0, root / PAGE)
    return written


def write_comparison(path: Path, content: ComparisonContent) -> None:
    """Write a comparison as a page, or as Markdown where the file's name ends in ".md". Raises FastlocError: it cannot be written."""
    _save(path, comparison_markdown(content) if path.suffix == ".md" else comparison_page(content))


def _lines(root: Path, contents: Sequence[RunContent]) -> list[MethodLine]:
    """The runs from the highest first figure to the lowest; a run whose first figure is another than the first run's is left out."""
    alike = [each for each in contents if each.figures[0].name == contents[0].figures[0].name]
    ordered = sorted(alike, key=lambda each: each.figures[0].estimate.value, reverse=True)
    found = []
    for content in ordered:
        difference = exact(math.nan) if content is ordered[0] else _difference(root, ordered[0], content)
        found.append(MethodLine(content=content, report=f"{content.name}/{PAGE}", difference=difference))
    return found


def _difference(root: Path, highest: RunContent, content: RunContent) -> Estimate:
    name = content.figures[0].name
    compared = compare(root / highest.name, root / content.name).figures
    return next((each.difference for each in compared if each.name == name), exact(math.nan))


def _gallery(path: Path, dataset: DataSet, judge: Judge[Any]) -> tuple[Shown, ...]:
    asked = asked_pictures(Summary.read(path / folder.RESULT))
    rows = {row.key: row for row in read_rows(path / folder.ROWS) if row.key in asked}
    if isinstance(judge, SegmentationJudge):
        return label_gallery(dataset, judge, asked, rows)
    return question_gallery(dataset, judge, asked, rows) if isinstance(judge, HeatmapJudge) else ()


def _write(path: Path, html: str, text: str) -> None:
    _save(path / PAGE, html)
    _save(path / TEXT, text)


def _save(path: Path, text: str) -> None:
    # names of files may hold half of a surrogate pair
    content = text.encode("utf-8", "backslashreplace")
    write_whole(path, lambda file: file.write(content))
