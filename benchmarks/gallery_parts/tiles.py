"""A picture of the gallery, the sample scenes, and the drawing that its pictures share."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.analysis import scenes
from fastloc.analysis.scenes import Scene
from fastloc.imaging.overlay import colour_table, heat_tile
from fastloc.results.result import Result

__all__ = ["Picture", "Scene", "heat", "plain", "scene", "where"]

COLORMAP, ALPHA = "turbo", 0.7
BACKGROUND = "the background"


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture before it is written.

    name      the file's stem
    group     the strip that it belongs to, or "methods"
    alt       the words for readers who do not see it
    caption   Markdown below it, with links from docs/
    frames    RGB, the same size; several make a loop
    """

    name: str
    group: str
    alt: str
    caption: str
    frames: tuple[Image.Image, ...]


@cache
def scene(name: str) -> Scene:
    """A sample scene with its texts and exact masks."""
    return {each.name: each for each in scenes.samples()}[name]


@cache
def _colours() -> NDArray[np.float32]:
    return colour_table(COLORMAP)


def plain(picture: Image.Image, width: int) -> Image.Image:
    """The picture at a tile's width, in pixels."""
    return picture.resize((width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS)


def heat(result: Result, text: str, width: int) -> Image.Image:
    """One text's heat over the picture, its peak ringed."""
    index = result.texts.index(text)
    peak = result.points()[index]
    return heat_tile(plain(result.picture, width), result.heatmaps[index], (peak.x, peak.y), _colours(), ALPHA)


def where(result: Result, text: str, shown: Scene) -> str:
    """The thing of the scene that the text's peak lies on, in words."""
    peak = result.points()[result.texts.index(text)]
    if shown.masks is None:
        raise ValueError(f"scene {shown.name!r} must have masks")
    on = [f"the {thing}" for thing, mask in zip(shown.positives, shown.masks, strict=True) if mask[peak.y, peak.x]]
    return on[0] if on else BACKGROUND
