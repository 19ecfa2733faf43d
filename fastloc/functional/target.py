"""The score that gradient methods differentiate: of an embedding with every text, its cosine, logit or softmax share.

Its gradient runs back to the last block's tokens through the part that makes the embedding: a class token, a mean, an attention pool.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Pool, Weights
from fastloc.functional import vjp
from fastloc.functional.op_set import normalised
from fastloc.functional.pools import after_pool, pool_maps, pool_output, pool_queries
from fastloc.recipes import Recipe
from fastloc.recipes.readout import LOGIT_SCALE

__all__ = [
    "ALL", "FIRST", "PoolTrace", "Target", "at_unit_embedding", "differentiated", "scored", "scored_rows", "target", "trace_pool",
    "unprojected",
]

# tokens of a sequence
FIRST, ALL = slice(0, 1), slice(None)


def at_unit_embedding(z: Tensor, texts: Tensor, recipe: Recipe, logit_scale: float = LOGIT_SCALE) -> tuple[Tensor, Tensor]:
    """The score's gradient at the unit embedding z / |z|: a direction [B or 1, T, E] and its factor [B or 1, T].

    The two are separate because the share of an unlikely text is tiny. One text alone has a share of 1, so its logit is differentiated.

    Args:
        z: embeddings [B, E], of any length, float32 or float64.
        texts: [T, E] of unit length, of the same dtype.
        recipe: its `target` ("cosine", "logit" or a softmax) and `target_scale`.
        logit_scale: the model's own, for recipes that use it.
    """
    scale = recipe.score_scale(logit_scale)
    if recipe.target in ("cosine", "logit"):
        return texts[None], torch.full_like(texts[None, :, 0], scale if recipe.target == "logit" else 1.0)
    shares = torch.softmax(scale * F.normalize(z, dim=-1) @ texts.T, -1)
    # a tensor decides, because an exported graph may take any number of texts
    alone = torch.ones_like(texts[:, 0]).sum() < 1.5
    # each text against its rivals, not against itself: next to a share of 1, 1 - share would be all rounding
    place = torch.cumsum(torch.ones_like(texts[:, 0]), 0)
    rivals = torch.where(place[:, None] == place, 0.0, shares[:, None])
    towards = rivals.sum(-1, keepdim=True) * texts - rivals @ texts
    return torch.where(alone, texts, towards), scale * shares


@dataclass(frozen=True)
class Target:
    """The gradient of every text's score at the last block's rows, to be multiplied by `strength` [B, T].

    The factor is separate so that the gradient is of the order of 1 in half precision.
    """

    gradient: Callable[[slice], Tensor]  # of some texts, [B, t, R or 1, C]: through a pool there is one for every token
    strength: Tensor
    # [B, T, N], of an attention pool: the mean over heads of ReLU(A dy/dA), A the pool's attention, without the strength
    seen: Tensor | None = None


def scored_rows(spec: ModelSpec, recipe: Recipe) -> slice:
    """The tokens that the scored embedding reads."""
    if recipe.target == "softmax-of-mean" or spec.pool == "avg":
        return slice(spec.prefix, None) if spec.prefix else ALL
    return FIRST if spec.pool == "tok" else ALL


def target(weights: Weights, out: Tensor, texts: Tensor, recipe: Recipe) -> Target:
    """The target for the last block's output [B, R, C] and texts [T, E] of unit length; R = 1 where only the class token is read."""
    spec, rows = weights.spec, scored_rows(weights.spec, recipe)
    if spec.pool == "attn" and recipe.target != "softmax-of-mean":
        seen = trace_pool(weights, out)
        at_end, strength = scored(weights, seen.embedding, texts, recipe)
        outputs = seen.at_outputs(at_end)
        by_map = seen.at_maps(outputs)
        positive = torch.relu(by_map * seen.maps[:, None]).mean(2)
        return Target(lambda some: seen.at_tokens(outputs[:, some], by_map[:, some]), strength, positive)
    tokens = out[:, rows]
    count = tokens.shape[1]
    if spec.pool == "avg" and spec.norm_after_pool and recipe.target != "softmax-of-mean":
        # one gradient for all rows
        tokens = tokens.mean(1, keepdim=True)
    gradient, strength = differentiated(weights, tokens, texts, recipe)
    return Target(lambda some: gradient[:, some], strength / count)


