"""Peaks of texts that compete: blocks where a text's share cannot be its greatest are left out, the others' pixels are made."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.heatmaps import Heat
from fastloc.imaging.readouts.blocks import corners_of, edges_of
from fastloc.imaging.readouts.runs import Runs

__all__ = ["peaks"]

Floats = NDArray[Any]
# pixels of a block, in texts, from which on its bounds cost less than its heat
WORTH = 16


def peaks(heat: Heat) -> list[tuple[int, int, float]] | None:
    """Of each text the (row, column) of its greatest share, of several the one nearest to their centre; and that share.

    None where it takes less to make the shares: of small pictures, and through the pixels of the model's input.
    """
    rows, columns = heat.geometry.covered()
    down, along = heat.maps.rows[-1], heat.maps.columns[-1]
    tops, lefts = edges_of(down, rows), edges_of(along, columns)
    pixels, count = (rows.stop - rows.start) * (columns.stop - columns.start), len(heat.maps.values)
    if heat.logit_scale is None or len(heat.maps.rows) > 1 or pixels < WORTH * count * (len(tops) - 1) * (len(lefts) - 1):
        return None
    across = heat.maps.across(slice(None), columns)
    corners, margin = corners_of(across, down, tops, lefts - columns.start)
    # corners are pixels: no greatest share is less than theirs
    best = heat.of(corners.copy(), slice(None)).max((1, 2, 3, 4)).astype(np.float64)
    may = _bounds(corners.astype(np.float64), heat.logit_scale, margin) >= best[:, None, None]
    ties: list[list[NDArray[np.int64]]] = [[] for _ in best]
    for row, column in np.argwhere(may.any(0)).tolist():
        top, left, right = int(tops[row]), int(lefts[column]), int(lefts[column + 1])
        part = slice(left - columns.start, right - columns.start)
        block = heat.inside(slice(top, int(tops[row + 1])), slice(left, right), across[..., part])
        for text in np.flatnonzero(may[:, row, column]).tolist():
            greatest = float(block[text].max())
            if greatest > best[text]:
                best[text], ties[text] = greatest, []
            if greatest == best[text]:
                ties[text].append(np.argwhere(block[text] == greatest) + np.array([top, left]))
    return [(*_middle(np.concatenate(each), heat), float(value)) for each, value in zip(ties, best, strict=True)]


def _middle(places: NDArray[np.int64], heat: Heat) -> tuple[int, int]:
    """Of pixels [n, 2] the one nearest to their centre."""
    rows, columns = heat.geometry.covered()
    pixels = Runs(heat.geometry.picture, False, places[:, 0], places[:, 1], places[:, 1] + 1, np.zeros(len(places), np.float32))
    return pixels.middle((rows.start, columns.start))


def _bounds(corners: Floats, scale: float, margin: float) -> Floats:
    """[T, n, m]: what no pixel's share in a block exceeds. A share is one over the sum of powers of differences to all texts, each of
    which is bilinear, and so at least the least of the corners'."""
    made: Floats = np.empty((len(corners), corners.shape[1], corners.shape[3]))
    for text, own in enumerate(corners):
        least = (corners - own).min((2, 4))
        # a power too great is a share of 0
        with np.errstate(over="ignore"):
            made[text] = 1 / np.exp(scale * least).sum(0)
    # the roundings of differences and powers, and of their sum; shares in float32 have fewer digits below its least normal number
    made *= math.exp(min(2 * scale * margin, 700)) * (1 + 1e-5 * len(corners))
    made += float(np.finfo(np.float32).tiny)
    return made
