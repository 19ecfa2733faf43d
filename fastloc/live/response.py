"""From a frame to an answer: every method on the same pixels, heat at the size that a browser needs, peaks and boxes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.imaging import heatmaps
from fastloc.live.method_pool import Setup, Way
from fastloc.results.result import Result
from fastloc.video.locator import Prediction
from fastloc.video.sources.frame import Frame

__all__ = ["SIDE", "answered"]

# about the long side of the heat that is sent; a browser makes a smooth picture of any size of it
SIDE = 112


def answered(frame: Frame, setup: Setup) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """The answers of all methods of a setup to a frame.

    Returns: facts {"revision", "texts", "methods", "peaks": of each method of each text (x, y, heat, similarity), "boxes": of each method
    (text's index, x0, y0, x1, y1, heat), "decode", "inference", "readout": ms}, and heat uint8 [M, T, h, w]. Positions are shares of the
    frame's width and height; a text without heat has no peak, None.
    """
    started = time.perf_counter()
    _ = frame.rgb
    decoded = time.perf_counter()
    # all methods first: what is slow in them is the model
    found = [_located(frame, way) for way in setup.ways]
    located = time.perf_counter()
    results = [_small(each) for each in found]
    heat = np.stack([_heat(result) for result in results])
    settings = setup.settings
    facts = {
        "revision": setup.revision,
        "texts": list(settings.texts),
        "methods": list(settings.methods),
        "peaks": [_peaks(result) for result in results],
        "boxes": [_boxes(result, settings.threshold) if settings.boxes else [] for result in results],
        "decode": _ms(decoded - started),
        "inference": _ms(located - decoded),
        "readout": _ms(time.perf_counter() - located),
    }
    return facts, np.rint(heat * 255).astype(np.uint8)


def _located(frame: Frame, way: Way) -> Prediction:
    return way.temporal.apply(way.locator.locate(frame, way.prompts), frame.time, way.prompts)


def _small(located: Prediction) -> Result:
    """The result as if the frame were small: positions in the model's input stay as they are, and everything is read off few pixels.

    An odd number of pixels lie across a patch, so that one of them has its centre, where heat peaks.
    """
    geometry, grid = located.geometry, located.similarity.shape[1:]
    cells = [resized * count / side for resized, count, side in zip(geometry.resized, grid, geometry.input, strict=True)]
    across = max(int(SIDE / max(cells) + 1) // 2 * 2 - 1, 1)
    height, width = (max(round(across * count), 1) for count in cells)
    return replace(located, geometry=replace(geometry, picture=(height, width))).result(Image.new("RGB", (width, height)))


def _heat(result: Result) -> NDArray[np.float32]:
    # raw similarities have no common 0 and 1
    return heatmaps.minmax(result.heatmaps) if result.order == "none" and result.limits is None else result.heatmaps.clip(0, 1)


def _peaks(result: Result) -> list[list[float] | None]:
    height, width = result.geometry.picture
    found: list[list[float] | None] = []
    for point, heat in zip(result.points(), result.heatmaps, strict=True):
        at = [_share(point.x + 0.5, width), _share(point.y + 0.5, height), round(point.value, 3), round(point.similarity, 4)]
        found.append(at if heat.any() else None)
    return found


def _boxes(result: Result, threshold: float) -> list[list[float]]:
    height, width = result.geometry.picture
    index = {text: i for i, text in enumerate(result.texts)}
    return [
        [index[box.text], _share(box.x0, width), _share(box.y0, height), _share(box.x1, width), _share(box.y1, height), round(box.value, 3)]
        for box in result.boxes(threshold)
    ]


def _share(at: float, whole: int) -> float:
    return round(at / whole, 4)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)
