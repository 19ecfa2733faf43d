"""A sheet of tiles that shows each text's heatmap: the picture first, then one tile a text."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fastloc.errors import FastlocError, unknown
from fastloc.imaging.heat_arrays import to_steps

__all__ = ["COLORMAPS", "colour_table", "fitted", "font_for", "heat_tile", "legend", "paint", "render", "tile_size", "write"]

Heat = NDArray[np.float32] | NDArray[np.uint8]

# suggestions for an error message; every map of the cmap package works
COLORMAPS = ("turbo", "viridis", "magma", "inferno", "plasma", "cividis", "hot", "gray")

PAGE, INK, FAINT = (255, 255, 255), (31, 35, 40), (118, 126, 136)
MARGIN, GAP, CAPTION, FOOT = 20, 14, 30, 44
FONT, SMALL = 16, 13
# a tile's long side (the larger limit while few tiles share a row), a narrow tile's least width for its caption, the sheet's most pixels
SMALLEST, LARGE, LARGEST, NARROWEST, SHEET = 320, 480, 640, 140, 24_000_000
# what a heat tile keeps of the picture's colours, so that the heat's own stand out
SATURATION = 0.6
# tried in turn for a caption that Pillow's bundled font cannot write
FALLBACKS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc")
# drawn this much larger and scaled down: Pillow's shapes have hard edges
SMOOTH = 4
# of sheets of twelve photographs with four texts 6% more bytes than level 6, Pillow's own, in 0.27 of its time; level 4 0.4% and 0.50
PNG_LEVEL = 1
# Pillow averages blocks of pixels first, down to this many times the size that its resize then has to read
GAP_OF_RESIZE = 2.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes in pixels: the pictures' (width, height) inside their cells, the cells, and the grid of cells."""

    tile: tuple[int, int]
    cell: tuple[int, int]
    columns: int
    rows: int

    @property
    def sheet(self) -> tuple[int, int]:
        width = 2 * MARGIN + self.columns * (self.cell[0] + GAP) - GAP
        return width, 2 * MARGIN + self.rows * (self.cell[1] + GAP) - GAP + FOOT

    def corner(self, index: int) -> tuple[int, int]:
        """The left top of the cell."""
        row, column = divmod(index, self.columns)
        return MARGIN + column * (self.cell[0] + GAP), MARGIN + row * (self.cell[1] + GAP)


def render(
    picture: Image.Image,
    texts: Sequence[str],
    heatmaps: Heat,
    peaks: Sequence[tuple[int, int] | None],
    alpha: float = 0.5,
    colormap: str = "turbo",
    ends: tuple[str, str] = ("0", "1"),
    note: str = "",
) -> Image.Image:
    """The sheet, RGB: the picture and T tiles with heatmaps [T, h, w] blended over it, float32 in [0, 1] or uint8 in steps of 1/255.

    Heat of any size is scaled to the tiles'; heat that has `tile_size` is taken as it is. It is as opaque as it is high, up to alpha in
    (0, 1], so that cold regions show the picture. peaks are (x, y) pixels of the picture, ringed, or None. ends are the legend's two labels
    and note a line beside it. Raises FastlocError for an alpha out of range and for a colour map that is not known.
    """
    if not 0 < alpha <= 1:
        raise FastlocError(f"alpha must be above 0 and at most 1, got {alpha!r}")
    colours = colour_table(colormap)
    layout = _layout(picture.size, len(texts) + 1)
    sheet = Image.new("RGB", layout.sheet, PAGE)
    base = picture.resize(layout.tile, Image.Resampling.LANCZOS, reducing_gap=GAP_OF_RESIZE)
    _place(sheet, layout, 0, base, f"picture, {picture.width} x {picture.height}", FAINT)
    for index, (text, heat, peak) in enumerate(zip(texts, heatmaps, peaks, strict=True), start=1):
        tile = heat_tile(base, heat, peak, colours, alpha, picture.size[::-1])
        _place(sheet, layout, index, tile, text, INK)
    legend(sheet, colours, ends, note)
    return sheet


