"""Vector-Jacobian products of a block's parts, written out: from the gradient at a part's output to the gradient at its input.

Gradients carry an axis of texts that activations do not have: [B, T, R, C] for [B, R, C], R being the rows (tokens) in use; an axis of
length 1 stands for all. Products with weights are in the weights' dtype, everything else in float32 at least. These are plain tensor
expressions: they run in inference mode, are captured, exported and batched like any forward pass.

Where a docstring starts with "Backward of", the function maps the gradient at that part's output to the gradient at its input.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Pool
from fastloc.functional import op_set
from fastloc.functional.blocks import activated, neurons
from fastloc.functional.methods.registers import RegisterBlock, at_taken_over
from fastloc.functional.op_set import TORCH
from fastloc.functional.pools import pool_activation
from fastloc.functional.rotary import rotated

# the activations x sigmoid(factor x)
_GATES = {"quick_gelu": 1.702, "silu": 1.0}


def upcast(x: Tensor) -> Tensor:
    """x in float32, or as it is in float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def linear(gradient: Tensor, weight: Tensor) -> Tensor:
    """Backward of x -> x W^T + b with weight W [out, in]: [..., out] -> [..., in], float32 at least."""
    return upcast(gradient.to(weight.dtype) @ weight)


def normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """A LayerNorm before its weight and bias, and 1 / its deviation: x [..., C] -> [..., C] and [..., 1]."""
    centred = upcast(x) - upcast(x).mean(-1, keepdim=True)
    scale = torch.rsqrt((centred * centred).mean(-1, keepdim=True) + eps)
    return centred * scale, scale


