"""Scores and maps of the literal methods: patches [B, P, E] and unit texts [T, E] -> scores [B, P, T] -> maps [B, T, H, W]."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.reference.arithmetic import softmax, unit
from fastloc.reference.first_tokens import Grid

__all__ = ["cosine", "feature_surgery", "gem_map", "minus_empty", "rclip_map", "segmentation_map", "surgery_map"]


def cosine(patches: Tensor, texts: Tensor) -> Tensor:
    """Cosines of patches and texts."""
    return unit(patches) @ texts.T


def feature_surgery(tokens: Tensor, texts: Tensor) -> Tensor:
    """`clip_feature_surgery` of CLIP Surgery (clip/clip.py) on tokens [B, N, E], image embedding first: [B, N, T].

    The official code weighs the texts for a batch of one; here every image has its own weights.
    """
    features = unit(tokens)
    # w: the weight of each text for the whole picture; the 2 is in the code, its argument t is not read
    chance = softmax(2 * (features[:, :1] @ texts.T))
    weight = chance / chance.mean(-1, keepdim=True)
    products = features[:, :, None] * texts[None, None] * weight[..., None]  # [B, N, T, E]
    redundant = products.mean(2, keepdim=True)
    return (products - redundant).sum(-1)


def minus_empty(patches: Tensor, texts: Tensor, empty: Tensor) -> Tensor:
    """CLIP Surgery's score of a single text (demo.py): the empty text [E] gives the redundant features."""
    return unit(patches) @ (texts - empty[None]).T


def gem_map(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    """GEM (gem/gem_wrapper.py): bilinear to the size of the input, then min-max of every map."""
    maps = _bilinear(scores, grid, size)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low)


def surgery_map(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    """`get_similarity_map` of CLIP Surgery (clip/clip.py), class token dropped before: min-max over the patches, then bilinear."""
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    return _bilinear((scores - low) / (high - low), grid, size)


def rclip_map(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    """RCLIP: |1 - M| of the min-maxed map."""
    return torch.abs(1 - surgery_map(scores, grid, size))


def segmentation_map(scores: Tensor, grid: Grid, size: Grid, logit_scale: float, through: Grid | None = None) -> Tensor:
    """SCLIP (clip_segmentor.py) and related methods: bilinear, then a softmax over the texts.

    through: NACLIP (naclip.py) and related methods upsample to this size, the input's, first.
    """
    maps = _bilinear(scores, grid, through or size)
    if through is not None:
        maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return softmax((maps * logit_scale).movedim(1, -1)).movedim(-1, 1)


def _bilinear(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    batch, _, texts = scores.shape
    return F.interpolate(scores.transpose(1, 2).reshape(batch, texts, *grid), size=size, mode="bilinear", align_corners=False)
