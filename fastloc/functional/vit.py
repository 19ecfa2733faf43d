"""The functional ViT: `forward(weights, pixels, recipe) -> Output`. Nothing is hooked; what others hook is returned.

The execution is restructured, with the same result: the local path is a sum of terms fed by the main path alone, so it
needs no second stream; the main path of the last block runs only if its result is asked for (and then, for a class
token, for one row); projections that nothing reads are skipped; and no N x N map is kept in memory.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.errors import ModelError, RecipeError
from fastloc.functional.attention import Projections
from fastloc.functional.folding import FoldedViT, Linear, fold, letters
from fastloc.functional.local_path import LocalPath
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.position_embedding import resized_position
from fastloc.recipes import Recipe

Grid = tuple[int, int]


@dataclass(frozen=True)
class Output:
    """What one pass returns. `captured` holds the intermediates that were asked for, by name."""

    patches: Tensor  # [B, P, E], in the text's space, not normalised
    cls: Tensor | None  # [B, E], the encoder's own image embedding, not normalised; None unless asked for
    grid: Grid
    captured: Mapping[str, Tensor] = field(default_factory=dict)


def forward(weights: Weights, pixels: Tensor, recipe: Recipe, *, cls: bool = False, capture: Collection[str] = ()) -> Output:
    """Run the image tower the way `recipe` says, in plain PyTorch; differentiable.

    Args:
        weights: of any floating dtype; it is the dtype of the whole pass.
        pixels: [B, 3, H, W], normalised, H and W multiples of the patch, any batch and any such size.
        cls: also return the image embedding (of the main path in every recipe).
        capture: names of intermediates to return: "embedded" [B,N,C] (what the first block reads), "block{i}" [B,N,C] (the
            main path after block i, counted from 0), "qkv{i}" [B,3,H,N,d], "local" [B,P,C] (before the last LayerNorm).

    Raises:
        ModelError: the shape of `pixels` does not fit the model.
        RecipeError: the recipe changes more blocks than there are, or its table does not fit; an unknown capture.
    """
    check_pixels(weights.spec, pixels)
    prepared = fold(weights, recipe)
    tokens, grid = patch_tokens(prepared.weights, pixels)
    return encode(prepared, tokens, position_table(weights, grid, recipe), grid, cls=cls, capture=capture)


def encode(
    prepared: FoldedViT, tokens: Tensor, table: Tensor, grid: Grid, ops: Ops = TORCH, *, cls: bool = False, capture: Collection[str] = ()
) -> Output:
    """From embedded patches [B, P, C] (without position) to the output; `table` [1+P, C] is the position embedding of this grid."""
    weights, recipe = prepared.weights, prepared.recipe
    spec = weights.spec
    _check_captures(spec, capture)
    kept: dict[str, Tensor] = {}

    def keep(name: str, tensor: Tensor) -> None:
        if name in capture:
            kept[name] = tensor

    x, delta = embed(weights, tokens, table, ops), None
    keep("embedded", x)
    local = LocalPath(prepared, ops, grid, x)
    last, last_rows = spec.layers - 1, _last_rows(prepared, x.shape[1], cls, capture)
    for i, block in enumerate(weights.blocks):
        changed, rows = i >= prepared.first, last_rows if i == last else x.shape[1]
        x, y, lengths = ops.add_norm(x, delta, block.ln1_w, block.ln1_b, spec.norm_eps, changed and recipe.inv_temp == "adaptive")
        if i > 0:
            keep(f"block{i - 1}", x)
        if i == prepared.first and recipe.residual:
            local.accumulated = x[:, 1:]
        slot = local.slot(i - prepared.first) if changed else None
        whole = rows > 1 or slot is not None or f"qkv{i}" in capture
        read = "qkv" if whole else letters(prepared.projections_read, "kv" if rows else "")
        qkv = project(y, prepared.rows(block, read), spec.heads, read, slot) if read else None
        if qkv is not None and whole:
            keep(f"qkv{i}", qkv.by_head)
        local.keep_projections(i, qkv)
        if changed:
            local.add_block(i - prepared.first, y, lengths, qkv if prepared.attends else None)
        if rows == 0 or qkv is None:
            continue
        q = qkv["q"][:, :rows] if "q" in read else project(y[:, :rows], prepared.rows(block, "q"), spec.heads, "q")["q"]
        x, delta = _finish_block(block, x[:, :rows], q, qkv, spec, ops)
    if last_rows and delta is not None:
        x = x + delta
        keep(f"block{last}", x)
    patches = _local_patches(weights, local, x, recipe, ops)
    keep("local", patches)
    return Output(head(weights, patches, ops), pooled(weights, x) if cls else None, grid, kept)


def patch_tokens(weights: Weights, pixels: Tensor) -> tuple[Tensor, Grid]:
    """The patch embedding of normalised pixels: [B,3,H,W] -> [B,P,C] and the grid.

    A convolution that steps by its own size is a product with the patches laid out as rows; unlike cuDNN's, it is not rounded to TF32.
    """
    (height, width), (ph, pw) = pixels.shape[-2:], weights.spec.patch
    grid = height // ph, width // pw
    rows = pixels.to(weights.dtype).reshape(pixels.shape[0], 3, grid[0], ph, grid[1], pw).permute(0, 2, 4, 1, 3, 5)
    return F.linear(rows.reshape(pixels.shape[0], grid[0] * grid[1], 3 * ph * pw), weights.patch_w.flatten(1)), grid


def position_table(weights: Weights, grid: Grid, recipe: Recipe) -> Tensor:
    """The position embedding of this grid, [1+P, C]."""
    return resized_position(weights.pos, weights.spec.grid, grid, recipe.position)


def embed(weights: Weights, tokens: Tensor, table: Tensor, ops: Ops = TORCH) -> Tensor:
    """Class token, position embedding and ln_pre: [B,P,C] -> [B,1+P,C]."""
    x = torch.cat([weights.cls.expand(tokens.shape[0], 1, -1), tokens], 1) + table
    if weights.ln_pre_w is None or weights.ln_pre_b is None:
        return x
    return ops.add_norm(x, None, weights.ln_pre_w, weights.ln_pre_b, weights.spec.norm_eps, False)[1]


def project(y: Tensor, rows: Linear, heads: int, read: str, slot: Tensor | None = None) -> Projections:
    """The projections named in `read` from y [B,N,C], with one product; into `slot` [B,N,K*C] where one is given."""
    if slot is None:
        packed = F.linear(y, *rows)
    else:
        packed = slot
        torch.addmm(rows[1], y.flatten(0, 1), rows[0].T, out=slot.view(-1, slot.shape[-1]))
    return Projections(packed.view(*y.shape[:2], len(read), heads, y.shape[2] // heads), read)


def main_path(weights: Weights, x: Tensor, blocks: int, ops: Ops = TORCH) -> tuple[Tensor, Tensor | None]:
    """The encoder's first `blocks` blocks on x [B,N,C]: the stream [B,N,C], and what the last block's MLP still has to add to it."""
    delta = None
    for block in weights.blocks[:blocks]:
        x, y, _ = ops.add_norm(x, delta, block.ln1_w, block.ln1_b, weights.spec.norm_eps, False)
        qkv = project(y, (block.qkv_w, block.qkv_b), weights.spec.heads, "qkv")
        x, delta = _finish_block(block, x, qkv["q"], qkv, weights.spec, ops)
    return x, delta


def _finish_block(block: Block, x: Tensor, q: Tensor, qkv: Projections, spec: ModelSpec, ops: Ops) -> tuple[Tensor, Tensor]:
    """The rest of a block for some rows x [B,R,C] with queries q [B,R,H,d]: the stream behind the attention, and the MLP's branch."""
    attended = F.linear(ops.attend(q, qkv["k"], qkv["v"], spec.head_width**-0.5, None), block.out_w, block.out_b)
    x, y, _ = ops.add_norm(x, attended, block.ln2_w, block.ln2_b, spec.norm_eps, False)
    return x, mlp(block, y, spec, ops)


