"""The merging of FastViT's branches, as it was trained, into one convolution each (MobileOne, arXiv 2206.04040, section 3.2)."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical import parts, tree
from fastloc.checkpoints.hierarchical.fastvit import Affine, AttentionBlock, Branches, Mixer, Mlp, Position, Trunk
from fastloc.checkpoints.hierarchical.parts import BatchNorm, Conv, Linear

__all__ = ["folded", "pointwise"]


def folded(trunk: Trunk) -> Trunk:
    """The same trunk with every sum of branches, RepMixer and position encoding as one convolution, and scales in the layers before them,
    computed in float64."""
    kinds = (Branches, Mixer, Position, AttentionBlock, Mlp, Conv)
    return tree.mapped(trunk, kinds, _folded)


def _folded(part: Branches | Mixer | Position | AttentionBlock | Mlp | Conv) -> Conv | AttentionBlock | Mlp:
    if isinstance(part, Branches):
        return _sum(part.convs, part.identity)
    if isinstance(part, Mixer):
        mixed, kernel = _sum(part.mixer.convs, part.mixer.identity, wide=True), _unit(part.mixer.convs[0])
        factor, offset = part.norm.factors()
        scale = part.scale.double()
        assert mixed.bias is not None
        whole = kernel + scale[:, None, None, None] * (mixed.kernel - factor[:, None, None, None] * kernel)
        return replace(mixed, kernel=whole.to(part.scale.dtype), bias=(scale * (mixed.bias - offset)).to(part.scale.dtype))
    if isinstance(part, Position):
        return replace(part.conv, kernel=(part.conv.kernel.double() + _unit(part.conv)).to(part.conv.kernel.dtype))
    if isinstance(part, AttentionBlock):
        part = replace(part, out=parts.scaled(part.out, part.scale), scale=None, mlp=_mlp(part.mlp))
        if not isinstance(part.norm, BatchNorm):
            return part
        factor, offset = part.norm.factors()
        weight, dtype = part.qkv.weight.double(), part.qkv.weight.dtype
        qkv = Linear((weight * factor).to(dtype), (weight @ offset).to(dtype))
        return replace(part, norm=None, qkv=qkv, merged=Affine(factor.to(dtype), offset.to(dtype)))
    return _mlp(part) if isinstance(part, Mlp) else parts.folded(part)


def pointwise(trunk: Trunk) -> Trunk:
    """The trunk, which is folded, with the linear layers of every MLP as convolutions of single pixels: one layout for all of a graph."""
    return tree.mapped(trunk, Mlp, lambda part: replace(part, inner=_pointwise(part.inner), outer=_pointwise(part.outer)))


def _pointwise(layer: Linear | Conv) -> Conv:
    return layer if isinstance(layer, Conv) else Conv(layer.weight[:, :, None, None], layer.bias)


def _mlp(part: Mlp) -> Mlp:
    if isinstance(part.outer, Conv):
        return part
    return replace(part, conv=parts.folded(part.conv), outer=parts.scaled(part.outer, part.scale), scale=None)


def _sum(convs: tuple[Conv, ...], identity: BatchNorm | None, *, wide: bool = False) -> Conv:
    """The branches as one convolution of the first one's side; `wide` leaves it in float64."""
    first, dtype = convs[0], convs[0].kernel.dtype
    side = first.kernel.shape[-1]
    kernel, bias = torch.zeros_like(first.kernel, dtype=torch.float64), torch.zeros_like(first.kernel[:, 0, 0, 0], dtype=torch.float64)
    for conv in convs:
        assert conv.norm is not None
        factor, offset = conv.norm.factors()
        around = (side - conv.kernel.shape[-1]) // 2
        kernel += F.pad(conv.kernel.double() * factor[:, None, None, None], (around,) * 4)
        bias += offset
    if identity is not None:
        factor, offset = identity.factors()
        kernel += factor[:, None, None, None] * _unit(first)
        bias += offset
    whole = Conv(kernel, bias, None, first.stride, first.groups, first.padding)
    return whole if wide else replace(whole, kernel=kernel.to(dtype), bias=bias.to(dtype))


def _unit(like: Conv) -> Tensor:
    """The kernel, in float64, of a convolution that changes nothing."""
    kernel, middle = torch.zeros_like(like.kernel, dtype=torch.float64), like.kernel.shape[-1] // 2
    channels = torch.arange(len(kernel), device=kernel.device)
    kernel[channels, channels % kernel.shape[1], middle, middle] = 1
    return kernel
