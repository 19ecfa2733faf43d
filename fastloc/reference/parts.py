"""The parts of the literal methods: passes through the encoder, one block's steps and the pools.

Everything is explicit: every token passes through every block, and every N x N attention map is in memory.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.errors import ModelError
from fastloc.reference.arithmetic import activate, attend, layer_norm, rotate
from fastloc.reference.first_tokens import Grid, angles, embed, grid_of, relative_bias
from fastloc.reference.registers import Hooked

# (index of the changed block, y [B,N,C], q, k and v [B,H,N,d]) -> [B,H,N,d]
Attention = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]


# the passes through the encoder that the methods share


def encoder(weights: Weights, pixels: Tensor, position: str, read: str | None = None) -> tuple[Tensor, Tensor]:
    """The unchanged encoder's image embedding [B, E] and patch features [B, P, E]."""
    x = walk(weights, embed(weights, pixels, position), weights.blocks, grid_of(weights, pixels))
    return pooled(weights, x), project(weights, x[:, weights.spec.prefix :], read)


def dual_paths(
    weights: Weights, pixels: Tensor, blocks: int, attention: Attention, position: str, residual: bool, rotary: bool = True
) -> tuple[Tensor, Tensor]:
    """(g, x) after the last block, each [B, N, C]: x is the unchanged path; g adds, in the last `blocks` blocks, `attention` of x.

    rotary: `attention` gets queries and keys as in the unchanged path, rotated where the tower does so.
    """
    spec, grid = weights.spec, grid_of(weights, pixels)
    if not 0 <= blocks <= spec.layers:
        raise ModelError(f"{blocks} changed blocks do not fit a model of {spec.layers}")
    first = spec.layers - blocks
    x = walk(weights, embed(weights, pixels, position), weights.blocks[:first], grid)
    g = x if residual else torch.zeros_like(x)
    for index, block in enumerate(weights.blocks[first:]):
        y = entered(block, x, spec)
        g = g + out(block, attention(index, y, *qkv(block, y, spec, angles(weights, grid) if rotary else None)), spec)
        x = walk(weights, x, (block,), grid)
    return g, x


def last_block(
    weights: Weights, pixels: Tensor, attention: Attention, position: str, plain: bool, rotary: bool = True, read: str | None = None
) -> Tensor:
    """Patch features with another attention in the last block; its residual and MLP are kept (`plain`) or dropped."""
    spec, block, grid = weights.spec, weights.blocks[-1], grid_of(weights, pixels)
    x = walk(weights, embed(weights, pixels, position), weights.blocks[:-1], grid)
    y = entered(block, x, spec)
    attended = out(block, attention(0, y, *qkv(block, y, spec, angles(weights, grid) if rotary else None)), spec)
    if not plain:
        return project(weights, attended[:, spec.prefix :], read)
    x = x + attended
    return project(weights, (x + mlp(block, x, spec))[:, spec.prefix :], read)


def walk(weights: Weights, x: Tensor, blocks: tuple[Block, ...], grid: Grid | None) -> Tensor:
    """The unchanged encoder's stream [B, N, C] after these blocks, from the stream x before them."""
    spec = weights.spec
    turns = None if grid is None else angles(weights, grid)
    for block in blocks:
        bias = 0.0 if grid is None else relative_bias(block, spec, grid)
        x = x + out(block, attend(*qkv(block, entered(block, x, spec), spec, turns), bias), spec)
        x = x + mlp(block, x, spec)
    return x


# the parts of the encoder, from equations


def entered(block: Block, x: Tensor, spec: ModelSpec) -> Tensor:
    """The input of a block's projections, from the stream x."""
    return layer_norm(x, block.ln1_w, block.ln1_b, spec.norm_eps) if spec.norm == "pre" else x


