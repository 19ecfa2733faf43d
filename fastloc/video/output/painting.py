"""Heat of several texts over a frame, four bytes of a pixel at a time: what Pillow's paste through a mask does one byte after the other."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.heat_arrays import usable_threads

__all__ = ["MOST", "paint", "paints"]

Steps = NDArray[np.uint8]
# red in the lowest byte
Words = NDArray[np.uint32]

# texts that have colours of their own: an index of a paint has 16 bits
MOST = 256
# pixels that are worked on at a time, which stay in a core's own cache; and those from which a second thread pays
CHUNK, SHARED = 1 << 15, 1 << 20
OUTER, INNER = np.uint32(0xFF00FF), np.uint32(0x00FF00)


def paints(colours: Steps, cover: Sequence[int]) -> Words:
    """A paint of each step of heat: colours, uint8 [256 * n, 3], times the cover [256] of the heat, and in the highest byte what is left
    of the picture."""
    share = np.tile(np.asarray(cover, np.uint32), len(colours) // 256)
    red, green, blue = (colours.astype(np.uint32) * share[:, None] // 255).T
    mixed: Words = red | green << 8 | blue << 16 | (255 - share) << 24
    return mixed


def paint(pixels: Steps, heats: Steps, table: Words) -> Steps:
    """New pixels uint8 [H, W, 3]: the highest of the heats [T, H, W] at each pixel, of the first text that has it, painted over the
    picture as the table of `paints` says, [256 * T] for heat 0 … 255 of each text. A cover of 0 leaves a pixel as it is; another is within
    two levels of the exact mixture."""
    pixels = np.ascontiguousarray(pixels)
    painted = np.empty_like(pixels)
    count = min(usable_threads(), 2) if heats[0].size >= SHARED else 1
    edges = np.linspace(0, len(pixels), count + 1).astype(int).tolist()
    if count == 1:
        _slab(pixels, painted, heats, table)
    else:
        with ThreadPoolExecutor(count, thread_name_prefix="fastloc-paint") as pool:
            slabs = [slice(*pair) for pair in pairwise(edges)]
            list(pool.map(lambda slab: _slab(pixels[slab], painted[slab], heats[:, slab], table), slabs))
    return painted


def _slab(pixels: Steps, painted: Steps, heats: Steps, table: Words) -> None:
    wide = pixels.shape[1]
    high = max(CHUNK // wide, 1)
    # a fourth byte after each three, made once: pages that are touched for the first time cost as much as the mixture
    below = np.zeros((high, wide), "<u4")
    for start in range(0, len(pixels), high):
        part = slice(start, start + high)
        words = below[: len(pixels[part])]
        channels = words.view(np.uint8).reshape(*words.shape, 4)
        for channel in range(3):
            channels[..., channel] = pixels[part][..., channel]
        _mix(words, table.take(_strongest(heats[:, part]), mode="clip"))
        for channel in range(3):
            painted[part][..., channel] = channels[..., channel]


def _strongest(heats: Steps) -> NDArray[np.uint16]:
    """256 * the index of the first text with the highest heat, + that heat."""
    best, which = heats[0], np.zeros(heats.shape[1:], np.uint8)
    for index, heat in enumerate(heats[1:], start=1):
        # a later text has a higher index, so that the largest one is that of the last that rose
        np.maximum(which, (heat > best).view(np.uint8) * np.uint8(index % MOST), out=which)
        best = np.maximum(best, heat)
    place: NDArray[np.uint16] = which.astype(np.uint16)
    place <<= 8
    place |= best
    return place


def _mix(words: Words, paint: Words) -> None:
    """Paint over words, in place."""
    left = paint >> 24
    # 0 … 256, so that all of a pixel is all of it
    left += left >> 7
    inner = words >> 8
    inner &= np.uint32(0xFF)
    inner *= left
    inner += np.uint32(0x80)
    inner &= INNER
    words &= OUTER
    words *= left
    words += np.uint32(0x800080)
    words >>= 8
    words &= OUTER
    words += inner
    paint &= np.uint32(0xFFFFFF)
    words += paint