def tile_size(picture: tuple[int, int], texts: int) -> tuple[int, int]:
    """(height, width) of the tiles that `render` makes of a picture of (height, width) and so many texts."""
    width, height = _layout(picture[::-1], texts + 1).tile
    return height, width


def heat_tile(
    base: Image.Image, heat: Heat, peak: tuple[int, int] | None, colours: NDArray[np.float32], alpha: float = 0.5,
    size: tuple[int, int] | None = None,
) -> Image.Image:  # fmt: skip
    """The picture at a tile's size, RGB, with a heatmap [H, W] over it, float32 in [0, 1] or uint8 in steps of 1/255, and its peak (x, y)
    ringed, a pixel of a picture of `size` (height, width), by default of the map; colours are a `colour_table`."""
    tile = Image.blend(base.convert("L").convert("RGB"), base, SATURATION)
    # smoothstep, full from 0.8 on: cold regions stay clear and the warm core is evenly opaque
    ramp = np.minimum(np.linspace(0, 1, 256) / 0.8, 1)
    steps = _at_size(heat, base.size)
    paint(tile, steps, steps, colours.round().astype(np.uint8), np.rint(255 * alpha * (ramp * ramp * (3 - 2 * ramp))).astype(int).tolist())
    if peak is not None:
        height, width = size or heat.shape
        _ring(tile, ((peak[0] + 0.5) * tile.width / width, (peak[1] + 0.5) * tile.height / height))
    return tile


def paint(picture: Image.Image, heat: NDArray[np.uint8], colour: NDArray[np.uint8], table: NDArray[np.uint8], cover: Sequence[int]) -> None:
    """Colours `table[colour]`, uint8 [H, W, 3], over the RGB picture, as opaque as `cover` [256] says of the heat [H, W], 255 for fully."""
    tint = Image.fromarray(colour)
    tint.putpalette(table.tobytes())
    picture.paste(tint.convert("RGB"), (0, 0), Image.fromarray(heat).point(cover))


def write(sheet: Image.Image, file: IO[bytes], kind: str) -> None:
    """Write a sheet in a format of Pillow's, into an open file; PNG a little larger and much sooner than by Pillow's default."""
    sheet.save(file, format=kind, **({"compress_level": PNG_LEVEL} if kind == "PNG" else {}))


def _layout(picture: tuple[int, int], count: int) -> Layout:
    long = min(max(*picture, SMALLEST), LARGEST if count <= 3 else LARGE)
    # many texts make smaller tiles, so that a hundred of them still open in a viewer
    long = min(long, max(int(math.sqrt(SHEET / count)), 64))
    scale = long / max(picture)
    tile = max(round(picture[0] * scale), 1), max(round(picture[1] * scale), 1)
    cell = max(tile[0], NARROWEST), tile[1] + CAPTION
    # one row while it is not too wide, then as close to a screen's shape as can be, with few empty cells
    columns = count
    if count > 5 or count * cell[0] > 4 * LARGE:
        columns = min(range(1, count + 1), key=lambda columns: _awkward(columns, math.ceil(count / columns), count, cell[0] / cell[1]))
    return Layout(tile, cell, columns, math.ceil(count / columns))


def _awkward(columns: int, rows: int, count: int, aspect: float) -> float:
    return abs(math.log(columns * aspect / rows / 1.6)) + (columns * rows - count) / count


