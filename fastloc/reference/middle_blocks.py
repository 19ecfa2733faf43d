"""The methods whose last block also attends by maps of earlier blocks, with every map in memory."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.reference.arithmetic import logits, softmax
from fastloc.reference.first_tokens import angles, embed, grid_of
from fastloc.reference.parts import entered, out, project, qkv, walk

# the number of one block, and its queries, keys and values [B, H, N, d] -> its map [B, H, N, N]
Mapped = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def itaclip(weights: Weights, pixels: Tensor) -> Tensor:
    """ITACLIP (clip/model.py, `attn_self`) of the picture alone, without its other views and texts: [B, P, E].

    The sum of q-q and k-k maps, half of the last block and half the mean of three blocks before it; the residual stays, the MLP is dropped.
    The official code takes blocks 7, 8 and 10 whatever the depth, counted from 1; those are 6/12, 7/12 and 9/12 of the published model.
    """
    spec, grid, last = weights.spec, grid_of(weights, pixels), weights.blocks[-1]

    def both(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return softmax(logits(q, q)) + softmax(logits(k, k))

    middle = middle_map(weights, pixels, "bicubic-scale", {place * spec.layers // 12 for place in (6, 7, 9)}, both)
    x = walk(weights, embed(weights, pixels, "bicubic-scale"), weights.blocks[:-1], grid)
    q, k, v = qkv(last, entered(last, x, spec), spec, angles(weights, grid))
    x = x + out(last, (0.5 * both(spec.layers - 1, q, k, v) + 0.5 * middle) @ v, spec)
    return project(weights, x[:, spec.prefix :])


def middle_map(
    weights: Weights, pixels: Tensor, position: str, blocks: Collection[int], mapped: Mapped, rotary: bool = True
) -> Tensor:  # fmt: skip
    """The mean of these blocks' maps of their own projections, [B,H,N,N]; if none precedes the last block, the map of the last but one.

    rotary: queries and keys are rotated where the tower does that.
    """
    spec, grid, maps = weights.spec, grid_of(weights, pixels), []
    chosen = [index for index in range(spec.layers - 1) if index in blocks] or [spec.layers - 2]
    x = embed(weights, pixels, position)
    for index, block in enumerate(weights.blocks[:-1]):
        if index in chosen:
            maps.append(mapped(index, *qkv(block, entered(block, x, spec), spec, angles(weights, grid) if rotary else None)))
        x = walk(weights, x, (block,), grid)
    return torch.stack(maps).mean(0)


def between(layers: int, start: float, stop: float) -> list[int]:
    """The blocks from `start` to `stop` twelfths of the depth."""
    return [index for index in range(layers) if start * layers <= 12 * index < stop * layers]


def at(layers: int, places: tuple[int | float, ...]) -> list[int]:
    """The blocks given by number, or by a fraction of the depth at which they begin or that lies within them."""
    return [place if isinstance(place, int) else max(i for i in range(layers) if i <= place * layers + 1e-9) for place in places]
