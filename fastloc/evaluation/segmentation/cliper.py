"""Labels by CLIPer's rule: each class is compared with thresholds of its own map, and a pixel that passes none is background.

Source: linsun449/cliper.code ovs/main_ovs.py and util/miou.py, cam_to_label, without a second network. Of a text t with the grid's largest
number s_t, the enlarged map's largest M_t and least m_t:

    map_t <- map_t / (M_t + 1e-5) s_t                                and, normalized, <- (map_t - min) / (max + 1e-6)

Texts whose s_t is not above the score's threshold are left out, numbers below the background's threshold are 0, and where nothing is above
0 the background is. With a background threshold of 0 the background has (1 - largest)^2 instead, as their demo sets it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastloc.evaluation.segmentation.stacked import Logits

__all__ = ["cliper_labels"]


def cliper_labels(maps: Logits, scores: Tensor, owner: Tensor, thresholds: Sequence[float], normalized: bool) -> Tensor:
    """The class of every pixel, int64 [H, W]; 0 is the background.

    maps: of the texts of classes, 0 or above. scores: [T], the largest number of each grid. owner: each text's class, from 1 on.
    """
    least_score, background, _ = thresholds
    kept = (scores > least_score).nonzero()[:, 0]
    labels = torch.zeros(maps.size, dtype=torch.int64, device=scores.device)
    if not len(kept):
        return labels
    maps, scores, owner = maps.of(kept), scores[kept], owner[kept]
    least, most = _limits(maps)
    factor = scores / (most + 1e-5)
    offset = torch.zeros_like(factor)
    if normalized:
        span = factor * (most - least) + 1e-6
        factor, offset = factor / span, -factor * least / span
    largest = scores.new_zeros(maps.size)
    for block in maps.blocks():
        texts = slice(block.first, block.first + len(block.logits))
        values = block.logits * factor[texts, None, None] + offset[texts, None, None]
        value, number = values.max(0)
        at = block.rows, block.columns
        better = value > largest[at]
        largest[at] = torch.maximum(largest[at], value)
        labels[at] = torch.where(better, owner[number + block.first], labels[at])
    nothing = largest < background if background > 0 else (1 - largest) ** 2 >= largest
    return labels.masked_fill(nothing | (largest == 0), 0)


def _limits(maps: Logits) -> tuple[Tensor, Tensor]:
    """The least and the largest number of each enlarged map, [T]."""
    grids = maps.factors[1]
    least, most = grids.new_full((len(grids),), torch.inf), grids.new_full((len(grids),), -torch.inf)
    for block in maps.blocks():
        texts = slice(block.first, block.first + len(block.logits))
        least[texts] = torch.minimum(least[texts], block.logits.amin((1, 2)))
        most[texts] = torch.maximum(most[texts], block.logits.amax((1, 2)))
    return least, most
