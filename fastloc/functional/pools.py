"""Maps from tokens to the texts' space: the image embedding by the tower's pool, and the embedding of one patch alone.

A patch is read as its pool would read a picture of this one token: through the last LayerNorm and the projection, and through an
attention pool's values and out-projection, because a softmax over one key is 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Pool, Weights
from fastloc.functional.op_set import TORCH, Ops, normalised

__all__ = ["after_pool", "head", "pool_activation", "pool_maps", "pool_output", "pool_queries", "pooled", "projected"]


def head(weights: Weights, tokens: Tensor, ops: Ops = TORCH, read: str | None = None) -> Tensor:
    """Tokens in the texts' space, each read alone: [..., C] -> [..., E].

    read: "pool" or "value" in place of the spec's, see `fastloc.checkpoints.vit_spec.ModelSpec`.
    """
    # one name: tokens before the pool need not stay in memory while its MLP runs
    z = normalised(tokens, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps, ops)
    pool = weights.pool
    if pool is None:
        return projected(weights, z)
    if pool.value_w is not None:
        z = F.linear(z, pool.value_w, pool.value_b)
    else:
        z = F.linear(F.linear(z, pool.v_w, pool.v_b), pool.out_w, pool.out_b)
    return projected(weights, after_pool(pool, z, weights.spec, ops, (read or weights.spec.patch_read) == "pool"))


def pooled(weights: Weights, x: Tensor, ops: Ops = TORCH) -> Tensor:
    """The image embedding of the encoder, [B,N,C] -> [B,E], by the spec's pooling."""
    spec = weights.spec
    if spec.pool == "tok":
        return head(weights, x[:, 0], ops)
    if spec.pool == "attn":
        return _attended(weights, x, ops)
    patches = x[:, spec.prefix :]
    if spec.norm_after_pool:
        return head(weights, patches.mean(1), ops)
    return projected(weights, normalised(patches, weights.ln_post_w, weights.ln_post_b, spec.norm_eps, ops).mean(1))


def projected(weights: Weights, x: Tensor) -> Tensor:
    """The last projection, [..., C] -> [..., E]; x itself where the tower ends in the texts' space."""
    if weights.proj is None:
        return x
    product = x @ weights.proj
    return product if weights.proj_b is None else product + weights.proj_b


def after_pool(pool: Pool, z: Tensor, spec: ModelSpec, ops: Ops = TORCH, whole: bool = True) -> Tensor:
    """The rest of an attention pool after its out-projection: z + MLP(LN(z)), z itself unless `whole`; LN(z) in a pool without an MLP."""
    if pool.fc_w is not None and not whole:
        return z
    y = normalised(z, pool.norm_w, pool.norm_b, spec.norm_eps, ops)
    if pool.fc_w is None or pool.proj_w is None:
        return y
    return z + F.linear(TORCH.activate(F.linear(y, pool.fc_w, pool.fc_b), pool_activation(spec)), pool.proj_w, pool.proj_b)


def pool_activation(spec: ModelSpec) -> str:
    """The activation of a pool's MLP: the blocks' activation, without the gate of a gated one."""
    return "gelu" if spec.gated else spec.activation


def pool_queries(pool: Pool, heads: int) -> Tensor:
    """The pool's query, the same for every picture, with the key's weight folded in, so that it multiplies tokens: [H, C].

    The keys' bias adds the same to every token's logit and is left out.
    """
    width = pool.latent.shape[0] // heads
    query = F.linear(pool.latent, pool.q_w, pool.q_b).view(heads, width) * width**-0.5
    return torch.einsum("hd,hdc->hc", query, pool.k_w.view(heads, width, -1))


def pool_maps(pool: Pool, y: Tensor, heads: int) -> Tensor:
    """The attention of the pool's query to all tokens that it reads: [B,N,C] -> [B,H,N], float32 at least."""
    dtype = torch.promote_types(y.dtype, torch.float32)
    return torch.softmax(pool_queries(pool, heads).to(dtype) @ y.to(dtype).transpose(1, 2), -1)


def pool_output(pool: Pool, y: Tensor, maps: Tensor) -> Tensor:
    """The pool's out-projection of its heads' outputs: [B,N,C] and [B,H,N] -> [B,D].

    Each head's values multiply the weighted mean of the tokens rather than every token.
    """
    seen = maps.to(y.dtype) @ y  # [B, H, C]
    values = torch.einsum("bhc,hdc->bhd", seen, pool.v_w.view(maps.shape[1], -1, y.shape[2])).flatten(1) + pool.v_b
    return F.linear(values, pool.out_w, pool.out_b)


def _attended(weights: Weights, x: Tensor, ops: Ops) -> Tensor:
    pool, spec = weights.pool, weights.spec
    assert pool is not None
    y = normalised(x, weights.ln_post_w, weights.ln_post_b, spec.norm_eps, ops)
    return projected(weights, after_pool(pool, pool_output(pool, y, pool_maps(pool, y, spec.pool_heads)), spec, ops))