def layer_norm(gradient: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Backward of LayerNorm at x [B, R, C]: [B, T, R or 1, C] -> [B, T, R, C]."""
    found, scale = (each[:, None] for each in normalised(x, eps))
    weighted = gradient * upcast(weight)
    along = (weighted * found).mean(-1, keepdim=True)
    return (weighted - weighted.mean(-1, keepdim=True) - found * along) * scale


def unit(gradient: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Backward of z -> z / |z| at z [B, E]: [B, T, E] -> the gradient times |z|, and 1 / |z| as [B, 1].

    The two are separate so that the gradient is of the order of 1, as half precision needs.
    """
    length = torch.linalg.vector_norm(upcast(z), dim=-1, keepdim=True).clamp_min(1e-12)
    direction = (upcast(z) / length)[:, None]
    return gradient - (gradient * direction).sum(-1, keepdim=True) * direction, 1 / length


def slope(hidden: Tensor, activation: str) -> Tensor:
    """The activation's derivative at `hidden`, float32 at least."""
    x = upcast(hidden)
    if activation in _GATES:
        factor = _GATES[activation]
        gate = torch.sigmoid(factor * x)
        return gate * (1 + factor * x * (1 - gate))
    if activation == "gelu_tanh":
        factor = math.sqrt(2 / math.pi)
        bent = torch.tanh(factor * (x + 0.044715 * x * x * x))
        return (1 + bent) / 2 + x / 2 * (1 - bent * bent) * factor * (1 + 3 * 0.044715 * x * x)
    return (1 + torch.erf(x * math.sqrt(0.5))) / 2 + x * torch.exp(-x * x / 2) * (1 / math.sqrt(2 * math.pi))


def mlp_half(gradient: Tensor, middle: Tensor, hidden: Tensor, added: Tensor, block: Block, spec: ModelSpec) -> Tensor:
    """Backward of x -> x + MLP(LayerNorm(x)), or x + LayerNorm(MLP(x)) where norms stand behind: [B, T, R or 1, C] -> [B, T, R, C].

    A gradient that all rows share is expanded to rows as late as possible.

    Args:
        middle: [B, R, C], the input. hidden: [B, R, G], the activation's input. added: [B, R, C], the MLP's last product.
    """
    if spec.norm == "post":
        return gradient + _mlp(layer_norm(gradient, added, block.ln2_w, spec.norm_eps), hidden, block, spec)
    inner = _mlp(gradient, hidden, block, spec)
    if block.fc_norm_w is not None:
        read = op_set.normalised(middle, block.ln2_w, block.ln2_b, spec.norm_eps)
        inner = layer_norm(inner, read, block.fc_norm_w, spec.norm_eps)
    return gradient + layer_norm(inner, middle, block.ln2_w, spec.norm_eps)


def _mlp(gradient: Tensor, hidden: Tensor, block: Block, spec: ModelSpec) -> Tensor:
    inner = linear(gradient, block.proj_w)
    if block.mlp_norm_w is not None:
        inner = layer_norm(inner, neurons(block, hidden, spec), block.mlp_norm_w, spec.norm_eps)
    if isinstance(block, RegisterBlock):
        inner = at_taken_over(block, inner, activated(hidden, spec))
    if not spec.gated:
        return linear(inner * slope(hidden, spec.activation)[:, None], block.fc_w)
    whole = upcast(hidden)[:, None]
    half = whole.shape[-1] // 2
    gate, value = whole[..., :half], whole[..., half:]
    by_gate = inner * value * slope(gate, spec.activation)
    return linear(torch.cat([by_gate, inner * TORCH.activate(gate, spec.activation)], -1), block.fc_w)


def attention_end(gradient: Tensor, attended: Tensor, branch: Tensor, block: Block, spec: ModelSpec) -> Tensor:
    """Backward from the stream after the attention, without the residual, to the heads' outputs: [B, T, R, C] -> [B, T, R, C].

    Args:
        attended: [B, R, C], the heads' outputs. branch: [B, R, C], their out-projection, before a LayerNorm behind it.
    """
    if spec.norm == "post":
        gradient = layer_norm(gradient, branch, block.ln1_w, spec.norm_eps)
    found = linear(gradient, block.out_w)
    return found if block.attn_norm_w is None else layer_norm(found, attended, block.attn_norm_w, spec.norm_eps)


def turned(gradient: Tensor, plain: Tensor, turns: Tensor | None, norm_w: Tensor | None, eps: float) -> Tensor:
    """Backward of the LayerNorm of every head and the rotation of queries or keys, where there are any: [B, T, R, C] -> [B, T, R, C].

    Args:
        plain: [B, R, H, d], the projection. turns: [2, R, d/2], see `fastloc.functional.rotary`.
    """
    heads = gradient.reshape(*gradient.shape[:3], *plain.shape[2:])
    if turns is not None:
        # a rotation's transpose is its inverse
        back = torch.stack([upcast(turns[0]), -upcast(turns[1])])
        heads = rotated(heads.flatten(0, 1), back).reshape(heads.shape)
    if norm_w is not None:
        heads = layer_norm(heads, plain, norm_w, eps)
    return heads.flatten(3)


def pool_end(gradient: Tensor, z: Tensor, pool: Pool, spec: ModelSpec, whole: bool = True) -> Tensor:
    """Backward of `fastloc.functional.pools.after_pool` at z [B, R, D]: [B, T, R or 1, D] -> [B, T, R or 1, D]."""
    if pool.fc_w is None or pool.proj_w is None:
        return layer_norm(gradient, z, pool.norm_w, spec.norm_eps)
    if not whole:
        return gradient
    hidden = F.linear(op_set.normalised(z, pool.norm_w, pool.norm_b, spec.norm_eps), pool.fc_w, pool.fc_b)
    inner = linear(gradient, pool.proj_w) * slope(hidden, pool_activation(spec))[:, None]
    return gradient + layer_norm(linear(inner, pool.fc_w), z, pool.norm_w, spec.norm_eps)


def softmax(gradient: Tensor, weights: Tensor) -> Tensor:
    """Backward of a softmax over the last axis whose result is `weights`."""
    product = gradient * weights
    return product - weights * product.sum(-1, keepdim=True)
