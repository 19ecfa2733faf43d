"""The contact sheet as one picture: a row a text and a column a method, in as many bands of columns as fit a screen's width."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from fastloc.analysis.explain import Column, Explained
from fastloc.imaging.overlay import FAINT, FONT, GAP, INK, MARGIN, PAGE, SMALL, colour_table, fitted, font_for, legend

__all__ = ["sheet"]

# the largest width of a band of columns in pixels, and the least width of a narrow tile, which leaves room for its method's name
WIDE, NARROWEST = 2200, 150
# with more methods than this, tiles are shown at three quarters of their size
MANY = 6
HEAD, CAPTION, TIME, BETWEEN, FOOT, LINE = 34, 30, 30, 26, 44, 18
EMPTY, RULE = (240, 242, 244), (208, 212, 217)
Ink = tuple[int, int, int]


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels: a tile, a column's width. Counts: methods a band, bands, texts."""

    tile: tuple[int, int]
    column: int
    across: int
    bands: int
    texts: int

    @property
    def width(self) -> int:
        return 2 * MARGIN + (self.across + 1) * (self.column + GAP) - GAP

    @property
    def band(self) -> int:
        return HEAD + self.texts * (CAPTION + self.tile[1]) + TIME + BETWEEN

    def left(self, place: int) -> int:
        """The left edge of column `place` in a band: 0 is the picture, the others are the band's methods."""
        return MARGIN + place * (self.column + GAP)

    def top(self, band: int, text: int) -> int:
        """The top edge of a text's tiles in a band."""
        return MARGIN + band * self.band + HEAD + text * (CAPTION + self.tile[1]) + CAPTION


def sheet(explained: Explained, colormap: str = "turbo") -> Image.Image:
    """The sheet, RGB. A method that could not run shows the reason in place of its first tile."""
    layout = _layout(explained)
    notes = _wrapped(explained.timing, layout.width - 2 * MARGIN, SMALL)
    high = 2 * MARGIN + layout.bands * layout.band + FOOT + LINE * len(notes)
    made = Image.new("RGB", (layout.width, high), PAGE)
    for band in range(layout.bands):
        _band(made, layout, explained, band)
    draw = ImageDraw.Draw(made)
    for index, line in enumerate(notes):
        place = MARGIN, high - MARGIN - FOOT - LINE * (len(notes) - index) + 18
        draw.text(place, line, fill=FAINT, font=font_for(line, SMALL), anchor="ls")
    note = ", ".join(filter(None, (explained.name, explained.model)))
    legend(made, colour_table(colormap), ("low", "high"), note)
    return made


def _layout(explained: Explained) -> _Layout:
    count = len(explained.columns)
    width, height = explained.picture.size
    tile = (width, height) if count <= MANY else (max(width * 3 // 4, 1), max(height * 3 // 4, 1))
    column = max(tile[0], NARROWEST)
    most = max((WIDE - 2 * MARGIN) // (column + GAP) - 1, 1)
    bands = math.ceil(count / most)
    # columns are spread evenly, so that the last band is not one lonely method
    return _Layout(tile, column, math.ceil(count / bands), bands, len(explained.texts))


def _band(made: Image.Image, layout: _Layout, explained: Explained, band: int) -> None:
    """Draw the picture again, and this band's methods beside it."""
    height, width = explained.size
    if band:
        y = MARGIN + band * layout.band - BETWEEN // 2
        ImageDraw.Draw(made).line((MARGIN, y, layout.width - MARGIN, y), fill=RULE)
    _line(made, layout, 0, layout.top(band, 0) - CAPTION - 12, f"picture, {width} x {height}", FAINT, FONT)
    for index, text in enumerate(explained.texts):
        top = layout.top(band, index)
        font = font_for(text, FONT)
        ImageDraw.Draw(made).text((MARGIN, top - 9), fitted(text, layout.width - 2 * MARGIN, font), fill=INK, font=font, anchor="ls")
        _paste(made, explained.picture, layout, (layout.left(0), top))
    shown = explained.columns[band * layout.across : (band + 1) * layout.across]
    for place, column in enumerate(shown, start=1):
        _method(made, layout, band, place, column)


def _method(made: Image.Image, layout: _Layout, band: int, place: int, column: Column) -> None:
    left = layout.left(place)
    _line(made, layout, place, layout.top(band, 0) - CAPTION - 12, column.method, INK, FONT)
    for index in range(layout.texts):
        top = layout.top(band, index)
        if column.tiles:
            _paste(made, column.tiles[index], layout, (left, top))
        else:
            made.paste(EMPTY, (left, top, left + layout.tile[0], top + layout.tile[1]))
    if column.refusal:
        _reason(made, layout, (left, layout.top(band, 0)), column.refusal)
    below = layout.top(band, layout.texts - 1) + layout.tile[1] + 20
    _line(made, layout, place, below, "did not run" if column.ms is None else milliseconds(column.ms), FAINT, SMALL)


def _paste(made: Image.Image, tile: Image.Image, layout: _Layout, corner: tuple[int, int]) -> None:
    made.paste(tile if tile.size == layout.tile else tile.resize(layout.tile, Image.Resampling.LANCZOS), corner)


def _reason(made: Image.Image, layout: _Layout, corner: tuple[int, int], reason: str) -> None:
    inset = 10
    lines = _wrapped(reason, layout.tile[0] - 2 * inset, SMALL)
    room = max((layout.tile[1] - 2 * inset) // LINE, 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], lines[room - 1].rstrip() + " …"]
    for index, line in enumerate(lines):
        font = font_for(line, SMALL)
        place = corner[0] + inset, corner[1] + inset + 12 + index * LINE
        ImageDraw.Draw(made).text(place, fitted(line, layout.tile[0] - 2 * inset, font), fill=INK, font=font, anchor="ls")


def _line(made: Image.Image, layout: _Layout, place: int, y: int, text: str, ink: Ink, size: int) -> None:
    font = font_for(text, size)
    ImageDraw.Draw(made).text((layout.left(place), y), fitted(text, layout.column, font), fill=ink, font=font, anchor="ls")


def _wrapped(text: str, width: int, size: int) -> list[str]:
    """The text in lines of at most `width` pixels, broken between words."""
    font: ImageFont.FreeTypeFont = font_for(text, size)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def milliseconds(ms: float) -> str:
    """A duration with three digits and its unit."""
    return f"{ms / 1000:.3g} s" if ms >= 1000 else f"{ms:#.3g} ms".replace(". ms", " ms")
