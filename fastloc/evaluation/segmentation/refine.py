"""Pixel-adaptive refinement (PAMR) on the device, of maps of a whole picture.

The papers run visinf/1-stage-wseg's module on the normalised input, enlarged to the picture's size, and not on the picture's bytes:
sinahmr/NACLIP pamr.py and naclip.py, predict. `fastloc.imaging.pamr` gives the formula; here picture and constants are those of floats.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["affinity", "averaged"]

_EPSILON, _SHARE = 1e-8, 0.1
# (down, across) of the 8 neighbours
_NEIGHBOURS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
# rows at a time, whose weights a CPU's cache keeps
_STRIP = 32


def affinity(picture: Tensor, dilations: Sequence[int]) -> Tensor:
    """Weights of the neighbours, [8 * dilations, H, W], that sum to 1, of a picture [3, H, W] of floats."""
    weights = picture.new_zeros(8 * len(dilations), *picture.shape[1:])
    for channel in picture:
        near = [(dilation, _padded(channel[None], dilation)) for dilation in dilations]
        shifted = [_shifted(values, dilation, *at)[0] for dilation, values in near for at in _NEIGHBOURS]
        count = 9 * len(dilations)
        mean = (sum(shifted) + len(dilations) * channel) / count
        squares = len(dilations) * (channel - mean) ** 2
        for each in shifted:
            squares += (each - mean) ** 2
        scale = _EPSILON + _SHARE * (squares / (count - 1)).sqrt()
        for weight, each in zip(weights, shifted, strict=True):
            weight -= (channel - each).abs() / scale
    return (weights / len(picture)).softmax(0)


def averaged(maps: Tensor, weights: Tensor, dilations: Sequence[int], iterations: int) -> Tensor:
    """Maps [t, H, W], averaged over their neighbours `iterations` times."""
    height = maps.shape[1]
    rows = _STRIP if maps.device.type == "cpu" else height
    for _ in range(iterations):
        near = [(dilation, _padded(maps, dilation)) for dilation in dilations]
        made = torch.zeros_like(maps)
        for top in range(0, height, rows):
            strip = slice(top, min(top + rows, height))
            total, number = made[:, strip], 0
            for dilation, values in near:
                for at in _NEIGHBOURS:
                    total.addcmul_(_shifted(values, dilation, *at)[:, strip], weights[number, strip])
                    number += 1
        maps = made
    return maps


def _padded(values: Tensor, by: int) -> Tensor:
    """[n, H, W] with `by` more on every side, the border's own repeated."""
    return pad(values[None], (by,) * 4, mode="replicate")[0]


def _shifted(padded: Tensor, by: int, y: int, x: int) -> Tensor:
    """A view [n, H, W], shifted by `by` pixels down and across."""
    height, width = padded.shape[1] - 2 * by, padded.shape[2] - 2 * by
    return padded[:, by + y * by :][:, :height, by + x * by :][..., :width]
