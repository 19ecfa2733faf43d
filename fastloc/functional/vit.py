"""The functional ViT: `forward(weights, pixels, recipe) -> Output`. It returns intermediates instead of offering hooks.

The execution is restructured, with the same result: the local path is a sum of terms fed by the main path alone, so it
needs no second stream; the main path of the last block runs only if you request its result (and then, for a class
token, for one row); projections that nothing reads are skipped; and no N x N map is kept in memory.
"""

from collections.abc import Collection

from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.errors import RecipeError
from fastloc.functional.blocks import (
    attention_of,
    biased,
    embed,
    enter_block,
    enter_mlp,
    finish_mlp,
    main_path,
    mlp,
    project,
    turned,
)
from fastloc.functional.folding import FoldedViT, fold, letters
from fastloc.functional.hierarchical.inputs import check_input
from fastloc.functional.local_path import LocalPath
from fastloc.functional.methods.sc_clip import aggregated
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.output import Grid, Output
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.pools import head, pooled
from fastloc.functional.position_embedding import Positions, relative_biases, resized_position
from fastloc.functional.rotary import rotations
from fastloc.recipes import Recipe


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
    return encode(prepared, tokens, positions(prepared.weights, grid, recipe), grid, cls=cls, capture=capture)


def encode(
    prepared: FoldedViT, tokens: Tensor, places: Positions, grid: Grid, ops: Ops = TORCH, *, cls: bool = False,
    capture: Collection[str] = (),
) -> Output:  # fmt: skip
    """The output from embedded patches [B, P, C] (without position); `places` are the positions of this grid."""
    weights = prepared.weights
    _check_captures(weights.spec, capture)
    x, local, kept = _blocks(prepared, embed(weights, tokens, places, ops), places, grid, ops, cls, capture)
    patches = _patches(prepared, local, x, places, ops)
    if "local" in capture:
        kept["local"] = patches
    features = patches if ops.unread else head(weights, patches, ops, prepared.recipe.patch_read)
    return Output(features, pooled(weights, x, ops) if cls else None, grid, kept)


def _blocks(
    prepared: FoldedViT, x: Tensor, places: Positions, grid: Grid, ops: Ops, cls: bool, capture: Collection[str]
) -> tuple[Tensor, LocalPath, dict[str, Tensor]]:
    """All blocks on embedded tokens x [B, N, C]: the main path's rows that are read, the local path, and what is captured."""
    weights, recipe = prepared.weights, prepared.recipe
    spec = weights.spec
    kept: dict[str, Tensor] = {}

    def keep(name: str, tensor: Tensor) -> None:
        if name in capture:
            kept[name] = tensor

    keep("embedded", x)
    local, delta = LocalPath(prepared, ops, grid, x), None
    last, last_rows = spec.layers - 1, _last_rows(prepared, x.shape[1], cls, capture)
    # the local path reads the main path's queries and keys, unless the recipe takes them unrotated
    apart = places.turns is not None and not recipe.rotary
    own = prepared.crossed if recipe.cross_terms == "own" else ()
    for i, block in enumerate(weights.blocks):
        changed, rows = i >= prepared.first, last_rows if i == last else x.shape[1]
        x, y, lengths = enter_block(block, x, delta, spec, ops, changed and recipe.inv_temp == "adaptive")
        delta = None
        if i > 0:
            keep(f"block{i - 1}", x)
            local.keep_stream(i - 1, x)
        if i == prepared.first and recipe.residual:
            local.begin(x[:, spec.prefix :])
        slot = local.slot(i - prepared.first) if changed else None
        whole = rows > 1 or slot is not None or f"qkv{i}" in capture
        read = "qkv" if whole else letters(prepared.projections_read, "kv" if rows else "")
        plain = biased(project(y, prepared.rows(block, read), spec, read, slot), places, i) if read else None
        # a slot belongs to the local path: if the main path's queries and keys differ, they go elsewhere
        qkv = turned(block, plain, spec, places, None if apart else slot, ops, free=not apart) if plain is not None else None
        if qkv is not None and whole:
            keep(f"qkv{i}", qkv.by_head)
        unturned = apart and (changed or i in own)
        attending = turned(block, plain, spec, Positions(places.table), slot, ops) if unturned and plain is not None else qkv
        local.keep_projections(i, attending)
        if changed:
            local.add_block(i - prepared.first, y, lengths, attending if prepared.projections_read else None)
        if rows == 0 or qkv is None:
            continue
        q = qkv["q"][:, :rows] if "q" in read else _queries(prepared, block, y[:, :rows], places, ops)
        delta = attention_of(block, q, qkv, spec, ops)
        x, y = enter_mlp(block, x[:, :rows], delta, spec, ops)
        # each is a tensor that the MLP would have to run beside, see `fastloc.functional.blocks`
        del q, plain, qkv, attending
        delta = None
        delta = finish_mlp(block, y, spec, ops)
    if last_rows and delta is not None:
        x = x + delta
        keep(f"block{last}", x)
    return x, local, kept


