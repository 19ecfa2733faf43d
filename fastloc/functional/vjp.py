"""Vector-Jacobian products of a block's parts, written out: from the gradient at a part's output to the gradient at its input.

Gradients carry an axis of texts that activations do not have: [B, T, R, C] beside [B, R, C], R being the rows (tokens) that are looked
at; an axis of length 1 stands for all. Products with weights are in the weights' dtype, everything else in float32 at least. Plain
tensor expressions: they run in inference mode, are captured, exported and batched like any forward pass.
"""

import math

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Block


def upcast(x: Tensor) -> Tensor:
    """x in float32, or as it is in float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def linear(gradient: Tensor, weight: Tensor) -> Tensor:
    """Of x -> x W^T + b with weight W [out, in]: [..., out] -> [..., in], float32 at least."""
    return upcast(gradient.to(weight.dtype) @ weight)


def normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """A LayerNorm before its weight and bias, and 1 / its deviation: x [..., C] -> [..., C] and [..., 1]."""
    centred = upcast(x) - upcast(x).mean(-1, keepdim=True)
    scale = torch.rsqrt((centred * centred).mean(-1, keepdim=True) + eps)
    return centred * scale, scale


def layer_norm(gradient: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Of LayerNorm at x [B, R, C]: [B, T, R or 1, C] -> [B, T, R, C]."""
    found, scale = (each[:, None] for each in normalised(x, eps))
    weighted = gradient * upcast(weight)
    along = (weighted * found).mean(-1, keepdim=True)
    return (weighted - weighted.mean(-1, keepdim=True) - found * along) * scale


def unit(gradient: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Of z -> z / |z| at z [B, E]: [B, T, E] -> the gradient times |z|, and 1 / |z| as [B, 1].

    Apart, because a gradient that is to be in half precision shall be of the order of 1.
    """
    length = torch.linalg.vector_norm(upcast(z), dim=-1, keepdim=True).clamp_min(1e-12)
    direction = (upcast(z) / length)[:, None]
    return gradient - (gradient * direction).sum(-1, keepdim=True) * direction, 1 / length


def slope(hidden: Tensor, activation: str) -> Tensor:
    """The activation's derivative at `hidden`, float32 at least."""
    x = upcast(hidden)
    if activation == "quick_gelu":
        gate = torch.sigmoid(1.702 * x)
        return gate * (1 + 1.702 * x * (1 - gate))
    if activation == "gelu_tanh":
        factor = math.sqrt(2 / math.pi)
        bent = torch.tanh(factor * (x + 0.044715 * x * x * x))
        return (1 + bent) / 2 + x / 2 * (1 - bent * bent) * factor * (1 + 3 * 0.044715 * x * x)
    return (1 + torch.erf(x * math.sqrt(0.5))) / 2 + x * torch.exp(-x * x / 2) * (1 / math.sqrt(2 * math.pi))


def mlp_half(gradient: Tensor, middle: Tensor, hidden: Tensor, block: Block, activation: str, eps: float) -> Tensor:
    """Of x -> x + MLP(LayerNorm(x)) at x = middle [B, R, C], hidden [B, R, M] being what the activation reads:
    [B, T, R or 1, C] -> [B, T, R, C]. A gradient that all rows share passes the MLP's second product once."""
    inner = linear(gradient, block.proj_w) * slope(hidden, activation)[:, None]
    return gradient + layer_norm(linear(inner, block.fc_w), middle, block.ln2_w, eps)


def softmax(gradient: Tensor, weights: Tensor) -> Tensor:
    """Of a softmax over the last axis whose result is `weights`."""
    product = gradient * weights
    return product - weights * product.sum(-1, keepdim=True)
