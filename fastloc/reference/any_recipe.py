"""Any row of `fastloc.recipes` in the reference's own steps; a method that is only a row needs no reference of its own.

`fastloc.reference.methods` follows authors' code to the letter; on those rows the two agree.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import Recipe
from fastloc.reference import aggregation, arithmetic, entropy_matching, first_tokens, methods, middle_blocks, parts, procrustes
from fastloc.reference.registers import with_registers


def features(weights: Weights, pixels: Tensor, row: Recipe) -> Tensor:
    """Patch features [B, P, E] of normalised pixels [B, 3, H, W], of any recipe that reads them."""
    weights = with_registers(first_tokens.keeping_position(weights, pixels) if row.keep_position else weights, row)
    if row.inv_temp == "matched":
        return entropy_matching.gem_matched(weights, pixels, row.rho or 0.0, row.blocks, row.iterations, row.residual, row)
    if row.path != "local":
        return aggregation.features(weights, pixels, row)
    if row.blocks == 0:
        return parts.encoder(weights, pixels, row.position, row.patch_read)[1]

    grid, first = first_tokens.grid_of(weights, pixels), weights.spec.layers - row.blocks

    def mapped(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor, block: int | None = None) -> Tensor:
        """The map of the `index`-th changed block, or of another in its place."""
        own = first_tokens.relative_bias(weights.blocks[first + index if block is None else block], weights.spec, grid)
        return combined(row, index, y, {"q": q, "k": k, "v": v}, weights.spec.prefix, grid, own)

    middle = _middle(weights, pixels, row, mapped)

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        total = mapped(index, y, q, k, v)
        return (total if middle is None else row.gain * ((1 - row.cross_weight) * total + row.cross_weight * middle)) @ v

    if row.mlp:
        return parts.last_block(weights, pixels, attention, row.position, True, row.rotary, row.patch_read)
    g, _ = parts.dual_paths(weights, pixels, row.blocks, attention, row.position, row.residual, row.rotary)
    return parts.project(weights, g[:, weights.spec.prefix :], row.patch_read)


def combined(
    row: Recipe, index: int, y: Tensor, given: dict[str, Tensor], prefix: int, grid: first_tokens.Grid, own: Tensor | float | None = None
) -> Tensor:
    """The maps of a recipe's terms combined into one, [B, H, N, N].

    Args:
        index: of the changed block. y: its normed tokens [B, N, C]. given: "q", "k" and "v", [B, H, N, d] each.
        prefix: the number of tokens in front of the patches, whose grid is `grid`.
        own: the tower's own bias, [H, N, N] or 0: it belongs to the product that it was trained with, q k^T.
    """
    v = given["v"]
    total = torch.zeros(*v.shape[:3], v.shape[2]).to(v)
    bias = None if row.bias_std is None else methods.neighbourhood(grid, row.bias_std, prefix).to(v)
    for term in row.terms:
        biases = (bias, own if term == "qk" else None)
        one = torch.eye(v.shape[2]).to(v) if term == "identity" else _map(row, term, index, y, given, prefix, biases)
        total = total + (one if row.combine == "sum" else one / len(row.terms))
    return total


def _middle(weights: Weights, pixels: Tensor, row: Recipe, mapped: Callable[..., Tensor]) -> Tensor | None:
    """The mean map of the other blocks whose attention joins, [B, H, N, N]."""
    if not row.crosses:
        return None
    layers = weights.spec.layers
    low, high = (12 * share for share in row.cross or (0.0, 0.0))
    blocks = middle_blocks.at(layers, row.cross_blocks) or middle_blocks.between(layers, low, high)
    own = row.cross_terms == "own"

    def of_block(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # such terms have one temperature, which does not depend on the tokens
        if own:
            return mapped(0, q, q, k, v, index)
        bias = first_tokens.relative_bias(weights.blocks[index], weights.spec, first_tokens.grid_of(weights, pixels))
        return arithmetic.softmax(arithmetic.logits(q, k) + bias)

    return middle_blocks.middle_map(weights, pixels, row.position, blocks, of_block, row.rotary or not own)


def _map(
    row: Recipe, term: str, index: int, y: Tensor, given: dict[str, Tensor], prefix: int, biases: tuple[Tensor | float | None, ...]
) -> Tensor:
    """One term's map of one block, head by head: [B, H, N, N]. A bias has a map for each head, or one for all."""
    v, stream, heads = given["v"], row.streams.index(term), []
    # None is the adaptive temperature in `methods`, and head_width^-0.5 here
    temperature = None if row.inv_temp == "adaptive" else v.shape[-1] ** -0.5 if row.inv_temp is None else row.inv_temp
    for head in range(v.shape[1]):
        if row.inv_temp == "matched":
            solved = entropy_matching.walked(given[term[0]][:, head, None], row.rho or 0.0, row.iterations + 1)[1]
            by: list[Tensor | float] = [each[:, :, None] for each in solved]
        else:
            by = methods.multipliers_of(temperature, y, v.shape[-1], (index, head, stream), row.iterations + 1)  # type: ignore[arg-type]
        if term == "procrustes":
            products = procrustes.products(given["q"][:, head], given["k"][:, head], prefix, row.procrustes_weight)
        else:
            products = _products(row, given[term[0]][:, head], given[term[1]][:, head], by[:-1])
        logits = products * by[-1]
        for bias in biases:
            logits = logits if bias is None else logits + (bias[head] if isinstance(bias, Tensor) and bias.ndim == 3 else bias)
        heads.append(arithmetic.softmax(logits).to(v.dtype))
    return torch.stack(heads, 1)


def _products(row: Recipe, left: Tensor, right: Tensor, multipliers: list[Tensor | float]) -> Tensor:
    """The products that the last pass multiplies by its temperature, [B, N, N]."""
    for multiplier in multipliers:
        left = arithmetic.unit(left)
        left = right = arithmetic.softmax(left @ left.mT * multiplier) @ left
    if row.unit:
        left, right = arithmetic.unit(left), arithmetic.unit(right)
    return left @ right.mT
