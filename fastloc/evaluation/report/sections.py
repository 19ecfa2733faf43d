"""Pieces that the pages share: head and foot, tables, rows with bars. Texts are plain and get escaped here; `Markup` is HTML already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path

from fastloc._version import __version__
from fastloc.imaging.html_page import document

__all__ = ["Heads", "Markup", "facts", "markup", "name", "section", "table", "whole_page"]

Heads = Sequence[tuple[str, bool]]
_BRAND = '<svg viewBox="0 0 32 32" aria-hidden="true"><circle cx="16" cy="16" r="11"/><circle cx="16" cy="16" r="3.5"/></svg>'
# letters of a name from outside that a page shows
LONGEST = 200


class Markup(str):
    """HTML that is not escaped again."""

    __slots__ = ()


@cache
def _style() -> str:
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def whole_page(title: str, heading: str, lead: str, parts: Sequence[tuple[str, str, str]]) -> str:
    """A page of a report: its title, the heading, a line under it, and sections (id, words of the link to it, HTML)."""
    nav = "".join(f'<a href="#{escape(where)}">{escape(words)}</a>' for where, words, _ in parts)
    body = "".join(content for _, _, content in parts)
    return document(title, _style(), f"""<header>
<p class="brand">{_BRAND}fastloc evaluate</p>
<h1>{markup(heading)}</h1>
<p class="faint">{markup(lead)}</p>
<nav>{nav}</nav>
</header>
<main>
{body}
</main>
<footer>Written by fastloc {escape(__version__)}. The page holds everything and loads nothing.</footer>""")  # fmt: skip


def section(where: str, title: str, about: str, body: str) -> str:
    """A section with its anchor; about: one line under the title."""
    line = f'<p class="note">{markup(about)}</p>' if about else ""
    return f'<section id="{escape(where)}"><h2>{escape(title)}</h2>{line}\n{body}</section>\n'


def markup(text: str) -> str:
    """The text as HTML."""
    return text if isinstance(text, Markup) else escape(text)


def name(text: str) -> Markup:
    """A name from outside: cut where it is long, and isolated so that it cannot turn the direction of the following text."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return Markup(f"<bdi>{escape(shown)}</bdi>")


def table(heads: Heads, rows: Sequence[Sequence[str]], own: int | None = None) -> str:
    """A table: heads, each with True for a column of numbers; `own` is the index of the row of the run itself."""
    head = "".join(f"<th{_side(number)}>{escape(text)}</th>" for text, number in heads)
    lines = "".join(_line(heads, row, index == own) for index, row in enumerate(rows))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{lines}</tbody></table></div>'


def _line(heads: Heads, row: Sequence[str], own: bool) -> str:
    # a phone shows the head beside each cell
    cells = (
        f'<td{_side(number)} data-head="{escape(text)}">{markup(value)}</td>'
        for (text, number), value in zip(heads, row, strict=True)
    )
    return f'<tr{" class=own" if own else ""}>{"".join(cells)}</tr>\n'


def _side(number: bool) -> str:
    return ' class="number"' if number else ""


def facts(found: Mapping[str, Sequence[tuple[str, str]]], changed: frozenset[str] = frozenset()) -> str:
    """Lists of names and values under headings; the values of `changed` names stand out."""
    parts = []
    for heading, rows in found.items():
        lines = "".join(
            f"<dt>{escape(key)}</dt><dd{' class=changed' if key in changed else ''}>{name(value)}</dd>" for key, value in rows
        )
        parts.append(f"<div><h3>{escape(heading)}</h3><dl>{lines}</dl></div>")
    return f'<div class="facts">{"".join(parts)}</div>'
