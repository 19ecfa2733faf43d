"""Steps that text towers share: masks and means without padding, and sinusoidal positions."""

import math

import torch
from torch import Tensor

__all__ = ["key_mask", "masked_mean", "sinusoids"]


def key_mask(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask to add to logits [n, …, N, N]: [n, 1, N], 0 for seen keys (bool [n, N]), and for others a number whose exp is 0.

    The number is finite, so a text without any token gives no NaN.
    """
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def masked_mean(x: Tensor, kept: Tensor) -> Tensor:
    """The mean [n, C] of the kept tokens (bool [n, N]) of x [n, N, C]; zeros where none is kept."""
    weights = kept.to(x.dtype)[..., None]
    # official code adds 1e-8 to the count, which changes nothing in float32 and which exporters drop
    return (x * weights).sum(1) / weights.sum(1).clamp_min(1)


def sinusoids(count: int, width: int) -> Tensor:
    """Positions [count, width], float32: sines of falling frequency, then cosines (Attention Is All You Need, as in tensor2tensor)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half).float() * -(math.log(10000) / max(half - 1, 1)))
    angles = torch.arange(count).float()[:, None] * frequencies
    return torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width % 2))
