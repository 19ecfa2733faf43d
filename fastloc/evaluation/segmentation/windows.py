"""Windows over a resized picture, and the linear map from their grids to the picture's pixels.

All windows have one size, so the number of windows over a pixel is the product of a number of its row and one of its column. The mean over
windows, the bilinear steps from a grid to its window and from the resized picture to the picture's own size are then one matrix an axis:

    logits [T, H, W] = rows [H, n h] @ grids [T, n h, m w] @ columns [m w, W]

for n x m windows of h x w cells, their grids beside each other. It is exact up to rounding, and no array of the resized picture's size is
made for it. Source: wangf3014/SCLIP clip_segmentor.py, forward_slide; for sides that the patch does not divide "floor" is SCLIP's rule and
"pad" that of mc-lan/ClearCLIP clearclip_segmentor.py, compute_padsize.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.axis_sampling import bilinear

__all__ = ["WindowAxis", "axis"]


@dataclass(frozen=True)
class WindowAxis:
    """Windows along one axis of a resized picture.

    length: pixels of the resized picture. side: of a window. starts: of each window. before: pixels of padding in front of a window.
    seen: pixels that the model is given of a padded window, a multiple of the patch. cells: of a window's grid. inside: pixels that the
    grid is stretched over, with the padding.
    """

    length: int
    side: int
    starts: tuple[int, ...]
    before: int
    seen: int
    cells: int
    inside: int

    @property
    def after(self) -> int:
        """Pixels of padding behind a window."""
        return self.inside - self.before - self.side

    def matrix(self, pixels: int) -> NDArray[np.float64]:
        """float64 [pixels, windows * cells]: from grids beside each other to an axis of so many pixels of the picture."""
        window = bilinear(self.cells, self.inside)[self.before : self.before + self.side]
        mean, count = np.zeros((self.length, len(self.starts) * self.cells)), np.zeros((self.length, 1))
        for number, start in enumerate(self.starts):
            mean[start : start + self.side, number * self.cells : (number + 1) * self.cells] = window
            count[start : start + self.side] += 1
        product: NDArray[np.float64] = bilinear(self.length, pixels) @ (mean / count)
        return product


def axis(length: int, crop: int, stride: int, patch: int, odd: str) -> WindowAxis:
    """Windows of `crop` pixels every `stride` pixels; the last one is shifted to end with the picture. crop 0: one window of all.

    A side shorter than the crop is one window as it is, and a window has at least one patch: a shorter one is padded in any case.
    """
    side = min(crop or length, length)
    count = max(length - side + stride - 1, 0) // stride + 1 if crop else 1
    starts = tuple(min(number * stride, length - side) for number in range(count))
    left_over = side % patch
    if left_over and (odd == "pad" or side < patch):
        padding = patch - left_over
        return WindowAxis(length, side, starts, padding // 2, side + padding, (side + padding) // patch, side + padding)
    return WindowAxis(length, side, starts, 0, side - left_over, side // patch, side)
