"""Other views of a window, as ITACLIP averages them: in gray, blurred, and mirrored.

Source: m-arda-aydn/ITACLIP itaclip_segmentor.py, whose transforms are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

__all__ = ["PER_WINDOW", "joined", "views"]

# views of a window
PER_WINDOW = 5

# of red, green and blue in ITU-R 601's brightness, to torchvision's digits
_GRAY = (0.2989, 0.587, 0.114)
_BLUR, _SIGMA = 11, 5.0
# of a mirror image upside down, and of one left to right
_MIRRORS = ((-2,), (-1,))


def views(windows: Tensor) -> list[Tensor]:
    """The `PER_WINDOW` views of normalised windows [B, 3, H, W], each of that shape: unchanged, gray, blurred, upside down, left to right.

    They are of whole windows: where the patch does not divide a side, a mirror image loses the pixels of its other end. Sides are at least
    6 pixels, as the blur mirrors them.
    """
    gray = (windows * windows.new_tensor(_GRAY)[:, None, None]).sum(1, keepdim=True).expand_as(windows)
    return [windows, gray, _blurred(windows), *(windows.flip(side) for side in _MIRRORS)]


def joined(grids: Sequence[Tensor], weight: float) -> Tensor:
    """Similarity grids [B, T, h, w] of windows, from those of their five views.

    weight: the share of the first three, within 0 and 1; the rest is that of the mirror images, which are mirrored back.
    """
    upright, mirrored = grids[:3], [grid.flip(side) for grid, side in zip(grids[3:], _MIRRORS, strict=True)]
    return weight * torch.stack(list(upright)).mean(0) + (1 - weight) * torch.stack(mirrored).mean(0)


def _blurred(windows: Tensor) -> Tensor:
    """A Gaussian of 11 x 11 pixels, whose border mirrors the window."""
    half = _BLUR // 2
    places = torch.arange(-half, half + 1, dtype=windows.dtype, device=windows.device)
    kernel = torch.exp(-0.5 * (places / _SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    channels = pad(windows.flatten(0, 1)[:, None], (half,) * 4, mode="reflect")
    return conv2d(conv2d(channels, kernel[None, None, :, None]), kernel[None, None, None, :]).view_as(windows)
