"""Weights folded once for a tower and a recipe, before any picture: exact, and the same in every plan."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.errors import RecipeError
from fastloc.functional.attention import temperature_table
from fastloc.functional.methods.registers import with_registers
from fastloc.recipes import Recipe

# a linear map's weight [out, in] and bias [out]
Linear = tuple[Tensor, Tensor]
# the projections that a term reads, where its name does not list them
_READ = {"procrustes": "qk"}


@dataclass(frozen=True)
class FoldedViT:
    """One tower, folded for one recipe."""

    # without LayerScale, which is folded into the projections before it; the recipe's registers are among the tokens in front
    weights: Weights
    recipe: Recipe
    local: tuple[Linear, ...]  # for each changed block: attention output -> its term of the local path
    joint: Linear | None  # these maps side by side, [C, m*C] and the sum of biases [C]; None where each is applied alone
    table: Tensor | None  # the recipe's own inverse temperatures, see `attention.temperature_table`
    qv_rows: Linear | None  # the last block's rows for q and v, which are not contiguous; None unless the recipe reads exactly these

    @property
    def first(self) -> int:
        """The first changed block."""
        return self.weights.spec.layers - self.recipe.blocks

    @property
    def crossed(self) -> tuple[int, ...]:
        """The blocks whose attention joins the last one's, or shows the path "sfp" its outliers."""
        return crossed(self.recipe, self.weights.spec.layers)

    @property
    def streams_read(self) -> tuple[int, ...]:
        """The blocks behind which the paths "sc-clip" and "sfp" read the stream: `Recipe.path_blocks`, its range written out."""
        return streams_read(self.recipe, self.weights.spec.layers)

    @property
    def start(self) -> int:
        """The first block that a recipe of relevance reads, counted from 0."""
        return self.recipe.start + (self.weights.spec.layers if self.recipe.start < 0 else 0)

    @property
    def attends(self) -> bool:
        """True if the local path attends; otherwise a block's term is its values' out-projection."""
        return bool(self.recipe.streams)

    @property
    def projections_read(self) -> str:
        """The projections that the local path reads, as letters; none where values and out-projection are one matrix."""
        values = self.recipe.blocks and self.weights.spec.attn_norm
        return letters("v", *self.recipe.streams) if self.attends or values else ""

    def rows(self, block: Block, read: str) -> Linear:
        """The part of the block's projection that gives the letters in `read`; the last block's if these are not neighbours."""
        if read == "qv" and self.qv_rows is not None:
            return self.qv_rows
        return qkv_rows(block, read)


def fold(weights: Weights, recipe: Recipe, *, joint: bool = False) -> FoldedViT:
    """Fold `weights` for `recipe`; `joint` also lays the local path's projections side by side, for one product over all blocks.

    Raises:
        RecipeError: the recipe changes more blocks than the tower has, its table is for another number of heads, or its registers do
            not fit.
    """
    if recipe.blocks > weights.spec.layers:
        raise RecipeError(f"recipe {recipe.name!r}: blocks must be at most the model's {weights.spec.layers}, got {recipe.blocks}")
    _check_relevance(weights.spec, recipe)
    _check_path(weights.spec, recipe)
    scaled = with_registers(without_scale(weights), recipe)
    _check_crossed(weights.spec, recipe)
    changed = scaled.blocks[weights.spec.layers - recipe.blocks :] if recipe.blocks else ()
    local = tuple(_local(block, recipe) for block in changed)
    table = temperature_table(recipe, weights.spec.heads, weights.patch_w)
    # a LayerNorm behind the out-projection is each block's own
    joint = joint and weights.spec.norm == "pre"
    plain = FoldedViT(scaled, recipe, local, _side_by_side(local) if joint and local else None, table, None)
    return replace(plain, qv_rows=qkv_rows(scaled.blocks[-1], "qv")) if plain.projections_read == "qv" else plain


def _check_relevance(spec: ModelSpec, recipe: Recipe) -> None:
    if not -spec.layers <= recipe.start < spec.layers:
        raise RecipeError(f"recipe {recipe.name!r}: start must be a block of the model, 0 … {spec.layers - 1}, got {recipe.start}")
    if recipe.head is not None and recipe.head >= spec.heads:
        raise RecipeError(f"recipe {recipe.name!r}: head must be a head of the model, 0 … {spec.heads - 1}, got {recipe.head}")
    if recipe.reads == "grad-eclip" and spec.pool == "avg":
        what = "reads the gradient of the class token, and the model's embedding is the mean of its patches"
        raise RecipeError(f"recipe {recipe.name!r} {what}")


def _check_crossed(spec: ModelSpec, recipe: Recipe) -> None:
    if (recipe.crosses or recipe.reads == "cliper") and spec.layers < 2:
        raise RecipeError(f"recipe {recipe.name!r} reads the attention of blocks before the last, and the model has one block")
    for block in recipe.cross_blocks:
        if isinstance(block, int) and block > spec.layers - 2:
            known = f"the model's blocks before the last are 0 … {spec.layers - 2}"
            raise RecipeError(f"recipe {recipe.name!r}: cross_blocks names block {block}, and {known}")


