"""The end of a hierarchical tower: its last map's cells in the texts' space, the image embedding, and the gradient on the way back.

x is the last map [B, C, h, w], P = h w; embeddings are [B, E]; texts carry an axis T that maps do not have.
"""

import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.parts import LayerNorm
from fastloc.checkpoints.hierarchical.weights import Head
from fastloc.functional import vjp

__all__ = ["cells", "embedding", "head_gradient", "rows_of"]


def rows_of(x: Tensor) -> Tensor:
    """The cells of a map, row by row over its grid: [B, C, h, w] -> [B, P, C]."""
    return x.flatten(2).transpose(1, 2)


def embedding(head: Head, x: Tensor) -> Tensor:
    """The encoder's own image embedding: [B, C, h, w] -> [B, E], not normalised."""
    rows = rows_of(x)
    if head.norm is not None and head.norm_first:
        return _projected(head, normed(head.norm, rows).mean(1))
    mean = rows.mean(1)
    return _projected(head, mean if head.norm is None else normed(head.norm, mean))


def cells(head: Head, x: Tensor) -> Tensor:
    """Every cell as if it were the whole map: [B, C, h, w] -> [B, P, E], not normalised.

    Where `head.is_linear` their mean is the image embedding: a class activation map (Zhou et al., CVPR 2016, section 2) with a text in a
    class's place. A norm of the mean (ConvNeXt) or an MLP passes over each cell instead, which nobody published: then it is not.
    """
    rows = rows_of(x)
    return _projected(head, rows if head.norm is None else normed(head.norm, rows))


def head_gradient(head: Head, x: Tensor, gradient: Tensor) -> Tensor:
    """The sum over cells of the backward pass of `embedding` at x: [B, T, E] -> [B, T, C], or at each cell where the norm is first.

    Times 1 / P it is the gradient at every cell, which all cells share unless the norm passes over them one by one.

    Returns: [B, T, 1, C], or with `norm_first` [B, T, P, C]; each to be divided by P. In float32 at least.
    """
    rows = rows_of(x)
    first = head.norm is not None and head.norm_first
    mean = normed(head.norm, rows).mean(1) if first and head.norm is not None else rows.mean(1)
    at = mean if first or head.norm is None else normed(head.norm, mean)
    found = vjp.linear(gradient, head.out.weight)
    if head.hidden is not None:
        hidden = F.linear(at, head.hidden.weight, head.hidden.bias)
        found = vjp.linear(found * vjp.slope(hidden, "gelu")[:, None], head.hidden.weight)
    found = found[:, :, None]
    if head.norm is None:
        return found
    return vjp.layer_norm(found, rows if first else mean[:, None], head.norm.scale, head.norm.eps)


def normed(norm: LayerNorm, rows: Tensor) -> Tensor:
    """The LayerNorm over the last axis, [..., C]."""
    return F.layer_norm(rows, (rows.shape[-1],), norm.scale, norm.shift, norm.eps)


def _projected(head: Head, rows: Tensor) -> Tensor:
    """Normed channels in the texts' space: [..., C] -> [..., E]."""
    if head.hidden is not None:
        rows = F.gelu(F.linear(rows, head.hidden.weight, head.hidden.bias))
    return F.linear(rows, head.out.weight, head.out.bias)
