"""Differences of an exported file's grids from the right ones, over many pictures: similarity, heatmaps and labels.

Shared by the GPU script's part `exported` and by `onnx_parity.py`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from fastloc.functional import heatmaps
from fastloc.imaging.geometry import Geometry
from fastloc.recipes import ReadOut, Recipe
from gpu_parts import scenes


def words(row: Recipe) -> tuple[Tensor, Tensor]:
    """The embeddings of the quality set's names [T, E], and of the empty text [E], in the method's template."""
    both = scenes.texts()[row.template]
    return both[:-1].contiguous(), both[-1]


def compared(score: ReadOut, pairs: Iterable[tuple[Geometry, Tensor, Tensor]]) -> dict[str, float]:
    """`pairs`: where pictures lie in the input, their right grids [B, T, h, w] and those that were found.

    Returns: the largest error of "similarity" and of "heatmap" (at the picture's size, within [0, 1]), infinite for numbers that are
    not finite, and the share of pixels whose "labels" are equal.
    """
    similarity, heatmap, equal, pixels = [0.0], [0.0], 0, 0
    for where, right, got in pairs:
        similarity.append(_largest(got, right))
        # picture by picture: at their own size they are large
        for both in zip(right.split(1), got.split(1), strict=True):
            one, other = (heatmaps.heatmaps(each, where, score.order, score.scale, score.reverse) for each in both)
            heatmap.append(_largest(one, other))
            one, other = (heatmaps.labels(-each if score.reverse else each, where) for each in both)
            equal, pixels = equal + int((one == other).sum()), pixels + one.numel()
    return {"similarity": max(similarity), "heatmap": max(heatmap), "labels": equal / max(pixels, 1)}


def _largest(one: Tensor, other: Tensor) -> float:
    """The largest difference. Python's `max` would pass over a NaN."""
    return float((one - other).abs().nan_to_num(nan=torch.inf).max())
