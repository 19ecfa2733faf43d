"""The page of a comparison: two runs on the same pictures, their differences with intervals, and the pictures that changed most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from fastloc.evaluation.report.charts import difference_bar
from fastloc.evaluation.report.content import Compared, ComparisonContent
from fastloc.evaluation.report.numbers import counted, percent, signed, signed_interval
from fastloc.evaluation.report.sections import Markup, name, section, table, whole_page

__all__ = ["ABOUT", "comparison_page", "pairs_line"]

ABOUT = (
    "The difference is {second} less {first}, in percent points, with the 95 % interval of a paired bootstrap over pictures. "
    "Where the interval holds 0, these pictures do not tell the two apart."
)
# lines of a list
MOST_CLASSES = 400
# above so many classes, the list has two columns
FEW = 12


def comparison_page(content: ComparisonContent) -> str:
    """The page, HTML in UTF-8; all text from outside is escaped."""
    parts = [("figures", "Figures", _figures(content))]
    if content.classes:
        parts.append(("classes", "Classes", _classes(content)))
    if content.changes:
        parts.append(("pictures", "Pictures that moved most", _changes(content)))
    parts.append(("settings", "What differs", _settings(content)))
    heading = Markup(f'{name(content.first)} <span class="faint">and</span> {name(content.second)}')
    lead = Markup(f"{name(content.data)} · {escape(pairs_line(content))}")
    return whole_page(f"{content.first} and {content.second}", heading, lead, parts)


def pairs_line(content: ComparisonContent) -> str:
    """The number of compared pictures, and those that are left out, in a line."""
    rest = [f"{count:,} of {label} alone" for count, label in zip(content.alone, (content.first, content.second), strict=True) if count]
    return f"{counted(content.pictures, 'picture')} of both" + (f"; left out: {', '.join(rest)}" if rest else "")


def _figures(content: ComparisonContent) -> str:
    most = _most(content.figures)
    rows = [
        (each.name, percent(each.first, 2), percent(each.second, 2), _difference(each), Markup(difference_bar(each.difference, most)))
        for each in content.figures
    ]
    heads = (("figure", False), (f"{content.first} %", True), (f"{content.second} %", True), ("difference", True), ("", False))
    about = ABOUT.format(first=content.first, second=content.second)
    return section("figures", "Figures", f"{about} Such bars are pale.", table(heads, rows))


def _difference(each: Compared) -> Markup:
    return Markup(f"{signed(each.difference.value, 2)}<small>{escape(signed_interval(each.difference))}</small>")


def _most(found: Sequence[Compared]) -> float:
    """The end of all bars of a list."""
    ends = [abs(end) for each in found for end in (each.difference.value, each.difference.low, each.difference.high) if not math.isnan(end)]
    return max(ends, default=1.0)


def _classes(content: ComparisonContent) -> str:
    known = [each for each in content.classes if not math.isnan(each.difference.value)]
    ordered = sorted(known, key=lambda each: -each.difference.value)
    shown = ordered if len(ordered) <= MOST_CLASSES else [*ordered[: MOST_CLASSES // 2], *ordered[-MOST_CLASSES // 2 :]]
    most = _most(shown)
    rows = "".join(
        f'<li><span class="name" title="{escape(each.name[:400])}: {percent(each.first)}, {percent(each.second)}">{name(each.name)}</span>'
        f'{difference_bar(each.difference, most)}<span class="number value">{signed(each.difference.value)}</span>'
        f'<span class="number ends">{escape(signed_interval(each.difference))}</span></li>\n'
        for each in shown
    )
    about = f"Difference of each class's {content.per_class} in percent points, largest gain of {content.second} first."
    return section("classes", "Classes", about, f'<ul class="rows {"two" if len(shown) > FEW else ""}">\n{rows}</ul>')


def _changes(content: ComparisonContent) -> str:
    rows = [(name(key), percent(first), percent(second), signed(second - first)) for key, first, second in content.changes]
    heads = (("picture", False), (f"{content.first} %", True), (f"{content.second} %", True), ("difference", True))
    return section("pictures", "Pictures that moved most", "By the picture's own figure.", table(heads, rows))


def _settings(content: ComparisonContent) -> str:
    rows = [(key, name(first), name(second)) for key, first, second in content.settings]
    heads = (("setting", False), (content.first, False), (content.second, False))
    about = "" if rows else "Nothing: both ran with the same settings."
    return section("settings", "What differs", about, table(heads, rows) if rows else "")
