"""A slow, literal reference of temperatures matched to a row entropy, with every map in memory, by bisection alone.

`fastloc.functional.methods.entropy_matching` and `fastloc.engine.calibration` are tested against this; they share only the weights and the
steps in `fastloc.reference`.
"""

import math

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import Recipe
from fastloc.reference import arithmetic, methods, parts

Table = tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]
# the bounds of the multiplier
LOWEST, HIGHEST = 1e-3, 1e4
# enough halvings to shrink the interval to float64's resolution
HALVINGS = 50
# the value where no model was measured, as in the row's own field
UNMEASURED = 10.0


def gem_calibrated(
    weights: Weights, pixels: Tensor, temperature: float | Table = UNMEASURED, blocks: int = 6, iterations: int = 0
) -> Tensor:
    """GEM without its residual, at given inverse temperatures, one for every [block][head][stream][pass]; see `reference.gem`."""
    return methods.gem(weights, pixels, depth=blocks + 1, iterations=iterations, temperature=temperature, residual=False)


def gem_matched(
    weights: Weights, pixels: Tensor, rho: float = 0.7, blocks: int = 6, iterations: int = 0, residual: bool = False,
    row: Recipe | None = None,
) -> Tensor:  # fmt: skip
    """GEM with every map's inverse temperature solved, for each picture, block, head, stream and pass, one pass after the other."""

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # all heads of the three streams at once, each by itself
        p = arithmetic.unit(walked(torch.cat([v, k, q], 1), rho, iterations)[0])
        streams = (attention_map(p, solved(p, rho)) @ torch.cat([v, v, v], 1)).chunk(3, 1)
        return (streams[0] + streams[1] + streams[2]) / 3

    g, _ = parts.dual_paths(weights, pixels, blocks, attention, "bicubic-antialias", residual, row is None or row.rotary)
    return parts.project(weights, g[:, weights.spec.prefix :], row.patch_read if row else None)


def calibrated(weights: Weights, pixels: Tensor, rho: float, blocks: int, iterations: int) -> Tensor:
    """The table [block, head, stream, pass]: the geometric mean of the pictures' solved values. Streams are v, k, q."""
    table: list[Tensor] = []

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        temperatures = torch.stack([torch.stack(walked(stream, rho, iterations + 1)[1], -1) for stream in (v, k, q)], 2)
        table.append(torch.exp(torch.log(temperatures).mean(0)))
        return v

    parts.dual_paths(weights, pixels, blocks, attention, "bicubic-antialias", residual=False)
    return torch.stack(table)


def walked(p: Tensor, rho: float, passes: int) -> tuple[Tensor, list[Tensor]]:
    """p [B,H,N,d] after `passes` passes of self-self attention on itself, and the multipliers [B,H] of each."""
    multipliers = []
    for _ in range(passes):
        p = arithmetic.unit(p)
        multipliers.append(solved(p, rho))
        p = attention_map(p, multipliers[-1]) @ p
    return p, multipliers


def solved(u: Tensor, rho: float) -> Tensor:
    """The multipliers [B,H] at which rows of softmax(multiplier u u^T) have the mean entropy log(rho N), u [B,H,N,d] of unit length."""
    target = math.log(rho * u.shape[2])
    highest = torch.full_like(u[..., 0, 0], HIGHEST)
    low, high = highest * 0 + math.log(LOWEST), highest.log()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = mean_entropy(attention_map(u, middle.exp())) > target
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    unreachable = mean_entropy(attention_map(u, highest)) >= target
    return torch.where(unreachable | (target <= 0), highest, ((low + high) / 2).exp())


def attention_map(u: Tensor, multiplier: Tensor) -> Tensor:
    """softmax(multiplier u u^T), [B,H,N,N]."""
    return arithmetic.softmax(u @ u.mT * multiplier[..., None, None])


def mean_entropy(maps: Tensor) -> Tensor:
    """The mean entropy over all rows in nats: [B,H,N,N] -> [B,H]; 0 log 0 is 0."""
    nats: Tensor = torch.special.xlogy(maps, maps)
    return -nats.sum(-1).mean(-1)