def qkv(block: Block, y: Tensor, spec: ModelSpec, turns: Tensor | None = None, heads: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The three projections of y [B,N,C], each [B,H,N,d]; queries and keys normalised and rotated where the tower does so."""
    batch, tokens, width = y.shape
    heads = heads or spec.heads
    projected = (y @ block.qkv_w.T + block.qkv_b).reshape(batch, tokens, 3, heads, width // heads)
    q, k, v = projected.permute(2, 0, 3, 1, 4)
    if block.q_norm_w is not None and block.q_norm_b is not None and block.k_norm_w is not None and block.k_norm_b is not None:
        q = layer_norm(q, block.q_norm_w, block.q_norm_b, spec.norm_eps)
        k = layer_norm(k, block.k_norm_w, block.k_norm_b, spec.norm_eps)
    return (q, k, v) if turns is None else (rotate(q, turns), rotate(k, turns), v)


def out(block: Block, attended: Tensor, spec: ModelSpec) -> Tensor:
    """Merge heads, normalise, out-project, scale and normalise, as far as the tower does so: [B,H,N,d] -> [B,N,C]."""
    merged = attended.transpose(1, 2).flatten(2)
    if block.attn_norm_w is not None and block.attn_norm_b is not None:
        merged = layer_norm(merged, block.attn_norm_w, block.attn_norm_b, spec.norm_eps)
    added = merged @ block.out_w.T + block.out_b
    added = added if block.ls1 is None else added * block.ls1
    return added if spec.norm == "pre" else layer_norm(added, block.ln1_w, block.ln1_b, spec.norm_eps)


def mlp(block: Block, x: Tensor, spec: ModelSpec) -> Tensor:
    """The MLP's addition to x [B,N,C]."""
    y = layer_norm(x, block.ln2_w, block.ln2_b, spec.norm_eps) if spec.norm == "pre" else x
    if block.fc_norm_w is not None and block.fc_norm_b is not None:
        y = layer_norm(y, block.fc_norm_w, block.fc_norm_b, spec.norm_eps)
    hidden = y @ block.fc_w.T + block.fc_b
    if spec.gated:
        gate, value = hidden.chunk(2, -1)
        hidden = activate(gate, spec.activation) * value
    else:
        hidden = activate(hidden, spec.activation)
    if isinstance(block, Hooked):
        hidden = block.written(hidden)
    if block.mlp_norm_w is not None and block.mlp_norm_b is not None:
        hidden = layer_norm(hidden, block.mlp_norm_w, block.mlp_norm_b, spec.norm_eps)
    added = hidden @ block.proj_w.T + block.proj_b
    added = added if block.ls2 is None else added * block.ls2
    return added if spec.norm == "pre" else layer_norm(added, block.ln2_w, block.ln2_b, spec.norm_eps)


def project(weights: Weights, tokens: Tensor, read: str | None = None) -> Tensor:
    """Tokens in the texts' space, each pooled as if it were the only one: [..., C] -> [..., E].

    read: "value" leaves out an attention pool's MLP; None is the tower's own.
    """
    y = layer_norm(tokens, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps)
    if weights.pool is None:
        return to_texts(weights, y)
    # whatever the query, a single key gets all of the attention
    z = (y @ weights.pool.v_w.T + weights.pool.v_b) @ weights.pool.out_w.T + weights.pool.out_b
    if (read or weights.spec.patch_read) == "value" and weights.spec.pool_mlp:
        return to_texts(weights, z)
    return to_texts(weights, behind_pool(weights, z))


def to_texts(weights: Weights, x: Tensor) -> Tensor:
    """Apply the last projection."""
    if weights.proj is None:
        return x
    return x @ weights.proj if weights.proj_b is None else x @ weights.proj + weights.proj_b


def behind_pool(weights: Weights, z: Tensor) -> Tensor:
    """The rest of an attention pool after its out-projection z [..., D]: z + MLP(LN(z)), or LN(z) without an MLP."""
    pool, spec = weights.pool, weights.spec
    assert pool is not None
    y = layer_norm(z, pool.norm_w, pool.norm_b, spec.norm_eps)
    if pool.fc_w is None or pool.fc_b is None or pool.proj_w is None or pool.proj_b is None:
        return y
    hidden = activate(y @ pool.fc_w.T + pool.fc_b, "gelu" if spec.gated else spec.activation)
    return z + hidden @ pool.proj_w.T + pool.proj_b


def last_norm(weights: Weights, x: Tensor) -> Tensor:
    return layer_norm(x, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps)


def pool_qkv(weights: Weights, y: Tensor, heads: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A pool's query [1,H,1,d], and the keys and values of its input y [B,N,C], each [B,H,N,d]."""
    pool, heads = weights.pool, heads or weights.spec.pool_heads
    assert pool is not None
    q = (pool.q_w @ pool.latent + pool.q_b).reshape(1, heads, 1, -1)
    k, v = (
        (y @ w.T + b).reshape(*y.shape[:2], heads, -1).transpose(1, 2) for w, b in ((pool.k_w, pool.k_b), (pool.v_w, pool.v_b))
    )
    return q, k, v


def pool_out(weights: Weights, attended: Tensor) -> Tensor:
    """A pool's heads [B,H,N,d] merged and out-projected: [B,N,D]."""
    assert weights.pool is not None
    return attended.transpose(1, 2).flatten(2) @ weights.pool.out_w.T + weights.pool.out_b


def pooled(weights: Weights, x: Tensor) -> Tensor:
    """The encoder's image embedding [B, E] of the last block's tokens x [B, N, C]."""
    spec = weights.spec
    if spec.pool == "tok":
        return project(weights, x[:, 0])
    if spec.pool == "attn":
        z = pool_out(weights, attend(*pool_qkv(weights, last_norm(weights, x))))[:, 0]
        return to_texts(weights, behind_pool(weights, z))
    patches = x[:, spec.prefix :]
    if spec.norm_after_pool:
        return project(weights, patches.mean(1))
    return to_texts(weights, layer_norm(patches, weights.ln_post_w, weights.ln_post_b, spec.norm_eps).mean(1))
