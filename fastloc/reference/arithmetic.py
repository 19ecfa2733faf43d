"""The arithmetic that the literal methods share, from its equations."""

import math

import torch
from torch import Tensor

__all__ = ["activate", "attend", "layer_norm", "logits", "rotate", "softmax", "unit"]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + eps) * weight + bias


def unit(x: Tensor) -> Tensor:
    """x scaled to length 1 along the last axis."""
    return x / torch.sqrt((x * x).sum(-1, keepdim=True))


def softmax(x: Tensor) -> Tensor:
    """The softmax over the last axis."""
    powers = torch.exp(x - x.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def logits(q: Tensor, k: Tensor) -> Tensor:
    """q k^T / sqrt(d): [B,H,N,N]."""
    return q @ k.mT / math.sqrt(q.shape[-1])


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v."""
    return softmax(logits(q, k) + bias) @ v


def activate(x: Tensor, name: str) -> Tensor:
    """GELU by the error function, its tanh form (arXiv 1606.08415, section 2), OpenAI's x sigmoid(1.702 x), or x sigmoid(x)."""
    if name == "gelu":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    if name == "gelu_tanh":
        return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x / (1 + torch.exp(-(1.702 if name == "quick_gelu" else 1.0) * x))


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate x [B,H,N,d]: neighbouring channels are the parts of complex numbers, times e^(i angle)."""
    pairs = torch.view_as_complex(x.to(torch.float64).reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(turns), turns)).flatten(-2).to(x.dtype)
