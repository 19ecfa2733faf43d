"""Slow, literal references of every method on hierarchical towers, from the equations. The fast path is tested against them.

The stages come from `fastloc.functional.hierarchical`, whose families are tested against timm's own modules; what stands here is the part
behind the last map, cell by cell, and Grad-CAM by autograd through everything.
"""

import math

import torch
from torch import Tensor

from fastloc.checkpoints.hierarchical.parts import LayerNorm, Linear
from fastloc.checkpoints.hierarchical.weights import Head, HierarchicalWeights
from fastloc.functional.hierarchical.stages import MAPS
from fastloc.reference import parts
from fastloc.reference.resnet import cam_map, softmax

__all__ = ["encoder", "grad_cam", "itsm", "maps_of", "scores"]


def itsm(weights: HierarchicalWeights, pixels: Tensor) -> Tensor:
    """Every cell of the last map as if it were the whole: [B, P, E]."""
    found = []
    for x in maps_of(weights, pixels)[-1]:
        cells = [x[:, row, column] for row in range(x.shape[1]) for column in range(x.shape[2])]
        found.append(torch.stack([embed(weights.head, cell[:, None, None]) for cell in cells]))
    return torch.stack(found)


def encoder(weights: HierarchicalWeights, pixels: Tensor) -> Tensor:
    """The image embedding, [B, E]."""
    return torch.stack([embed(weights.head, x) for x in maps_of(weights, pixels)[-1]])


def scores(weights: HierarchicalWeights, pixels: Tensor, texts: Tensor) -> Tensor:
    """Cosines of the cells with unit texts [T, E]: [B, P, T]."""
    return parts.cosine(itsm(weights, pixels), texts)


def grad_cam(
    weights: HierarchicalWeights, pixels: Tensor, texts: Tensor, target: str = "cosine", scale: float = 100.0, start: int = -1,
    cam: str = "grad-cam",
) -> Tensor:  # fmt: skip
    """Grad-CAM, Grad-CAM++ or LayerCAM on one map, see `fastloc.reference.resnet.cam_map`: maps [B, T, h, w] of unit texts [T, E].

    start: the map, counted from the end. target: y is the cosine, the logit (`scale` times it), or the text's share in a softmax of the
    logits; of one text alone the logit.
    """
    pictures = []
    for picture in pixels:
        maps = []
        for index in range(len(texts)):
            stages = maps_of(weights, picture[None].clone().requires_grad_())
            embedding = embed(weights.head, stages[-1][0])
            cosines = texts @ (embedding / torch.sqrt((embedding * embedding).sum()))
            logits = cosines if target == "cosine" else scale * cosines
            y = softmax(logits) if target == "softmax" and len(texts) > 1 else logits
            (gradient,) = torch.autograd.grad(y[index], stages[start])
            maps.append(cam_map(stages[start].detach()[0], gradient[0], cam))
        pictures.append(torch.stack(maps))
    return torch.stack(pictures)


def maps_of(weights: HierarchicalWeights, pixels: Tensor) -> list[Tensor]:
    """The maps of all stages, [B, C, h, w] each."""
    return list(MAPS[weights.spec.family](weights.trunk, pixels.to(weights.dtype)))


def embed(head: Head, x: Tensor) -> Tensor:
    """The head's embedding of one map: [C, h, w] -> [E]."""
    cells = x.flatten(1).T
    if head.norm is not None and head.norm_first:
        cells = torch.stack([layer_norm(head.norm, cell) for cell in cells])
    mean = cells.sum(0) / len(cells)
    if head.norm is not None and not head.norm_first:
        mean = layer_norm(head.norm, mean)
    if head.hidden is not None:
        hidden = linear(head.hidden, mean)
        mean = hidden / 2 * (1 + torch.erf(hidden / math.sqrt(2)))
    return linear(head.out, mean)


def layer_norm(norm: LayerNorm, x: Tensor) -> Tensor:
    """A LayerNorm of one vector [C]."""
    centred = x - x.sum() / len(x)
    return centred / torch.sqrt((centred * centred).sum() / len(x) + norm.eps) * norm.scale + norm.shift


def linear(layer: Linear, x: Tensor) -> Tensor:
    """A linear layer of one vector."""
    return layer.weight @ x + (0 if layer.bias is None else layer.bias)