def _check_path(spec: ModelSpec, recipe: Recipe) -> None:
    if recipe.path == "local":
        return
    if spec.layers < 2:
        raise RecipeError(f"recipe {recipe.name!r} reads what stands before the last block, and the model has one block")
    if max(recipe.path_blocks, default=0) > spec.layers - 2:
        raise RecipeError(f"recipe {recipe.name!r}: path_blocks must be within 0 … {spec.layers - 2}, got {recipe.path_blocks}")


def streams_read(recipe: Recipe, layers: int) -> tuple[int, ...]:
    """The blocks of a tower of `layers` behind which the paths "sc-clip" and "sfp" read the stream; none on the local path."""
    if recipe.path == "local":
        return ()
    similar, average, first, last = recipe.path_blocks or (8, 3, 3, 9)
    numbers = (similar, average, *range(first, last + 1))
    if recipe.path_blocks:
        return numbers
    # behind the block at the same share of the depth as in the authors' 12 blocks, and never behind the last
    return tuple(min(-(-(number + 1) * layers // 12), layers - 1) - 1 for number in numbers)


def crossed(recipe: Recipe, layers: int) -> tuple[int, ...]:
    """The blocks of a tower of `layers` whose attention joins the last one's, or shows the path "sfp" its outliers, each once."""
    if recipe.path == "sfp":
        return (layers - 2,)
    # a share such as 5/12 of 12 blocks must not end up a rounding error above or below 5
    if recipe.cross_blocks:
        numbers = (each if isinstance(each, int) else math.floor(each * layers + 1e-9) for each in recipe.cross_blocks)
        return tuple(sorted({min(each, layers - 2) for each in numbers}))
    if recipe.cross is None:
        return ()
    first, end = (math.ceil(share * layers - 1e-9) for share in recipe.cross)
    # where the depth has no block in the share, the nearest
    first = min(first, layers - 2)
    return tuple(range(first, max(min(end, layers - 1), first + 1)))


def letters(*read: str) -> str:
    """The letters of q, k and v that any of these letters or terms reads, in the order "qkv": ("vv", "kq") -> "qkv"."""
    return "".join(letter for letter in "qkv" if any(letter in _READ.get(each, each) for each in read))


def qkv_rows(block: Block, read: str) -> Linear:
    """The rows of the projection that give these letters."""
    width = block.out_w.shape[0]
    starts = ["qkv".index(letter) * width for letter in read]
    if starts[-1] - starts[0] == (len(starts) - 1) * width:
        # one run of rows needs no copy
        rows = slice(starts[0], starts[-1] + width)
        return block.qkv_w[rows], block.qkv_b[rows]
    return tuple(torch.cat([whole[start : start + width] for start in starts]) for whole in (block.qkv_w, block.qkv_b))  # type: ignore[return-value]


def without_scale(weights: Weights) -> Weights:
    """The same tower with LayerScale multiplied into the projections that it follows, and a pool's values and out-projection in one."""
    pool = weights.pool
    if pool is not None and pool.value_w is None:
        value_w, value_b = _product((pool.out_w, pool.out_b), (pool.v_w, pool.v_b))
        pool = replace(pool, value_w=value_w, value_b=value_b)
    return replace(weights, blocks=tuple(_block_without_scale(block) for block in weights.blocks), pool=pool)


def _block_without_scale(block: Block) -> Block:
    if block.ls1 is None or block.ls2 is None:
        return block
    out_w, out_b = _scaled(block.out_w, block.out_b, block.ls1)
    proj_w, proj_b = _scaled(block.proj_w, block.proj_b, block.ls2)
    return replace(block, out_w=out_w, out_b=out_b, proj_w=proj_w, proj_b=proj_b, ls1=None, ls2=None)


def _scaled(weight: Tensor, bias: Tensor, scale: Tensor) -> Linear:
    return weight * scale[:, None], bias * scale


def _local(block: Block, recipe: Recipe) -> Linear:
    """The linear map after the attention of a changed block.

    Identity attention gives v, itself a linear map: both fold into one matrix, unless a LayerNorm stands between.
    """
    if recipe.streams or block.attn_norm_w is not None:
        return block.out_w, block.out_b
    return _product((block.out_w, block.out_b), qkv_rows(block, "v"))


def _product(second: Linear, first: Linear) -> Linear:
    """Two linear maps, one after the other, as one."""
    dtype = first[0].dtype
    accumulate_dtype = torch.promote_types(dtype, torch.float32)
    matrix = second[0].to(accumulate_dtype)
    return (matrix @ first[0].to(accumulate_dtype)).to(dtype), (matrix @ first[1].to(accumulate_dtype) + second[1]).to(dtype)


def _side_by_side(local: tuple[Linear, ...]) -> Linear:
    accumulate_dtype = torch.promote_types(local[0][1].dtype, torch.float32)
    bias = torch.stack([bias.to(accumulate_dtype) for _, bias in local]).sum(0)
    return torch.cat([weight for weight, _ in local], 1), bias.to(local[0][1].dtype)
