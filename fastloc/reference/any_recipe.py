"""What any row of `fastloc.recipes` says, in the reference's own steps: a method that is nothing but a row needs no statement of its own.

Where authors' code is followed to the letter, `fastloc.reference.methods` does it; on those rows the two agree.
"""

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import Recipe
from fastloc.reference import aggregation, entropy_matching, methods, parts


def features(weights: Weights, pixels: Tensor, row: Recipe) -> Tensor:
    """Patch features [B, P, E] of normalised pixels [B, 3, H, W], of any recipe that reads them."""
    if row.inv_temp == "matched":
        return entropy_matching.gem_matched(weights, pixels, row.rho or 0.0, row.blocks, row.iterations, row.residual, row)
    if row.path != "local":
        return aggregation.features(weights, pixels, row)
    if row.blocks == 0:
        return parts.encoder(weights, pixels, row.position, row.patch_read)[1]

    grid = pixels.shape[2] // weights.spec.patch[0], pixels.shape[3] // weights.spec.patch[1]
    bias = None if row.bias_std is None else methods.neighbourhood(grid, row.bias_std, weights.spec.prefix).to(weights.patch_w)
    low, high = (12 * share for share in row.cross or (0.0, 0.0))
    middle = None if row.cross is None else methods.middle_attention(weights, pixels, row.position, low, high)

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given, total = {"q": q, "k": k, "v": v}, torch.zeros_like(v)
        for term in row.terms:
            one = v if term == "identity" else _attended(row, term, index, y, given, bias)
            total = total + (one if row.combine == "sum" else one / len(row.terms))
        return total if middle is None else row.gain * ((1 - row.cross_weight) * total + row.cross_weight * middle @ v)

    if row.mlp:
        return parts.last_block(weights, pixels, attention, row.position, True, row.rotary, row.patch_read)
    g, _ = parts.dual_paths(weights, pixels, row.blocks, attention, row.position, row.residual, row.rotary)
    return parts.project(weights, g[:, weights.spec.prefix :], row.patch_read)


def _attended(row: Recipe, term: str, index: int, y: Tensor, given: dict[str, Tensor], bias: Tensor | None) -> Tensor:
    """One term of one block, head by head: [B, H, N, d]."""
    v, stream, heads = given["v"], row.streams.index(term), []
    # None is the adaptive one there, and head_width^-0.5 here
    temperature = None if row.inv_temp == "adaptive" else v.shape[-1] ** -0.5 if row.inv_temp is None else row.inv_temp
    for head in range(v.shape[1]):
        left, right = (given[letter][:, head] for letter in term)
        by = methods.multipliers_of(temperature, y, v.shape[-1], (index, head, stream), row.iterations + 1)  # type: ignore[arg-type]
        for multiplier in by[:-1]:
            left = parts.unit(left)
            left = right = parts.softmax(left @ left.mT * multiplier) @ left
        if row.unit:
            left, right = parts.unit(left), parts.unit(right)
        logits = left @ right.mT * by[-1]
        heads.append(parts.softmax(logits if bias is None else logits + bias) @ v[:, head])
    return torch.stack(heads, 1)
