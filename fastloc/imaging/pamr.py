"""Pixel-adaptive mask refinement (PAMR): maps are averaged over neighbouring pixels that look alike, a few times over.

Araslanov & Roth (CVPR 2020, arXiv 2005.04104, section 3.3), visinf/1-stage-wseg, models/mods/pamr.py; NACLIP runs 10 iterations with
dilations 8 and 16. For a pixel p, its 8 neighbours q at each dilation and the colour channels c of the picture x:

    weight(p, q) = softmax over q of mean over c of -|x_c(p) - x_c(q)| / (1e-8 + 0.1 std_c(p))
    map(p) <- sum over q of weight(p, q) map(q)

std_c(p) is the sample deviation of the 9 pixels at each dilation, p among them each time. Beyond the border lies the border's own pixel.
A pixel is no neighbour of its own. Weights sum to 1, so that adding to a map or scaling it before or after is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError

__all__ = ["BUDGET", "Refinement", "refine"]

Floats = NDArray[Any]

# bytes of working memory
BUDGET = 256 << 20
# rows that are worked on at a time where the budget allows: their planes stay in a CPU's cache
STRIP = 16
# the official 1e-8 is for pixels within [0, 1], ours are bytes
EPSILON = 255e-8
# (down, across) of the 8 neighbours, and of the 9 pixels that the deviation is taken over
_NEIGHBOURS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
_WINDOW = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))


@dataclass(frozen=True)
class Refinement:
    """The settings of a refinement: see `refine`."""

    method: ClassVar[str] = "pamr"

    iterations: int = 10
    dilations: tuple[int, ...] = (8, 16)
    budget: int = BUDGET

    def __post_init__(self) -> None:
        object.__setattr__(self, "dilations", tuple(self.dilations))
        for name, values in (("iterations", (self.iterations,)), ("dilations", self.dilations), ("budget", (self.budget,))):
            if not values or not all(isinstance(each, int) and not isinstance(each, bool) and each >= 1 for each in values):
                many = name == "dilations"
                raise FastlocError(f"{name} must be {'numbers' if many else 'a number'} from 1 on, got {values if many else values[0]!r}")


def refine(maps: Floats, picture: NDArray[np.uint8], how: Refinement = Refinement()) -> Floats:
    """Maps [T, H, W], float32 or float64, refined by the picture's colours, uint8 [H, W, 3]: the same shape and dtype.

    Memory: two arrays of the maps' size, and about `how.budget` bytes. The weights (8 numbers a pixel and dilation) of as many rows as
    fit into the budget are kept from one iteration to the next, those of other rows are computed again: a small budget costs time and
    changes no number.

    Raises:
        FastlocError: maps and picture of different sizes, or a map that is not of floats.
    """
    if maps.ndim != 3 or picture.shape != (*maps.shape[1:], 3) or picture.dtype != np.uint8:
        raise FastlocError(f"maps must be [T, H, W] with an uint8 picture [H, W, 3], got {list(maps.shape)} and {list(picture.shape)}")
    if maps.dtype not in (np.float32, np.float64):
        raise FastlocError(f"maps must be float32 or float64, got {maps.dtype}")
    strips = list(_strips(maps, how))
    kept: dict[int, Floats] = {}
    room = int(how.budget * 0.75)
    current, following = maps, np.empty_like(maps)
    for iteration in range(how.iterations):
        for start, stop in strips:
            weights = kept.get(start)
            if weights is None:
                weights = _weights(picture, start, stop, how.dilations, maps.dtype)
                if iteration == 0 and weights.nbytes <= room:
                    kept[start] = weights
                    room -= weights.nbytes
            _average(current, weights, start, stop, how.dilations, following)
        # the caller's array is never written into
        current, following = following, np.empty_like(maps) if current is maps else current
    return current


def _strips(maps: Floats, how: Refinement) -> Iterator[tuple[int, int]]:
    """(start, stop) of rows whose temporary arrays take a quarter of the budget at most, or of single rows."""
    count, height, width = maps.shape
    # weights, and the planes that making and using them takes
    planes = 8 * len(how.dilations) + 8 + count
    rows = min(max(how.budget // 4 // (planes * width * maps.itemsize), 1), STRIP)
    for start in range(0, height, rows):
        yield start, min(start + rows, height)


def _weights(picture: NDArray[np.uint8], start: int, stop: int, dilations: Sequence[int], dtype: np.dtype[Any]) -> Floats:
    """The weights of the neighbours of the rows from start to stop, [8 * dilations, rows, W]."""
    near = {dilation: _padded(picture, start, stop, dilation) for dilation in dilations}
    width = picture.shape[1]
    weights = np.zeros((8 * len(dilations), stop - start, width), dtype)
    for channel in range(3):
        here = picture[start:stop, :, channel].astype(np.int16)
        scale = 1 / (EPSILON + 0.1 * _deviation([near[each][..., channel] for each in dilations], dilations, width, dtype))
        for index, (dilation, (y, x)) in enumerate((each, at) for each in dilations for at in _NEIGHBOURS):
            difference = np.abs(here - _shifted(near[dilation][..., channel], dilation, y, x, width))
            weights[index] -= difference * scale
    weights /= 3
    weights -= weights.max(axis=0)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=0)
    return weights


def _deviation(near: Sequence[NDArray[np.uint8]], dilations: Sequence[int], width: int, dtype: np.dtype[Any]) -> Floats:
    """The sample deviation of one channel, [rows, W]. Sums of bytes and squares are whole: nothing is rounded before the root."""
    count = 9 * len(dilations)
    shifts = [_shifted(values, dilation, y, x, width) for values, dilation in zip(near, dilations, strict=True) for y, x in _WINDOW]
    total = np.zeros(shifts[0].shape, np.int64)
    squares = np.zeros(shifts[0].shape, np.int64)
    for each in shifts:
        values = each.astype(np.int32)
        total += values
        squares += values * values
    return np.sqrt((count * squares - total * total) / (count * (count - 1))).astype(dtype)


def _average(maps: Floats, weights: Floats, start: int, stop: int, dilations: Sequence[int], out: Floats) -> None:
    """One iteration for the rows from start to stop, into out [T, H, W]."""
    width = maps.shape[2]
    product = np.empty((stop - start, width), maps.dtype)
    for values, total in zip(maps, out[:, start:stop], strict=True):
        total.fill(0)
        for index, dilation in enumerate(dilations):
            near = _padded(values, start, stop, dilation)
            for k, (y, x) in enumerate(_NEIGHBOURS):
                total += np.multiply(weights[8 * index + k], _shifted(near, dilation, y, x, width), out=product)


def _padded(values: Floats, start: int, stop: int, by: int) -> Floats:
    """Rows from start to stop of values [H, W, ...] and `by` more on every side, the border's own repeated beyond it."""
    rows = np.clip(np.arange(start - by, stop + by), 0, len(values) - 1)
    columns = np.clip(np.arange(-by, values.shape[1] + by), 0, values.shape[1] - 1)
    padded: Floats = values[rows[:, None], columns]
    return padded


def _shifted(padded: Floats, by: int, y: int, x: int, width: int) -> Floats:
    """A view of `_padded`'s rows, shifted by `by` pixels down and across."""
    rows = len(padded) - 2 * by
    return padded[by + y * by : by + y * by + rows, by + x * by : by + x * by + width]
