"""One frame's answer drawn on the frame, fast enough for every frame of a video."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError, unknown
from fastloc.imaging.overlay import colour_table
from fastloc.results.result import Point, Result
from fastloc.utils.hardware import processors
from fastloc.video.output import annotations as marks
from fastloc.video.output.annotations import Colour
from fastloc.video.output.canvas import Canvas, Mark, put
from fastloc.video.output.heat_rendering import heat_of, reduced
from fastloc.video.output.painting import least_of, paint, paints
from fastloc.video.output.peaks import peaks_of
from fastloc.video.output.plane_painting import PlanePaints, paint_planes, plane_paints
from fastloc.video.output.warm_parts import MOST, parts_of, warm_parts
from fastloc.video.sources.frame import Frame
from fastloc.video.sources.planes import Planes

__all__ = ["STYLES", "Drawer", "hue"]

Pixels = NDArray[np.uint8]

# the first texts' colours, far from each other and from skin, sky and leaves; more are made
HUES: tuple[Colour, ...] = ((255, 84, 48), (40, 140, 255), (64, 214, 96), (255, 200, 20), (190, 90, 255), (0, 214, 210), (255, 90, 170))
# heat from which cover begins, and from which it is full: cold regions stay clear and a warm core is evenly opaque
ALONE, AMONG = (0.1, 0.8), (0.3, 0.9)
# pixels of a frame from which on a second thread pays for its start, and the most threads: the model, and the encoder, have work too
SHARED, THREADS = 1 << 20, 2
# long side of a sheet of tiles, unless the frames' is longer, and the gap between them
SHEET, GAP = 1920, 4
# width over height that a sheet aims at: wide enough that two pictures lie side by side
SCREEN = 1.9


class Drawer:
    """Draws results: call it with pixels, uint8 [H, W, 3], or `Planes`, and their `Result`, and get new ones of the same size, or a sheet
    of tiles, which is pixels. `on` draws on a frame of a source, in the form that costs least.

    Attributes:
        style: a row of `STYLES`
        opacity: of the warmest heat, above 0 up to 1
        threshold: heat from which there is a box, and a ring: a map that limits keep cold has none
        colormap: for one text alone, and for tiles: see `fastloc.imaging.overlay`
        threads: that paint heat over a frame of `SHARED` pixels or more; by default 2, or 1 where the process may use one processor

    The same input gives the same bytes. Raises FastlocError for an unknown style or colour map and for numbers out of range.
    """

    def __init__(
        self, style: str = "heat", opacity: float = 0.6, threshold: float = 0.5, colormap: str = "turbo", threads: int | None = None
    ) -> None:
        if style not in STYLES:
            raise FastlocError(unknown("style", style, STYLES))
        for name, value in (("opacity", opacity), ("threshold", threshold)):
            if not 0 < value <= 1:
                raise FastlocError(f"{name} must be above 0 and at most 1, got {value!r}")
        if threads is not None and threads < 1:
            raise FastlocError(f"threads must be 1 or more, got {threads!r}")
        self._draw, self._threshold, self._opacity = STYLES[style], threshold, opacity
        self._threads = min(processors(), THREADS) if threads is None else threads
        self._alone = _Inks(colour_table(colormap).round().astype(np.uint8), _cover(*ALONE, opacity))

    @overload
    def __call__(self, canvas: Pixels, result: Result) -> Pixels: ...

    @overload
    def __call__(self, canvas: Planes, result: Result) -> Canvas: ...

    def __call__(self, canvas: Canvas, result: Result) -> Canvas:
        """The drawn frame, or the sheet of tiles."""
        return self._draw(self, canvas, result)

    def on(self, frame: Frame, result: Result) -> Canvas:
        """The drawn frame for a `VideoWriter`: in the decoder's planes where it has some (`Frame.planes`), else in RGB."""
        planes = None if self._draw is Drawer.tiles else frame.planes
        return self._draw(self, frame.rgb if planes is None else planes, result)

    def heat(self, canvas: Canvas, result: Result) -> Canvas:
        """Heat over the picture: of one text in the colour map, of several each in its own colour, the strongest on top."""
        count = len(result.texts)
        inks = self._alone if count == 1 else _among(count, self._opacity)
        high, wide = canvas.shape[:2]
        threads = self._threads if high * wide >= SHARED else 1
        least = least_of(inks.words)
        painted: Canvas
        if isinstance(canvas, Planes):
            painted = paint_planes(canvas, warm_parts(result, (high // 2, wide // 2), least, threads), inks.planes)
        else:
            painted = paint(canvas, warm_parts(result, (high, wide), least, threads), inks.words)
        peaks = peaks_of(result)
        self._rings(painted, peaks)
        _legend(painted, peaks)
        return painted

    def tiles(self, canvas: Canvas, result: Result) -> Pixels:
        """The picture and each text's heat over it, side by side."""
        picture = Image.fromarray(np.ascontiguousarray(canvas.rgb() if isinstance(canvas, Planes) else canvas))
        count = len(result.texts) + 1
        columns = _columns(count, picture.width / picture.height)
        rows = math.ceil(count / columns)
        scale = min(max(SHEET, *picture.size) / max(columns * picture.width, rows * picture.height), 1.0)
        width, height = (max(round(side * scale), 1) for side in picture.size)
        sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP))
        base = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2)
        sheet.paste(base, (0, 0))
        peaks = [replace(peak, x=int(peak.x * scale), y=int(peak.y * scale)) for peak in peaks_of(result)]
        for index, (peak, heat) in enumerate(zip(peaks, heat_of(result, (height, width)), strict=True), start=1):
            tile = paint(np.asarray(base), parts_of(heat[None]), self._alone.words)
            self._rings(tile, [peak])
            _legend(tile, [peak])
            sheet.paste(Image.fromarray(tile), (index % columns * (width + GAP), index // columns * (height + GAP)))
        return np.asarray(sheet)

    def boxes(self, canvas: Canvas, result: Result) -> Canvas:
        """Boxes around what is warm; the text, and the similarity at its peak, stand at the box that the peak is in."""
        drawn, (high, wide) = canvas.copy(), canvas.shape[:2]
        size, small, named = marks.font_size(high), reduced(result), set[str]()
        across, down = wide / small.picture.width, high / small.picture.height
        known = {peak.text: (hue(index), _number(peak.similarity)) for index, peak in enumerate(peaks_of(result))}
        for box in small.boxes(self._threshold):
            colour, number = known[box.text]
            left, top, right, bottom = round(box.x0 * across), round(box.y0 * down), round(box.x1 * across), round(box.y1 * down)
            for side, x, y in marks.outline((left, top, right, bottom), colour, max(size // 8, 2)):
                put(drawn, side, x, y)
            if box.text not in named:
                named.add(box.text)
                card = marks.chip(box.text, number, colour, size, wide // 2)
                _place(drawn, card, left, top - card.height - 2 if top > card.height else top + 2)
        return drawn

    def points(self, canvas: Canvas, result: Result) -> Canvas:
        """A ring around each peak, with its text below."""
        drawn, (high, wide) = canvas.copy(), canvas.shape[:2]
        size, peaks = marks.font_size(high), peaks_of(result)
        self._rings(drawn, peaks)
        for index, peak in enumerate(peaks):
            if peak.value >= self._threshold:
                card = marks.chip(peak.text, _number(peak.similarity), hue(index), size, wide // 2)
                _place(drawn, card, peak.x - card.width // 2, peak.y + round(size * 0.9))
        return drawn

    def _rings(self, canvas: Canvas, peaks: list[Point]) -> None:
        """A ring around each peak that is warm: white, its centre in the text's colour where there are several."""
        radius = max(round(marks.font_size(canvas.shape[0]) * 0.45), 5)
        for index, peak in enumerate(peaks):
            if peak.value >= self._threshold:
                mark = marks.ring(radius, hue(index) if len(peaks) > 1 else marks.INK)
                put(canvas, mark, peak.x - mark.width // 2, peak.y - mark.height // 2)


STYLES: dict[str, Callable[[Drawer, Canvas, Result], Canvas]] = {
    "heat": Drawer.heat, "tiles": Drawer.tiles, "boxes": Drawer.boxes, "points": Drawer.points,
}  # fmt: skip


@lru_cache(maxsize=MOST)
def hue(index: int) -> Colour:
    """The colour of the text with this index."""
    if index < len(HUES):
        return HUES[index]
    # the golden angle keeps neighbours apart, however many there are
    red, green, blue = colorsys.hsv_to_rgb((index * 0.618034) % 1, 0.7, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


class _Inks:
    """Paints of heat, made at first use: RGB colours [256 * n, 3] and the cover [256] of each step of it."""

    def __init__(self, colours: Pixels, cover: list[int]) -> None:
        self._colours, self._cover = colours, cover

    @cached_property
    def words(self) -> NDArray[np.uint32]:
        return paints(self._colours, self._cover)

    @cached_property
    def planes(self) -> PlanePaints:
        return plane_paints(self._colours, self._cover)


@lru_cache(maxsize=16)
def _among(count: int, opacity: float) -> _Inks:
    """The paints of several texts."""
    hues = np.array([hue(index) for index in range(min(count, MOST))], np.uint8)
    return _Inks(np.repeat(hues, 256, axis=0), _cover(*AMONG, opacity))


def _cover(start: float, full: float, opacity: float) -> list[int]:
    """Opacity of each step of heat, 0 … 255."""
    rise = np.clip((np.arange(256) / 255 - start) / (full - start), 0, 1)
    steps: list[int] = np.rint(255 * opacity * rise * rise * (3 - 2 * rise)).astype(int).tolist()
    return steps


def _legend(canvas: Canvas, peaks: list[Point]) -> None:
    """A card for each text, in the upper left corner: its colour and the similarity at its peak; as many as there is room for."""
    high, wide = canvas.shape[:2]
    size = marks.font_size(high)
    left = top = max(size // 2, 4)
    for index, peak in enumerate(peaks):
        card = marks.chip(peak.text, _number(peak.similarity), hue(index) if len(peaks) > 1 else None, size, wide - 2 * left)
        if index and top + card.height > high:
            return
        put(canvas, card, left, top)
        top += card.height + max(size // 4, 2)


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}"


def _columns(count: int, aspect: float) -> int:
    """Number of columns with which a sheet comes closest to a screen's shape, with few empty cells."""

    def awkward(columns: int) -> float:
        rows = math.ceil(count / columns)
        return abs(math.log(columns * aspect / rows / SCREEN)) + (columns * rows - count) / count

    return min(range(1, count + 1), key=awkward)


def _place(canvas: Canvas, card: Mark, left: int, top: int) -> None:
    """Put a mark at a position, or as near to it as the edges allow."""
    high, wide = canvas.shape[:2]
    put(canvas, card, max(min(left, wide - card.width), 0), max(min(top, high - card.height), 0))
