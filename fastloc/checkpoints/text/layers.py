"""Steps that text towers share: masks and means that leave padding out, and positions that are sines."""

import math

import torch
from torch import Tensor

__all__ = ["key_mask", "masked_mean", "sinusoids"]


def key_mask(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to logits [n, …, N, N]: [n, 1, N], 0 for keys that are seen, bool [n, N], and a number for others that exp makes 0.

    It is finite, so a text without any token gives no NaN.
    """
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def masked_mean(x: Tensor, kept: Tensor) -> Tensor:
    """The mean [n, C] of those tokens of x [n, N, C] that are kept, bool [n, N]; zeros where none is."""
    weights = kept.to(x.dtype)[..., None]
    # official code adds 1e-8 to the count, which is the same in float32, and which exporters leave out
    return (x * weights).sum(1) / weights.sum(1).clamp_min(1)


def sinusoids(count: int, width: int) -> Tensor:
    """Positions [count, width], float32: sines of falling frequency, then cosines (Attention Is All You Need, as in tensor2tensor)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half).float() * -(math.log(10000) / max(half - 1, 1)))
    angles = torch.arange(count).float()[:, None] * frequencies
    return torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width % 2))