def mlp(block: Block, y: Tensor, spec: ModelSpec, ops: Ops = TORCH) -> Tensor:
    """The MLP branch behind its LayerNorm: [B,N,C] -> [B,N,C]."""
    hidden = ops.activate(F.linear(y, block.fc_w, block.fc_b), spec.activation)
    return F.linear(hidden, block.proj_w, block.proj_b)


def head(weights: Weights, tokens: Tensor, ops: Ops = TORCH) -> Tensor:
    """Last LayerNorm and projection into the text's space: [..., C] -> [..., E]."""
    return ops.add_norm(tokens, None, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps, False)[1] @ weights.proj


def pooled(weights: Weights, x: Tensor) -> Tensor:
    """The image embedding of the encoder, [B,N,C] -> [B,E], by the spec's pooling."""
    if weights.spec.pool == "tok":
        return head(weights, x[:, 0])
    if weights.spec.norm_after_pool:
        return head(weights, x[:, 1:].mean(1))
    _, normed, _ = TORCH.add_norm(x[:, 1:], None, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps, False)
    return normed.mean(1) @ weights.proj


def _local_patches(weights: Weights, local: LocalPath, x: Tensor, recipe: Recipe, ops: Ops) -> Tensor:
    if recipe.blocks == 0:
        return x[:, 1:]
    patches = local.sum()
    if not recipe.mlp:
        return patches
    block, eps = weights.blocks[-1], weights.spec.norm_eps
    _, y, _ = ops.add_norm(patches, None, block.ln2_w, block.ln2_b, eps, False)
    return patches + mlp(block, y, weights.spec, ops)


def _last_rows(prepared: FoldedViT, tokens: int, cls: bool, capture: Collection[str]) -> int:
    """How many tokens of the last block's main path anything reads."""
    spec = prepared.weights.spec
    if prepared.recipe.blocks == 0 or f"block{spec.layers - 1}" in capture or (cls and spec.pool != "tok"):
        return tokens
    return 1 if cls else 0


def check_pixels(spec: ModelSpec, pixels: Tensor) -> None:
    """Raise ModelError unless these are normalised floats [B, 3, H, W], H and W multiples of the patch."""
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
        raise ModelError(f"pixels are {tuple(pixels.shape)} {pixels.dtype}; normalised floats [B, 3, H, W] are wanted")
    size = tuple(pixels.shape[-2:])
    if any(side == 0 or side % step for side, step in zip(size, spec.patch, strict=True)):
        raise ModelError(f"input size {size[0]}x{size[1]} is not a multiple of the patch {spec.patch[0]}x{spec.patch[1]}")


def _check_captures(spec: ModelSpec, capture: Collection[str]) -> None:
    known = {"embedded", "local", *(f"{kind}{i}" for kind in ("block", "qkv") for i in range(spec.layers))}
    for name in capture:
        if name not in known:
            raise RecipeError(f"unknown capture {name!r}: known are 'embedded', 'local', 'block0' … and 'qkv0' … 'qkv{spec.layers - 1}'")
