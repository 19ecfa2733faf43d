"""The page of several runs over the same pictures: a table over methods with intervals, published figures and links."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from fastloc.evaluation.report.charts import bar
from fastloc.evaluation.report.content import MethodLine
from fastloc.evaluation.report.numbers import counted, interval, percent, signed, signed_interval
from fastloc.evaluation.report.sections import Markup, name, section, table, whole_page

__all__ = ["ABOUT", "methods_page"]

# rows of the table of classes
MOST_CLASSES = 400
ABOUT = (
    "Intervals of 95 % by a bootstrap over pictures. Differences are to the highest row, resampled in pairs: where the interval holds 0, "
    "these pictures do not tell the two apart."
)


def methods_page(lines: Sequence[MethodLine]) -> str:
    """The page, HTML in UTF-8: lines from the highest first figure to the lowest; all text from outside is escaped."""
    first = lines[0].content
    measure = first.figures[0].name
    rows = [_row(each) for each in lines]
    heads = (("method", False), ("protocol", False), (f"{measure} %", True), ("", False), ("to the highest", True), ("published %", True),
             ("pictures", True))  # fmt: skip
    others = [each.name for each in first.figures[1:]]
    parts = [("methods", "Methods", section("methods", "Methods", ABOUT, table(heads, rows)))]
    if others:
        figures = [(_link(each), *(_with_ends(each, other) for other in others)) for each in lines]
        about = "With 95 % intervals over pictures."
        body = table((("method", False), *((f"{each} %", True) for each in others)), figures)
        parts.append(("others", "Other figures", section("others", "Other figures", about, body)))
    if first.classes:
        parts.append(("classes", "Classes", _classes(lines)))
    models = ", ".join(dict.fromkeys(each.content.model for each in lines))
    lead = Markup(f"{name(models)} · {escape(counted(first.total, 'picture'))}")
    title = f"{counted(len(lines), 'method')} on {first.data}"
    return whole_page(title, name(title), lead, parts)


def _row(line: MethodLine) -> tuple[str, ...]:
    content, estimate = line.content, line.content.figures[0].estimate
    value = Markup(f"{percent(estimate.value, 2)}<small>{escape(interval(estimate))}</small>")
    difference = ""
    if not math.isnan(line.difference.value):
        difference = Markup(f"{signed(line.difference.value, 2)}<small>{escape(signed_interval(line.difference))}</small>")
    published = ""
    if content.published:
        own = content.published[0]
        published = Markup(f"{percent(own.value, 2)}<small>{name(own.protocol)}</small>")
    return (_link(line), name(content.protocol), value, Markup(bar(estimate)), difference, published, f"{content.pictures:,}")


def _link(line: MethodLine) -> Markup:
    return Markup(f'<a href="{escape(line.report)}">{name(line.content.method)}</a>')


def _with_ends(line: MethodLine, figure: str) -> str:
    found = next((each.estimate for each in line.content.figures if each.name == figure), None)
    return "" if found is None else Markup(f"{percent(found.value, 2)}<small>{escape(interval(found))}</small>")


def _classes(lines: Sequence[MethodLine]) -> str:
    first = lines[0].content
    by_run = [{each.name: each.estimate.value for each in line.content.classes} for line in lines]
    rows = [(name(each.name), *(percent(found.get(each.name, math.nan)) for found in by_run)) for each in first.classes[:MOST_CLASSES]]
    heads = (("class", False), *((line.content.name, True) for line in lines))
    rest = f" The first {MOST_CLASSES} classes." if len(first.classes) > MOST_CLASSES else ""
    about = f"{first.per_class} in percent; the intervals stand on each run's own page.{rest}"
    return section("classes", "Classes", about, table(heads, rows))
