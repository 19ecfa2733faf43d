"""A run's report as Markdown: tables for a paper's appendix, a log or an issue."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from fastloc._version import __version__
from fastloc.evaluation.report.content import RunContent
from fastloc.evaluation.report.numbers import counted, interval, percent, signed
from fastloc.evaluation.report.sections import Heads

__all__ = ["markdown", "plain", "table"]


def markdown(content: RunContent) -> str:
    """The report, a document of its own."""
    measure = content.figures[0]
    lines = [
        f"# {plain(content.method)} on {plain(content.data)}", "",
        f"{plain(content.model)}, protocol {plain(content.protocol)}, {_done(content)}.", "",
        *table((("figure", False), ("%", True), ("95 % interval", True), ("", False)),
               [(each.name, percent(each.estimate.value), interval(each.estimate), each.about) for each in content.figures]), "",
    ]  # fmt: skip
    if content.published:
        rows = [(f"{content.method} (this run)", content.model, content.protocol, percent(measure.estimate.value), "", "")]
        rows += [
            (row.method, row.model, row.protocol, percent(row.value), signed(measure.estimate.value - row.value), row.source)
            for row in content.published
        ]
        heads = (("method", False), ("model", False), ("protocol", False), (f"{measure.name} %", True), ("this run less it", True),
                 ("source", False))  # fmt: skip
        lines += ["## Beside published figures", "", *table(heads, rows), ""]
    if content.differences:
        lines += ["Where this run differs from the first published row:", "", *(f"* {plain(each)}" for each in content.differences), ""]
    if content.classes:
        ordered = sorted(content.classes, key=lambda each: -1 if math.isnan(each.estimate.value) else each.estimate.value, reverse=True)
        rows = [(each.name, percent(each.estimate.value), interval(each.estimate), percent(each.share, 2)) for each in ordered]
        heads = (("class", False), (f"{content.per_class} %", True), ("95 % interval", True), ("share of what is counted %", True))
        lines += ["## Classes", "", *table(heads, rows), ""]
    if content.pairs:
        pairs = [(each.true, each.predicted, f"{each.pixels:,}", percent(each.share)) for each in content.pairs]
        heads = (("true", False), ("predicted", False), ("pixels", True), ("of the true class %", True))
        lines += ["## Confusions", "", *table(heads, pairs), ""]
    if content.failures:
        lines += ["## Not evaluated", "", f"{counted(len(content.failures), 'picture')} could not be read; no figure counts them.", ""]
        lines += [*table((("picture", False), ("why", False)), content.failures), ""]
    lines += ["## What ran", ""]
    for heading, rows in content.facts.items():
        lines += [*table(((heading, False), ("", False)), rows), ""]
    return "\n".join([*lines, f"fastloc {__version__}", ""])


def _done(content: RunContent) -> str:
    return counted(content.total, "picture") if content.pictures == content.total else f"{content.pictures:,} of {content.total:,} pictures"


def table(heads: Heads, rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: heads, each with True for a column of numbers."""
    rule = " | ".join("---:" if number else "---" for _, number in heads)
    return [_line([text for text, _ in heads]), f"| {rule} |", *(_line(row) for row in rows)]


def _line(values: Sequence[str]) -> str:
    return f"| {' | '.join(plain(each) for each in values)} |"


def plain(text: str) -> str:
    """The text in one line, in which no letter is markup."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|#&~])", r"\\\1", line)