def _at_size(heat: Heat, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Heat in steps of 1/255 on (width, height) pixels."""
    if heat.shape != size[::-1]:
        scaled = Image.fromarray(np.ascontiguousarray(heat)).resize(size, Image.Resampling.BILINEAR)
        heat = np.asarray(scaled).clip(0, 1) if heat.dtype == np.float32 else np.asarray(scaled)
    return to_steps(heat)


def _ring(tile: Image.Image, centre: tuple[float, float]) -> None:
    radius = max(max(tile.size) / 55, 6.0)
    half = math.ceil(radius) + 3
    left, top = math.floor(centre[0]) - half, math.floor(centre[1]) - half
    mark = Image.new("RGBA", (2 * half * SMOOTH, 2 * half * SMOOTH), (255, 255, 255, 0))
    draw = ImageDraw.Draw(mark)
    at = ((centre[0] - left) * SMOOTH, (centre[1] - top) * SMOOTH)
    # white between two dark lines shows on any colour
    for size, width, ink in ((radius + 1, 4.5, (0, 0, 0, 170)), (radius, 2.5, (255, 255, 255, 255))):
        draw.circle(at, size * SMOOTH, outline=ink, width=round(width * SMOOTH))
    draw.circle(at, 2.2 * SMOOTH, fill=(0, 0, 0, 170))
    draw.circle(at, 1.5 * SMOOTH, fill=(255, 255, 255, 255))
    mark = mark.resize((2 * half, 2 * half), Image.Resampling.BOX)
    tile.paste(mark, (left, top), mark)


def _place(sheet: Image.Image, layout: Layout, index: int, tile: Image.Image, text: str, ink: tuple[int, int, int]) -> None:
    left, top = layout.corner(index)
    font = font_for(text, FONT)
    ImageDraw.Draw(sheet).text((left, top + CAPTION - 10), fitted(text, layout.cell[0], font), fill=ink, font=font, anchor="ls")
    sheet.paste(tile, (left, top + CAPTION))


def legend(sheet: Image.Image, colours: NDArray[np.float32], ends: tuple[str, str], note: str) -> None:
    """Draw the colour scale at the sheet's foot, and a note at its right."""
    draw, font = ImageDraw.Draw(sheet), _font(SMALL)
    width = min(160, sheet.width // 3)
    y, x = sheet.height - MARGIN - FOOT // 2 + 8, MARGIN
    draw.text((x, y), ends[0], fill=FAINT, font=font, anchor="lm")
    x += math.ceil(font.getlength(ends[0])) + 8
    ramp = colours[np.linspace(0, 255, width).astype(np.uint8)].round().astype(np.uint8)
    sheet.paste(Image.fromarray(np.repeat(ramp[None], 10, axis=0)), (x, y - 5))
    x += width + 8
    draw.text((x, y), ends[1], fill=FAINT, font=font, anchor="lm")
    x += math.ceil(font.getlength(ends[1])) + 24
    draw.text((sheet.width - MARGIN, y), fitted(note, sheet.width - MARGIN - x, font), fill=FAINT, font=font, anchor="rm")


def fitted(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text on one line, cut with an ellipsis where it is wider than this many pixels."""
    # control characters would start a second line; no caption holds more than 400 characters, and measuring costs by length
    line = " ".join("".join(" " if unicodedata.category(c).startswith("C") else c for c in text[:400]).split())
    if len(text) <= 400 and font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line.rstrip() + "…" if line else ""


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """The bundled font, or the machine's first font that has every letter of the text, or else the bundled one, which draws empty boxes."""
    font, letters = _font(size), {c for c in text[:400] if not c.isspace()}
    if _writes(font, letters):
        return font
    for name in FALLBACKS:
        try:
            other = ImageFont.truetype(name, size)
        except OSError:
            continue
        if _writes(other, letters):
            return other
    return font


def _writes(font: ImageFont.FreeTypeFont, letters: set[str]) -> bool:
    # an unassigned code point draws as every missing letter does
    missing = bytes(font.getmask("\U0010fffe"))
    return all(bytes(font.getmask(letter)) != missing for letter in letters)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise FastlocError("captions need Pillow with FreeType, which every wheel of it has")
    return font


def colour_table(name: str) -> NDArray[np.float32]:
    """The map's 256 colours, float32 [256, 3] in [0, 255]."""
    # imported here: only drawing needs it
    import cmap

    try:
        found = cmap.Colormap(name)
    except (ValueError, TypeError):
        raise FastlocError(unknown("colour map", name, COLORMAPS)) from None
    return np.asarray(found(np.linspace(0, 1, 256)), np.float32)[:, :3] * 255
