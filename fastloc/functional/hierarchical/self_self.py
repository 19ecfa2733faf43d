"""Self-self attention in FastViT's last stage: the local path of plain transformers, on the cells of a map in place of tokens.

A tower's last stage attends over its whole grid, with heads of 32 channels and no class token, so the terms of a recipe (q-q, k-k, v-v …)
are those of `fastloc.functional.attention` and stand for what they do in a transformer: local += scale * O(terms' attention to v), with q,
k and v of the encoder's own path. Nobody published a method on these towers. What is exact and what is an extension:

- Exact: without changed blocks, or with the term q-k, residual and MLP in the last block, the map is the encoder's own, and the mean of its
  cells in the texts' space is the image embedding, since the head is linear.
- Extension: the final convolution, 3x3 on each channel, stands between the local path and the head, and mixes neighbours; so does the 7x7
  convolution of an MLP that a recipe keeps. In a transformer a patch stays alone there.
- Extension: squeeze-and-excitation multiplies the channels by factors of the whole map's mean. `gate` chooses the map: the encoder's own,
  so that local cells pass through the very layer that makes the embedding, or the local path's.
- Extension: a BatchNorm takes the place of the LayerNorm whose lengths GEM's adaptive temperature reads (S0, S1 and S2).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.fastvit import HEAD_WIDTH, AttentionBlock, Trunk
from fastloc.checkpoints.hierarchical.fastvit_folding import folded
from fastloc.errors import RecipeError, unknown
from fastloc.functional.attention import FORMS, Projections, attend, inverse_temperatures, temperature_table
from fastloc.functional.hierarchical import fastvit
from fastloc.functional.hierarchical.cells import rows_of
from fastloc.recipes import Recipe

__all__ = ["GATES", "Prepared", "attention_blocks", "check", "finish", "prepare", "projections"]

# the map whose mean gates the final convolution's channels
GATES = ("encoder", "local")
# what else a recipe may choose elsewhere, and nothing here reads
_ONLY_ELSEWHERE = {
    "registers": "there are no tokens in front of the cells",
    "trained": "its projections are trained for the patches of a transformer",
}


@dataclass(frozen=True)
class Prepared:
    """One trunk, folded for one recipe."""

    trunk: Trunk  # folded
    recipe: Recipe
    gate: str
    table: Tensor | None  # see `fastloc.functional.attention.temperature_table`


def attention_blocks(trunk: Trunk) -> tuple[AttentionBlock, ...]:
    """The blocks of the last stage, which share one grid: all that a recipe can change.

    S3 and S4 attend in the stage before it too, whose blocks are not counted: a local path adds terms of one stream, and a term of that
    stage has another grid and other channels. It would have to pass the step between the two, a convolution of 7x7 cells and GELU.
    """
    return tuple(block for block in trunk.stages[-1].blocks if isinstance(block, AttentionBlock))


def check(recipe: Recipe, trunk: Trunk) -> None:
    """Raise RecipeError for a recipe that is no local path, or that changes more blocks than the last stage has."""
    if reason := why_not(recipe):
        raise RecipeError(reason)
    check_blocks(recipe, len(attention_blocks(trunk)))


def check_blocks(recipe: Recipe, count: int) -> None:
    """Raise RecipeError for a recipe that changes more blocks than the `count` of the last stage."""
    if recipe.blocks > count:
        raise RecipeError(
            f"blocks of {recipe.name!r} on a FastViT must be at most the {count} of its last stage, got {recipe.blocks}; "
            f"give blocks={count}"
        )


def why_not(recipe: Recipe) -> str | None:
    """The reason why a recipe is no local path of a FastViT, whatever its number of blocks; None if it is one."""
    if recipe.reads != "patches" or recipe.path != "local":
        return f"method {recipe.name!r} is one of plain transformers: it reads more of them than a local path does"
    if recipe.crosses:
        return f"method {recipe.name!r} reads middle blocks' attention, and those of a FastViT are convolutions on other grids"
    for field, reason in _ONLY_ELSEWHERE.items():
        if getattr(recipe, field):
            return f"{field} of {recipe.name!r} means nothing on a FastViT: {reason}"
    return None


def prepare(trunk: Trunk, recipe: Recipe, gate: str = "encoder") -> Prepared:
    """Fold `trunk`, which may be folded already, for `recipe`.

    Raises:
        RecipeError: see `check`; an unknown gate; a table for another number of heads.
    """
    if gate not in GATES:
        raise RecipeError(unknown("gate", gate, GATES))
    check(recipe, trunk)
    weight = attention_blocks(trunk)[0].qkv.weight
    return Prepared(folded(trunk), recipe, gate, temperature_table(recipe, weight.shape[1] // HEAD_WIDTH, weight))


def finish(prepared: Prepared, x: Tensor) -> tuple[Tensor, Tensor]:
    """The last map of the local path and that of the encoder, both [B, 2 C, h, w], from `fastvit.tokens` x
    [B, C, h, w]. Differentiable.

    Cells of the first map through the head are the recipe's features; the mean of the second through the head is the image embedding.
    """
    recipe, blocks = prepared.recipe, attention_blocks(prepared.trunk)
    first, local = len(blocks) - recipe.blocks, None
    for i, block in enumerate(blocks):
        if i == first and recipe.residual:
            local = x
        y, qkv = _projections(block, x)
        if i >= first:
            term = _branch(block, _attended(prepared, i - first, y, qkv, (x.shape[2], x.shape[3])), x)
            local = term if local is None else local + term
        x = _onward(block, x, qkv)
    if local is None:
        local = x
    elif recipe.mlp:
        local = local + fastvit.mlp(local, blocks[-1].mlp)
    return _last_maps(prepared, local, x)


def projections(trunk: Trunk, x: Tensor, count: int) -> Iterator[Tensor]:
    """The q, k and v of the last `count` attention blocks, [B, 3, H, P, d] each, from `fastvit.tokens` x [B, C, h, w]."""
    blocks = attention_blocks(trunk)
    for i, block in enumerate(blocks):
        _, qkv = _projections(block, x)
        if i >= len(blocks) - count:
            yield qkv.by_head
        x = _onward(block, x, qkv)


def _onward(block: AttentionBlock, x: Tensor, qkv: Projections) -> Tensor:
    """The encoder's own stream behind the block, [B, C, h, w]."""
    x = x + _branch(block, attend(qkv["q"], qkv["k"], qkv["v"], HEAD_WIDTH**-0.5), x)
    return x + fastvit.mlp(x, block.mlp)