def differentiated(weights: Weights, tokens: Tensor, texts: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """(gradient [B, T, R, C], strength [B, T]) of R times a score of the mean of tokens [B, R, C], each read alone in the texts' space."""
    spec, pool = weights.spec, weights.pool
    normed = _last_norm(weights, tokens)
    if pool is None:
        at_normed, strength = scored(weights, _projected(weights, normed.mean(1)), texts, recipe)
        return vjp.layer_norm(at_normed[:, :, None], tokens, weights.ln_post_w, spec.norm_eps), strength
    z = F.linear(F.linear(normed.to(tokens.dtype), pool.v_w, pool.v_b), pool.out_w, pool.out_b)
    whole = spec.patch_read == "pool"
    ends = vjp.upcast(after_pool(pool, z, spec, whole=whole))
    at_end, strength = scored(weights, _projected(weights, ends.mean(1)), texts, recipe)
    at_z = vjp.pool_end(at_end[:, :, None], z, pool, spec, whole)
    at_normed = vjp.linear(vjp.linear(at_z, pool.out_w), pool.v_w)
    return vjp.layer_norm(at_normed, tokens, weights.ln_post_w, spec.norm_eps), strength


def scored(weights: Weights, embedding: Tensor, texts: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """The score's gradient at the last projection's input, [B, T, C] of unit length, and its strength [B, T]; embedding [B, E]."""
    towards, strength = at_unit_embedding(embedding, texts.to(embedding.dtype), recipe, weights.logit_scale)
    gradient, shrink = vjp.unit(towards, embedding)
    length = torch.linalg.vector_norm(gradient, dim=-1).clamp_min(1e-30)
    return unprojected(weights, gradient / length[..., None]), strength * length * shrink


@dataclass(frozen=True)
class PoolTrace:
    """An attention pool with the tokens that it reads and its intermediates."""

    weights: Weights
    x: Tensor  # [B, N, C]
    y: Tensor  # [B, N, C], the tokens that it attends to
    maps: Tensor  # [B, H, N], float32 at least
    z: Tensor  # [B, D], behind the out-projection
    normed: bool  # True if y is the last LayerNorm of x, False if y is x

    @property
    def pool(self) -> Pool:
        assert self.weights.pool is not None
        return self.weights.pool

    @property
    def embedding(self) -> Tensor:
        """The image embedding [B, E], float32 at least."""
        return _projected(self.weights, vjp.upcast(after_pool(self.pool, self.z, self.weights.spec)))

    @property
    def values(self) -> tuple[Tensor, Tensor]:
        """The values' weight and bias of each head, [H, d, C] and [H, d]."""
        heads = self.maps.shape[1]
        return self.pool.v_w.reshape(heads, -1, self.y.shape[2]), self.pool.v_b.reshape(heads, -1)

    def at_outputs(self, gradient: Tensor) -> Tensor:
        """The gradient at the heads' outputs, [B, T, H, d], from that at the pool's output, [B, T, D]."""
        return self.by_head(vjp.pool_end(gradient[:, :, None], self.z[:, None], self.pool, self.weights.spec)[:, :, 0])

    def by_head(self, at_z: Tensor) -> Tensor:
        """The gradient at the heads' outputs, [B, T, H, d], from that after the out-projection, [B, T, D]."""
        found = vjp.linear(at_z, self.pool.out_w)
        return found.reshape(*found.shape[:2], self.maps.shape[1], found.shape[2] // self.maps.shape[1])

    def at_maps(self, outputs: Tensor) -> Tensor:
        """The gradient at the pool's attention: dy/dA_h[n] is that at head h's output times value n. [B, T, H, d] -> [B, T, H, N]."""
        constant = (outputs * vjp.upcast(self.values[1])).sum(-1, keepdim=True)
        return self._at_seen(outputs) @ vjp.upcast(self.y[:, None]).transpose(2, 3) + constant

    def at_tokens(self, outputs: Tensor, by_map: Tensor) -> Tensor:
        """The gradient at x, [B, T, N, C], through values and keys."""
        logits = vjp.softmax(by_map, self.maps[:, None])
        at_y = self.maps[:, None].transpose(2, 3) @ self._at_seen(outputs)
        at_y = at_y + logits.transpose(2, 3) @ vjp.upcast(pool_queries(self.pool, self.maps.shape[1]))
        if not self.normed:
            return at_y
        return vjp.layer_norm(at_y, self.x, self.weights.ln_post_w, self.weights.spec.norm_eps)

    def _at_seen(self, outputs: Tensor) -> Tensor:
        """The gradient at the mean of the tokens that a head sees: [B, T, H, C]."""
        matrix = self.values[0]
        return vjp.upcast(torch.einsum("bthd,hdc->bthc", outputs.to(matrix.dtype), matrix))


def trace_pool(weights: Weights, x: Tensor, heads: int = 0, normed: bool = True) -> PoolTrace:
    """Run an attention pool on tokens x [B, N, C], with `heads` in place of the model's if not 0, after the last LayerNorm if `normed`."""
    spec, pool = weights.spec, weights.pool
    assert pool is not None
    y = normalised(x, weights.ln_post_w, weights.ln_post_b, spec.norm_eps) if normed else x
    maps = pool_maps(pool, y, heads or spec.pool_heads)
    return PoolTrace(weights, x, y, maps, pool_output(pool, y, maps), normed)


def _last_norm(weights: Weights, x: Tensor) -> Tensor:
    weight, bias = vjp.upcast(weights.ln_post_w), vjp.upcast(weights.ln_post_b)
    return F.layer_norm(vjp.upcast(x), (weights.spec.width,), weight, bias, weights.spec.norm_eps)


def _projected(weights: Weights, x: Tensor) -> Tensor:
    """Apply the last projection in float32 at least."""
    if weights.proj is None:
        return x
    product = x @ vjp.upcast(weights.proj)
    return product if weights.proj_b is None else product + vjp.upcast(weights.proj_b)


def unprojected(weights: Weights, gradient: Tensor) -> Tensor:
    """The vector-Jacobian product of the last projection: [..., E] -> [..., C]."""
    return gradient if weights.proj is None else vjp.linear(gradient, weights.proj.transpose(0, 1))
