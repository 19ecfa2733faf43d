"""The contact sheet as one HTML file that loads nothing: a card a method, with its source, parameters and plan."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from PIL import Image

from fastloc._version import __version__
from fastloc.analysis.contact_sheet import NARROWEST, milliseconds
from fastloc.analysis.explain import Column, Explained
from fastloc.imaging.html_page import document, picture_bytes, picture_element
from fastloc.results.result import Point

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #59636e; --page: #ffffff; --card: #f6f8fa; --rule: #d1d9e0; --warn: #9a3412; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --faint: #9198a1; --page: #0d1117; --card: #151b23; --rule: #3d444d; --warn: #ffb38a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px; max-width: 2000px; background: var(--page); color: var(--ink);
       font: 15px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 0; overflow-wrap: anywhere; }
p { margin: 4px 0; }
.faint, figcaption, dt { color: var(--faint); }
.time { float: right; padding-left: 12px; color: var(--faint); font-variant-numeric: tabular-nums; }
.small, figcaption, details { font-size: 13px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(WIDEpx, 100%), 1fr)); column-gap: 18px; margin-top: 18px; }
/* a row of the sheet is a row of all cards beside one another: head, texts, foot */
article { display: grid; grid-row: span ROWS; grid-template-rows: subgrid; margin-bottom: 18px; padding: 14px; min-width: 0;
          border: 1px solid var(--rule); border-radius: 8px; background: var(--card); }
figure { margin: 10px 0 0; }
figcaption { overflow-wrap: anywhere; margin-bottom: 3px; }
img { display: block; width: 100%; height: auto; border-radius: 3px; }
.refused { color: var(--warn); overflow-wrap: anywhere; }
summary { cursor: pointer; margin-top: 10px; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 12px; margin: 8px 0 0; }
dd { margin: 0; overflow-wrap: anywhere; font-family: ui-monospace, monospace; }
pre { overflow-x: auto; margin: 8px 0 0; font: 12px/1.5 ui-monospace, monospace; }
"""


def page(explained: Explained) -> str:
    """The page, HTML in UTF-8; all text from outside is escaped."""
    height, width = explained.size
    name = explained.name or "picture"
    texts = ", ".join(f"“{escape(text)}”" for text in explained.texts)
    least = max(explained.picture.width, NARROWEST) * 3 // 4 + 30
    style = _STYLE.replace("WIDE", str(least)).replace("ROWS", str(len(explained.texts) + 2))
    cards = "\n".join(_card(column, explained.texts) for column in explained.columns)
    body = f"""<h1>{escape(name)}: {texts}</h1>
<p class="faint">{width} x {height} pixels, model {escape(explained.model)}, fastloc {escape(__version__)}</p>
<p class="faint small">{escape(explained.timing[0].upper() + explained.timing[1:])}. A ring marks the peak;
each map is shown from low (clear) to high (red).</p>
<main class="cards">
<article>
<header><h2>the picture</h2></header>
<figure><figcaption>as it was read</figcaption>{_image(explained.picture, "the picture")}</figure>
</article>
{cards}
</main>"""
    return document(f"{name}: {len(explained.columns)} methods", style, body)


def _card(column: Column, texts: Sequence[str]) -> str:
    """The card of one method: its head, a figure for each text or the reason why there is none, and its foot."""
    time = "" if column.ms is None else f'<span class="time">{escape(milliseconds(column.ms))}</span>'
    source = f'<p class="faint small">{escape(column.source)}</p>'
    parts = [f"<header>{time}<h2>{escape(column.method)}</h2><p>{escape(column.summary)}</p>{source}</header>"]
    if column.refusal:
        parts.append(f'<p class="refused">did not run here: {escape(column.refusal)}</p>')
    else:
        parts += [_figure(column, *each) for each in zip(texts, column.tiles, column.points, strict=True)]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in column.parameters)
    foot = f"<details><summary>parameters</summary><dl>{rows}</dl></details>" if rows else ""
    foot += f"<details><summary>plan</summary><pre>{escape(column.plan)}</pre></details>" if column.plan else ""
    return "\n".join(["<article>", *parts, f"<footer>{foot}</footer>", "</article>"])


def _figure(column: Column, text: str, tile: Image.Image, point: Point) -> str:
    caption = f"<figcaption>{escape(text)} · {point.x}, {point.y}</figcaption>"
    return f"<figure>{caption}{_image(tile, f'{column.method}, {text}')}</figure>"


def _image(picture: Image.Image, about: str) -> str:
    return picture_element(picture_bytes(picture), picture.size, about)