def positions(weights: Weights, grid: Grid, recipe: Recipe) -> Positions:
    """The learned positions of this grid and, where the tower has them, its rotary and relative ones."""
    turns = None if weights.spec.rope is None else rotations(weights.spec, grid, weights.pos)
    table = resized_position(weights.pos, weights.spec.grid, grid, recipe.position, recipe.keep_position)
    return Positions(table, turns, relative_biases(weights, grid))


def image_embedding(weights: Weights, pixels: Tensor, places: Positions, ops: Ops = TORCH) -> Tensor:
    """The encoder's own image embedding alone, not normalised, without reading patches: [B,3,H,W] -> [B,E].

    weights: with LayerScale folded in, as `fastloc.functional.folding.without_scale` returns them.
    """
    x, delta = main_path(weights, embed(weights, patch_tokens(weights, pixels)[0], places, ops), len(weights.blocks), places, ops)
    return pooled(weights, x if delta is None else x + delta, ops)


def _queries(prepared: FoldedViT, block: Block, y: Tensor, places: Positions, ops: Ops) -> Tensor:
    spec = prepared.weights.spec
    return turned(block, project(y, prepared.rows(block, "q"), spec, "q"), spec, places, ops=ops, free=True)["q"]


def _patches(prepared: FoldedViT, local: LocalPath, x: Tensor, places: Positions, ops: Ops) -> Tensor:
    weights, recipe = prepared.weights, prepared.recipe
    if recipe.path != "local":
        return aggregated(prepared, local.streams, local.crossed, places, local.grid, ops)
    if recipe.blocks == 0:
        return x[:, weights.spec.prefix :]
    patches = local.sum()
    if not recipe.mlp:
        return patches
    return patches + mlp(weights.blocks[-1], patches, weights.spec, ops)


def _last_rows(prepared: FoldedViT, tokens: int, cls: bool, capture: Collection[str]) -> int:
    """The number of tokens of the last block's main path that are read."""
    spec, recipe = prepared.weights.spec, prepared.recipe
    plain = recipe.blocks == 0 and recipe.path == "local"
    if plain or f"block{spec.layers - 1}" in capture or (cls and spec.pool != "tok"):
        return tokens
    return 1 if cls else 0


def check_pixels(spec: ModelSpec, pixels: Tensor) -> None:
    """Raise ModelError unless these are normalised floats [B, 3, H, W], H and W multiples of the patch."""
    check_input(pixels, spec.patch, "patch")


def _check_captures(spec: ModelSpec, capture: Collection[str]) -> None:
    known = {"embedded", "local", *(f"{kind}{i}" for kind in ("block", "qkv") for i in range(spec.layers))}
    for name in capture:
        if name not in known:
            raise RecipeError(f"unknown capture {name!r}: known are 'embedded', 'local', 'block0' … and 'qkv0' … 'qkv{spec.layers - 1}'")
