"""Reports as Markdown: tables for a paper's appendix, a log or a discussion."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from fastloc._version import __version__
from fastloc.evaluation.report.compare_page import ABOUT as COMPARED
from fastloc.evaluation.report.compare_page import pairs_line
from fastloc.evaluation.report.content import ClassLine, ComparisonContent, MethodLine, RunContent, worth
from fastloc.evaluation.report.methods_page import ABOUT as METHODS
from fastloc.evaluation.report.numbers import counted, evaluated, interval, percent, signed, signed_interval
from fastloc.evaluation.report.sections import Heads

__all__ = ["comparison_markdown", "markdown", "methods_markdown"]


def markdown(content: RunContent) -> str:
    """The report of one run, a document of its own."""
    lead = f"{plain(content.model)}, protocol {plain(content.protocol)}, {evaluated(content)}."
    figures = [
        (each.name, percent(each.estimate.value, 2), percent(each.estimate.error, 2), interval(each.estimate), each.about)
        for each in content.figures
    ]
    head = (("figure", False), ("%", True), ("standard error", True), ("95 % interval", True), ("", False))
    lines = [lead, "", *_table(head, figures)]
    if content.published:
        lines += ["", "## Beside published figures", "", *_published(content)]
    if content.differences:
        lines += ["", "Where this run differs from the first published row:", "", *(f"* {plain(each)}" for each in content.differences)]
    if content.classes:
        lines += ["", "## Classes", "", *_classes(content.per_class, content.classes)]
    if content.confusions:
        pairs = [(each.true, each.predicted or "no class", f"{each.pixels:,}", percent(each.share)) for each in content.confusions]
        heads = (("true", False), ("predicted", False), ("pixels", True), ("of the true class %", True))
        lines += ["", "## Confusions", "", *_table(heads, pairs)]
    if content.failures:
        lines += ["", "## Not evaluated", "", f"{counted(content.failed, 'picture')} could not be used; no figure counts them.", ""]
        lines += _table((("picture", False), ("why", False)), [(each.key, each.reason) for each in content.failures])
    lines += ["", "## What ran"]
    for heading, rows in content.facts.items():
        lines += ["", *_table(((heading, False), ("", False)), rows)]
    return _whole(f"{content.method} on {content.data}", lines)


def comparison_markdown(content: ComparisonContent) -> str:
    """Two runs side by side, a document of its own."""
    names = (f"{content.first} %", f"{content.second} %")
    heads = ((names[0], True), (names[1], True), ("difference", True), ("standard error", True), ("95 % interval", True))
    about = COMPARED.format(first=content.first, second=content.second)
    lines = [f"{plain(content.data)}, {plain(pairs_line(content))}.", "", plain(about)]
    for title, what, rows in (("Figures", "figure", content.figures), ("Classes", "class", content.classes)):
        if rows:
            found = [
                (each.name, percent(each.first, 2), percent(each.second, 2), signed(each.difference.value, 2),
                 percent(each.difference.error, 2), signed_interval(each.difference))
                for each in rows
            ]  # fmt: skip
            lines += ["", f"## {title}", "", *_table(((what, False), *heads), found)]
    if content.changes:
        moved = [(key, percent(first), percent(second), signed(second - first)) for key, first, second in content.changes]
        lines += ["", "## Pictures that moved most", "", *_table((("picture", False), *heads[:3]), moved)]
    if content.settings:
        sides = (("setting", False), (content.first, False), (content.second, False))
        lines += ["", "## What differs", "", *_table(sides, content.settings)]
    return _whole(f"{content.first} and {content.second}", lines)


def methods_markdown(lines: Sequence[MethodLine]) -> str:
    """Several runs over the same pictures, a document of its own."""
    first = lines[0].content
    rows = []
    for line in lines:
        content = line.content
        published = percent(content.published[0].value, 2) if content.published else ""
        own, less = content.figures[0].estimate, line.difference
        figure = (percent(own.value, 2), percent(own.error, 2), interval(own))
        difference = ("", "", "") if math.isnan(less.value) else (signed(less.value, 2), percent(less.error, 2), signed_interval(less))
        rows.append((content.method, content.protocol, *figure, *difference, published, evaluated(content)))
    ends = (("standard error", True), ("95 % interval", True))
    heads = (("method", False), ("protocol", False), (f"{first.figures[0].name} %", True), *ends, ("to the highest", True), *ends,
             ("published %", True), ("evaluated", True))  # fmt: skip
    models = ", ".join(dict.fromkeys(line.content.model for line in lines))
    return _whole(f"{counted(len(lines), 'method')} on {first.data}", [f"{plain(models)}.", "", METHODS, "", *_table(heads, rows)])


def _published(content: RunContent) -> list[str]:
    measure = content.figures[0]
    own = measure.estimate.value
    rows = [(f"{content.method} (this run)", content.model, content.protocol, percent(own, 2), "", "")]
    rows += [
        (row.method, row.model, f"{row.protocol}; {row.note}" if row.note else row.protocol, percent(row.value, 2),
         signed(own - row.value, 2), row.source)
        for row in content.published
    ]  # fmt: skip
    heads = (("method", False), ("model", False), ("protocol", False), (f"{measure.name} %", True), ("this run less it", True),
             ("source", False))  # fmt: skip
    return _table(heads, rows)


def _classes(per_class: str, classes: Sequence[ClassLine]) -> list[str]:
    ordered = sorted(classes, key=lambda each: worth(each.estimate), reverse=True)
    rows = [(each.name, percent(each.estimate.value), interval(each.estimate), percent(each.share, 2)) for each in ordered]
    heads = (("class", False), (f"{per_class} %", True), ("95 % interval", True), ("share of what is counted %", True))
    return _table(heads, rows)


def _whole(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"# {plain(title)}", "", *lines, "", f"fastloc {__version__}", ""])


def _table(heads: Heads, rows: Sequence[Sequence[str]]) -> list[str]:
    rule = " | ".join("---:" if number else "---" for _, number in heads)
    return [_line([text for text, _ in heads]), f"| {rule} |", *(_line(row) for row in rows)]


def _line(values: Sequence[str]) -> str:
    return f"| {' | '.join(plain(each) for each in values)} |"


def plain(text: str) -> str:
    """The text in one line, in which no letter is markup."""
    return re.sub(r"([\\`*_\[\]<>|#&~])", r"\\\1", " ".join(text.split()))
