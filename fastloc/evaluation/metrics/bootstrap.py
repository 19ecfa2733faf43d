"""Bootstrap over pictures in one pass: it keeps the sums of every resample alone, whatever the number of pictures.

A resample of n pictures draws n of them with replacement: each picture has a multinomial weight. Pictures come in blocks; the number of
draws in a block is binomial, given the number left for it and all later blocks, and they are multinomial within it. That is the same
distribution, and no weight is needed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from fastloc.evaluation.metrics.confusion import Floats

__all__ = ["RESAMPLES", "SEED", "ends", "resampled", "weights"]

RESAMPLES, SEED = 1000, 0
# pictures whose sums are added at once
_BLOCK = 64


def weights(pictures: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Floats]:
    """The number of draws of each picture in each resample: whole numbers as float64 [resamples, block], block after block of the pictures.

    The same for the same arguments (and numpy.random.Generator's stream): two runs over the same pictures are resampled in pairs.
    """
    generator = np.random.default_rng(seed)
    left = np.full(resamples, pictures, np.int64)
    for start in range(0, pictures, _BLOCK):
        size = min(_BLOCK, pictures - start)
        drawn = generator.binomial(left, size / (pictures - start))
        left -= drawn
        yield generator.multinomial(drawn, np.full(size, 1 / size)).astype(np.float64)


def resampled(vectors: Iterable[Floats], pictures: int, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """The sums of every resample, float64 [resamples, width].

    Args:
        vectors: the sums of each picture [width], one after the other; read once.
        pictures: their number.

    Raises ValueError where there are fewer or more.
    """
    iterator = iter(vectors)
    total: Floats | None = None
    for drawn in weights(pictures, resamples, seed):
        found = list(islice(iterator, drawn.shape[1]))
        if len(found) < drawn.shape[1]:
            raise ValueError(f"there must be {pictures} vectors, got fewer")
        block = np.stack(found)
        # few classes occur in a block: the other columns would add zeros
        there = np.flatnonzero(block.any(0))
        if total is None:
            total = np.zeros((resamples, block.shape[1]))
        total[:, there] += drawn @ block[:, there]
    if total is None or next(iterator, None) is not None:
        raise ValueError(f"there must be {pictures} vectors, and one at least, got {'more' if pictures else 'none'}")
    return total


def ends(values: Floats, confidence: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """Percentiles that hold the middle of resampled values [resamples, ...], and their standard deviation, the standard error: [...] each.

    NaN, from a resample in which a class does not occur, is left out; the result is NaN where all values are.
    """
    flat = values.reshape(len(values), -1)
    found = np.full((3, flat.shape[1]), np.nan)
    there = ~np.isnan(flat).all(0)
    if there.any():
        tail = (1 - confidence) / 2
        found[:2, there] = np.nanquantile(flat[:, there], (tail, 1 - tail), axis=0)
        found[2, there] = np.nanstd(flat[:, there], axis=0)
    low, high, error = found.reshape(3, *values.shape[1:])
    return low, high, error
