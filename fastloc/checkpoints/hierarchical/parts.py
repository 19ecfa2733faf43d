"""The parts that hierarchical towers are made of, and the merging of a BatchNorm into the convolution before it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastloc.checkpoints.hierarchical.take import Take


@dataclass(frozen=True)
class BatchNorm:
    """A BatchNorm in eval mode: (x - mean) / sqrt(variance + eps) * scale + shift, all [C]."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    variance: Tensor
    eps: float

    def factors(self) -> tuple[Tensor, Tensor]:
        """The (factor, offset) in float64, so that the norm is factor * x + offset."""
        scale, shift, mean, variance = (each.double() for each in (self.scale, self.shift, self.mean, self.variance))
        factor = scale / torch.sqrt(variance + self.eps)
        return factor, shift - mean * factor


@dataclass(frozen=True)
class LayerNorm:
    """A LayerNorm over channels, in the layout [.., C] or [B, C, h, w] as its tower says."""

    scale: Tensor  # [C]
    shift: Tensor  # [C]
    eps: float


@dataclass(frozen=True)
class Linear:
    """A linear layer."""

    weight: Tensor  # [out, in]
    bias: Tensor | None  # [out]


@dataclass(frozen=True)
class Conv:
    """A convolution, with the BatchNorm after it, if any, until `folded` merges that into kernel and bias."""

    kernel: Tensor  # [out, in / groups, k, k]
    bias: Tensor | None  # [out]
    norm: BatchNorm | None = None
    stride: int = 1
    groups: int = 1
    # pixels of zeros on each side
    padding: int = 0


def scaled(layer: Linear, scale: Tensor | None) -> Linear:
    """The layer with the scale [out] of its output merged into its tensors, computed in float64. None changes nothing."""
    if scale is None:
        return layer
    factor, dtype = scale.double(), layer.weight.dtype
    bias = None if layer.bias is None else (factor * layer.bias.double()).to(dtype)
    return Linear((factor[:, None] * layer.weight.double()).to(dtype), bias)


def folded(conv: Conv) -> Conv:
    """The same convolution with its BatchNorm merged into kernel and bias, computed in float64."""
    if conv.norm is None:
        return conv
    factor, offset = conv.norm.factors()
    kernel = conv.kernel.double() * factor[:, None, None, None]
    bias = offset if conv.bias is None else offset + conv.bias.double() * factor
    dtype = conv.kernel.dtype
    return Conv(kernel.to(dtype), bias.to(dtype), None, conv.stride, conv.groups, conv.padding)


def take_batch_norm(take: Take, name: str, channels: int, eps: float = 1e-5) -> BatchNorm:
    scale, shift, mean, variance = (take(f"{name}.{each}", (channels,)) for each in ("weight", "bias", "running_mean", "running_var"))
    return BatchNorm(scale, shift, mean, variance, eps)


def take_layer_norm(take: Take, name: str, channels: int, eps: float) -> LayerNorm:
    return LayerNorm(take(f"{name}.weight", (channels,)), take(f"{name}.bias", (channels,)), eps)


def take_linear(take: Take, name: str, inner: int, outer: int, *, bias: bool = True) -> Linear:
    return Linear(take(f"{name}.weight", (outer, inner)), take(f"{name}.bias", (outer,)) if bias else None)
