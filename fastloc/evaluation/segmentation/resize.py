"""OpenCV's bilinear resize of 8-bit pictures, and the size that mmcv's Resize asks it for.

`cv2.resize(picture, (w, h), interpolation=cv2.INTER_LINEAR)` computes in whole numbers (opencv/opencv,
modules/imgproc/src/resize.cpp): weights of 11 bits, rounded half to even, along rows first; the sums lose 4 bits, are weighted along
columns, lose 16 bits each and then two more, with rounding. It samples at pixel centres and does not average over the pixels that a smaller
picture leaves out. Where both sides are halved exactly it takes the mean of 2 x 2 pixels, rounded half up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["linear", "short_side"]

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int32]
Pair = tuple[int, int]

# a weight of 1
_ONE = 1 << 11


def short_side(picture: Pair, short: int, most: int) -> Pair:
    """(height, width) of a picture of this size after mmcv's Resize with keep_ratio: short side to short, long side to most at most.

    Source: open-mmlab/mmcv mmcv/image/geometry.py, rescale_size.
    """
    factor = min(max(most, short) / max(picture), min(most, short) / min(picture))
    height, width = (int(side * factor + 0.5) for side in picture)
    return height, width


def linear(picture: Bytes, size: Pair) -> Bytes:
    """The picture, uint8 [h, w, 3], as uint8 [*size, 3], equal to OpenCV's bytes."""
    height, width = picture.shape[:2]
    if (height, width) == size:
        return picture
    if (height, width) == (2 * size[0], 2 * size[1]):
        total = picture.reshape(size[0], 2, size[1], 2, 3).sum((1, 3), np.uint16)
        halved: Bytes = ((total + 2) >> 2).astype(np.uint8)
        return halved
    at, across = _taps(width, size[1])
    # beyond the left and the right border OpenCV sets the weight to 0, beyond the other two it reads the border's row twice
    across = np.where((at < 0) | (at >= width - 1), np.array([[_ONE], [0]], np.int32), across)
    left, right = np.clip(at, 0, width - 1), np.clip(at + 1, 0, width - 1)
    rows, down = _taps(height, size[0])
    above, below = np.clip(rows, 0, height - 1), np.clip(rows + 1, 0, height - 1)
    sums = picture[:, left] * across[0][:, None]
    sums += picture[:, right] * across[1][:, None]
    sums >>= 4
    made = sums[above]
    made *= down[0][:, None, None]
    made >>= 16
    lower = sums[below]
    lower *= down[1][:, None, None]
    lower >>= 16
    made += lower
    made += 2
    made >>= 2
    resized: Bytes = made.astype(np.uint8)
    return resized


def _taps(before: int, after: int) -> tuple[Ints, Ints]:
    """int32 [after]: the pixel at or before each new one, -1 before the first; int32 [2, after]: the weights of it and of the next one."""
    # OpenCV divides by the ratio of the sizes, and keeps the place in 32 bits
    place = ((np.arange(after) + 0.5) * (1 / (after / before)) - 0.5).astype(np.float32)
    low = np.floor(place)
    part = place - low
    weights = np.rint(np.stack([1 - part, part]) * np.float32(_ONE)).astype(np.int32)
    return low.astype(np.int32), weights