def _projections(block: AttentionBlock, x: Tensor) -> tuple[Tensor, Projections]:
    """The normed cells [B, P, C], and q, k and v."""
    if block.norm is not None:
        y = read = rows_of(fastvit.normed(x, block.norm))
    else:
        # qkv holds the norm
        read = rows_of(x)
        y = read if block.merged is None else read * block.merged.scale + block.merged.shift
    packed = fastvit.linear(read, block.qkv).reshape(*read.shape[:2], 3, -1, HEAD_WIDTH)
    return y, Projections(packed, "qkv", prefix=0)


def _attended(prepared: Prepared, index: int, y: Tensor, qkv: Projections, grid: tuple[int, int]) -> Tensor:
    """The terms' attention in the `index`-th changed block, [B, P, C]."""
    recipe = prepared.recipe
    if not recipe.streams:
        return qkv["v"].flatten(2)
    lengths = None
    if recipe.inv_temp == "adaptive":
        lengths = torch.linalg.vector_norm(y, dim=-1, dtype=torch.promote_types(y.dtype, torch.float32))
    temperatures = inverse_temperatures(recipe, prepared.table, lengths, HEAD_WIDTH, index)
    return FORMS["sdpa"](qkv, temperatures, recipe, grid, None)


def _branch(block: AttentionBlock, attended: Tensor, like: Tensor) -> Tensor:
    """The out-projection of attended values [B, P, C] and its scale, as a map."""
    return fastvit.scaled(fastvit.linear(attended, block.out), block.scale).transpose(1, 2).reshape(like.shape)


def _last_maps(prepared: Prepared, local: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    final = prepared.trunk.final
    own = fastvit.summed(x, final.conv)
    own_gate = local_gate = None
    here = own if local is x else fastvit.summed(local, final.conv)
    if final.excite is not None:
        own_gate = fastvit.excited(own, final.excite)
        local_gate = own_gate if prepared.gate == "encoder" else fastvit.excited(here, final.excite)
    gated = [each if gate is None else each * gate for each, gate in ((here, local_gate), (own, own_gate))]
    return F.gelu(gated[0]), F.gelu(gated[1])
