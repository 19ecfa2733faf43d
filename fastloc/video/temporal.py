"""Smoothing of maps over frames, and the scaling of similarities to heat that does not flicker.

Heat by each frame's own min-max always reaches from 0 to 1: noise of an empty scene looks like a find, and the colours of a still one
change as something else moves. The other scalings fix the similarities of 0 and 1; `benchmarks/records/video.json` measures each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, unknown
from fastloc.imaging.heatmaps import COMPETING
from fastloc.recipes import RECIPES
from fastloc.results.prediction import Prediction
from fastloc.video.locator import Prompts

__all__ = ["BACKGROUND", "MAPS", "Temporal", "against"]

Floats = NDArray[np.float32]

MAPS = {
    "frame": "each frame's own lowest and highest similarity",
    "running": "a range that widens at once and narrows slowly: what has left cools down",
    "background": "the text's probability against background texts: what is not there stays cold",
}
# things that most pictures hold and few people ask for: the texts that others are compared with by default
BACKGROUND = (
    "sky", "cloud", "ground", "grass", "tree", "building", "wall", "floor", "ceiling", "window", "road", "street", "water", "rock",
    "mountain", "furniture", "shadow", "light", "pattern", "nothing",
)  # fmt: skip
# seconds in which a range narrows by half. It widens at once: one that widens as slowly cuts peaks off, and points worse
NARROWS = 2.0


class Temporal:
    """The state of one stream.

    Args:
        smooth: half-life in seconds of the exponential mean of the similarity grid; 0 for none. What a frame counts depends on the time
            since the one before, so that it means the same at every frame rate.
        maps: a row of `MAPS`, or the two similarities (low, high) at which heat is 0 and 1.
        scale: for "background", what cosines are multiplied by before the softmax: the model's own `logit_scale`; None where it has none.

    Raises FastlocError for values out of range.
    """

    def __init__(self, smooth: float, maps: str | Sequence[float], scale: float | None) -> None:
        if not (isinstance(smooth, (int, float)) and math.isfinite(smooth) and smooth >= 0):
            raise FastlocError(f"smooth must be a half-life in seconds, 0 or more, got {smooth!r}")
        if scale is not None and not (isinstance(scale, (int, float)) and math.isfinite(scale) and scale > 0):
            raise FastlocError(f"scale must be a number above 0, got {scale!r}")
        self.smooth, self.scale = float(smooth), None if scale is None else float(scale)
        self.maps, self.fixed = _chosen(maps)
        if self.maps == "background" and scale is None:
            raise FastlocError(
                "maps must be 'frame' or 'running' for a classifier, got 'background'; that needs a logit scale, which it lacks"
            )
        self._before: Prediction | None = None
        self._time = 0.0
        self._range: Floats | None = None

    def apply(self, located: Prediction, time: float, prompts: Prompts) -> Prediction:
        """One frame's similarities for the texts alone, smoothed, and with the limits of their heat.

        located is what the pass said of all prompts; time is the frame's in seconds, and not before the last one's. Raises FastlocError
        where the method has no such maps.
        """
        passed, self._time = max(time - self._time, 0.0), time
        located, count = self._smoothed(located, passed), len(prompts.texts)
        if self.maps == "background":
            assert self.scale is not None
            return against(located, count, self.scale)
        located = first(located, count)
        if self.maps == "frame":
            return located
        _check_limited(located, self.maps)
        limits = self._running(located, passed) if self.fixed is None else np.tile(np.asarray(self.fixed, np.float32), (count, 1))
        return replace(located, order="picture", limits=limits)

    def _smoothed(self, located: Prediction, passed: float) -> Prediction:
        before = self._before
        if before is not None and not _same(before, located):
            before = self._range = None
        if self.smooth and before is not None:
            share = np.float32(0.5 ** (passed / self.smooth))
            located = replace(located, similarity=located.similarity + share * (before.similarity - located.similarity))
        self._before = located
        return located

    def _running(self, located: Prediction, passed: float) -> Floats:
        """[T, 2]: as wide as this frame's at least; what lies outside of it fades."""
        seen = located.geometry.seen((located.similarity.shape[1], located.similarity.shape[2]))
        region = located.similarity[(slice(None), *seen)]
        now: Floats = np.stack([region.min((1, 2)), region.max((1, 2))], 1)
        if self._range is not None:
            held = now + np.float32(0.5 ** (passed / NARROWS)) * (self._range - now)
            now = np.stack([np.minimum(now[:, 0], held[:, 0]), np.maximum(now[:, 1], held[:, 1])], 1)
        self._range = now
        return now


def against(located: Prediction, count: int, scale: float) -> Prediction:
    """Each of the first `count` texts' probability [count, h, w] against the texts behind them, and not against one another.

    p_t = e^(scale s_t) / (e^(scale s_t) + sum over background texts b of e^(scale s_b)), at every patch. Heat is that number itself.
    Raises FastlocError without a background, and for methods whose similarities are no cosines.
    """
    row = RECIPES.get(located.method)
    if row is not None and row.reads != "patches":
        raise FastlocError(f"maps must be 'running' or 'frame' for method {located.method!r}, which gives relevances, got 'background'")
    if len(located.texts) <= count:
        raise FastlocError("background must be one or more texts where maps is 'background', got none; name what else a picture may hold")
    scores = -located.similarity if located.reverse else located.similarity
    texts, others = scores[:count] * np.float32(scale), scores[count:] * np.float32(scale)
    top = others.max(0)
    rest = np.log(np.exp(others - top).sum(0)) + top
    share = 1 / (1 + np.exp(np.clip(rest - texts, -80, 80)))
    kept = first(located, count)
    limits = np.tile(np.array([0, 1], np.float32), (count, 1))
    return replace(kept, similarity=share.astype(np.float32), order="picture", reverse=False, limits=limits)


def _check_limited(located: Prediction, maps: str) -> None:
    if located.order in COMPETING and len(located.texts) > 1:
        raise FastlocError(
            f"maps must be 'frame' for method {located.method!r}, whose heat is a text's share among all and does not flicker, got {maps!r}"
        )


def first(located: Prediction, count: int) -> Prediction:
    """The first `count` texts alone."""
    if len(located.texts) == count:
        return located
    kept = {name: values[:count] for name in ("scores", "image_scores") if (values := getattr(located, name)) is not None}
    return replace(located, texts=located.texts[:count], similarity=located.similarity[:count], **kept)


def _same(before: Prediction, now: Prediction) -> bool:
    """True if two frames' similarities can be averaged."""
    names = ("texts", "geometry", "method")
    return before.similarity.shape == now.similarity.shape and all(getattr(before, name) == getattr(now, name) for name in names)


def _chosen(maps: Any) -> tuple[str, tuple[float, float] | None]:
    if isinstance(maps, str):
        if maps not in MAPS:
            raise FastlocError(unknown("kind of maps", maps, MAPS) + "; or two similarities (low, high)")
        return maps, None
    try:
        low, high = (float(each) for each in maps)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise FastlocError(f"maps must be one of {', '.join(MAPS)}, or two similarities (low, high), the lower first, got {maps!r}")
    return "fixed", (low, high)
