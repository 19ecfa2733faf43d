"""The literal reference's answers for one picture, for every kind of tower."""

import torch
from torch import Tensor

from fastloc.checkpoints.families.kinds import AnyWeights
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.recipes import Recipe
from fastloc.reference import hierarchical, parts, readouts, resnet
from fastloc.reference import scores as literal

# as open_clip resizes positions
POSITION = "bicubic-antialias"


def embedding(weights: AnyWeights, picture: Tensor) -> Tensor:
    """The untouched encoder's image embedding of normalised pixels [1, 3, H, W]: [1, E]."""
    if isinstance(weights, HierarchicalWeights):
        return hierarchical.encoder(weights, picture)
    if isinstance(weights, ResNetWeights):
        return resnet.encoder(weights, picture, POSITION)
    found, _ = parts.encoder(weights, picture, POSITION)
    return found


def scores(weights: AnyWeights, picture: Tensor, texts: Tensor, row: Recipe, empty: Tensor) -> Tensor:
    """A recipe's scores of normalised pixels [1, 3, H, W] and unit texts [T, E], in the weights' dtype: [1, P, T].

    empty: [E], the empty text's embedding, for feature surgery with one text and for CLIPer's background.
    """
    if isinstance(weights, HierarchicalWeights):
        return hierarchical.any_scores(weights, picture, texts, row, empty)
    if not isinstance(weights, ResNetWeights):
        return literal.scores(weights, picture, texts, row, empty)
    if row.readout.score == "feature-surgery" and len(texts) == 1:
        return readouts.minus_empty(resnet.clip_surgery(weights, picture)[:, 1:], texts, empty)
    # Grad-CAM's reference is autograd
    with torch.enable_grad():
        return resnet.scores(weights, picture, texts, row).detach()


def wide(weights: AnyWeights) -> AnyWeights:
    """The same tower in float64."""
    return weights.to(dtype=torch.float64)
