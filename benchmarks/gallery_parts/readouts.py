"""One result, read in five ways: heat, mask, peaks, boxes and labels."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fastloc import Localizer
from fastloc.results.result import Box, Result
from gallery_parts.tiles import Picture, heat, plain, scene

__all__ = ["readouts"]

GROUP, WIDTH = "readouts", 320
# one a text, far apart for readers who see few colours
INKS = ((213, 94, 0), (0, 114, 178), (0, 158, 115))
# drawn this much larger and scaled down: Pillow's shapes have hard edges
SMOOTH = 4
COVER = 0.6
BOXED = 0.7


def readouts(localizer: Localizer) -> Iterator[Picture]:
    """The tiles, of the recommended method on the street."""
    street = scene("street")
    result = localizer(street.picture, list(street.positives))
    boxes = result.boxes(BOXED)
    drawn = (
        ("heat", "Heat of the dog", "`heatmaps`, here of *dog*", heat(result, "dog", WIDTH)),
        ("mask", "The dog's mask, where heat reaches one half", "`masks(0.5)`, here of *dog*", _masked(result, "dog")),
        ("points", f"{len(result.points())} rings, one a text, each in its colour", "`points()`", _points(result)),
        ("boxes", f"{len(boxes)} boxes, each in its text's colour", f"`boxes({BOXED})`", _boxes(boxes, result)),
        ("labels", "Pixels in the colour of their most similar text", "`labels(0.5)`", _labels(result)),
    )
    for name, alt, caption, tile in drawn:
        yield Picture(f"readout-{name}", GROUP, alt, caption, (tile,))


def _masked(result: Result, text: str) -> Image.Image:
    index = result.texts.index(text)
    return _coloured(result, np.where(result.masks(0.5)[index], index, -1))


def _labels(result: Result) -> Image.Image:
    return _coloured(result, result.labels(0.5))


def _coloured(result: Result, labels: NDArray[np.signedinteger]) -> Image.Image:
    """The picture with pixels of labels [H, W] from 0 in their ink, and the others as they are."""
    pixels = np.asarray(result.picture, np.float32)
    inks = np.asarray(INKS, np.float32)[np.maximum(labels, 0)]
    mixed = np.where((labels >= 0)[..., None], COVER * inks + (1 - COVER) * pixels, pixels)
    return plain(Image.fromarray(np.rint(mixed).astype(np.uint8)), WIDTH)


def _points(result: Result) -> Image.Image:
    canvas, scale = _canvas(result)
    draw = ImageDraw.Draw(canvas)
    for point in result.points():
        centre = ((point.x + 0.5) * scale, (point.y + 0.5) * scale)
        for radius, width, ink in ((9.0, 5.5, (255, 255, 255)), (8.0, 3.5, INKS[result.texts.index(point.text)])):
            draw.circle(centre, radius * SMOOTH, outline=ink, width=round(width * SMOOTH))
    return canvas.resize((WIDTH, canvas.height // SMOOTH), Image.Resampling.BOX)


def _boxes(boxes: list[Box], result: Result) -> Image.Image:
    canvas, scale = _canvas(result)
    draw = ImageDraw.Draw(canvas)
    for box in boxes:
        corners = [value * scale for value in (box.x0, box.y0, box.x1, box.y1)]
        for width, ink in ((4.0, (255, 255, 255)), (2.5, INKS[result.texts.index(box.text)])):
            draw.rectangle(corners, outline=ink, width=round(width * SMOOTH))
    return canvas.resize((WIDTH, canvas.height // SMOOTH), Image.Resampling.BOX)


def _canvas(result: Result) -> tuple[Image.Image, float]:
    """The picture, SMOOTH times a tile, and canvas pixels for each of the picture's."""
    canvas = plain(result.picture, WIDTH * SMOOTH)
    return canvas, canvas.width / result.picture.width
