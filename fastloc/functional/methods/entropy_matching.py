"""Inverse temperatures solved for an entropy: self-self attention's rows spread as a uniform row over a share of the tokens.

A row of softmax(beta u u^T) over N unit vectors u has an entropy that falls from log N at beta = 0, and its slope is known:
dH / d log(beta) = -beta^2 Var(s), s the row's cosines under the row's own weights. So one beta for each head and stream, at which the mean
over the rows is log(rho N), is found for all of them at once, by Newton's steps in log(beta) between two bounds.

On a CPU the steps start where a sample of the rows meets the target, and end where they no longer move. A GPU takes all of them, from all
rows: to ask whether it may stop is to wait for it, which no captured graph can.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fastloc.functional.slices import SLICE, at_once, in_parts, parts, total

# the bounds of the multiplier; a target beyond them gets the largest one
RANGE = (1e-3, 1e4)
# Newton steps; a step that leaves the bounds becomes a bisection
STEPS = {torch.float64: 14, torch.float32: 10}
# a step in log(beta) behind which the next is below the dtype's rounding: each is about the square of the one before
SETTLED = {torch.float64: 1e-7, torch.float32: 1e-4}
# rows of a head in the sample, at least, and a step in log(beta) that is short enough there
SAMPLE, NEAR = 64, 1e-2


def matched(u: Tensor, rho: float) -> Tensor:
    """The inverse temperature of each head at which the mean entropy of its rows is log(rho N).

    Args:
        u: unit vectors [B, N, G, d], G any heads and streams side by side, each by itself.
        rho: the share of the N tokens, between 0 and 1.

    Returns: [B, 1, G, 1], float32 at least: to multiply `u` as queries. 1e4 where even that leaves the rows more entropy, as where
    tokens are the same, and where rho N is no more than 1.
    """
    tokens = u.shape[1]
    vectors = u.to(torch.promote_types(u.dtype, torch.float32)).permute(0, 2, 1, 3).contiguous()
    if rho * tokens <= 1 or not len(u):
        return torch.full_like(vectors[:, None, :, :1, 0], RANGE[1])
    target, exact = math.log(rho * tokens), SETTLED[vectors.dtype]
    rows = vectors[:, :, :: max(tokens // SAMPLE, 1)].contiguous() if _may_stop(u) else vectors
    at, settled = _newton(vectors, rows, target, _first_guess(vectors, rows, target), NEAR if rows.shape[2] < tokens else exact)
    if rows.shape[2] < tokens:
        at, settled = _newton(vectors, vectors, target, at, exact)
    beta = at.exp()
    if not (_may_stop(u) and bool(settled.all())):
        out_of_reach = entropy(vectors, torch.full_like(beta, RANGE[1]))[0] >= target
        beta = torch.where(out_of_reach, RANGE[1], beta)
    return beta[:, None, :, None]


def entropy(u: Tensor, beta: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The mean over the rows of softmax(beta u u^T) of their entropy in nats, and minus its derivative by log(beta).

    Args:
        u: [B, G, N, d]. beta: [B, G]. rows: [B, G, R, d], the vectors whose rows count; all where there are none.

    Returns: both [B, G].
    """
    at = beta.flatten()[:, None, None]

    def sums(heads: slice, queries: Tensor, keys: Tensor) -> Tensor:
        # logits below those of a vector with itself, which are the highest: no sum of powers is 0, or overflows
        scaled = queries * at[heads]
        logits = torch.baddbmm(-(scaled * queries).sum(-1, keepdim=True), scaled, keys.mT)
        powers = logits.exp()
        whole = powers.sum(-1)
        powers = powers * logits
        first = powers.sum(-1) / whole
        second = (powers * logits).sum(-1) / whole
        return torch.stack([whole.log() - first, second - first * first]).sum(-1)

    nats, slope = _mean(u, u if rows is None else rows, sums)
    return nats, slope


def _newton(u: Tensor, rows: Tensor, target: float, at: Tensor, enough: float) -> tuple[Tensor, Tensor]:
    """log(beta) [B, G] where these rows' entropy meets the target, from a guess, and where the last step was shorter than `enough`."""
    low, high = (torch.full_like(at, math.log(each)) for each in RANGE)
    settled = torch.zeros_like(at, dtype=torch.bool)
    for _ in range(STEPS[u.dtype]):
        found, slope = entropy(u, at.exp(), rows)
        low, high = torch.where(found > target, at, low), torch.where(found > target, high, at)
        step = at + (found - target) / slope
        inside = (step >= low) & (step <= high)
        settled = inside & ((step - at).abs() < enough)
        at = torch.where(inside, step, (low + high) / 2)
        if _may_stop(u) and bool(settled.all()):
            break
    return at, settled


def _may_stop(u: Tensor) -> bool:
    """True where a value may be read within the pass."""
    return u.device.type == "cpu"


def _first_guess(u: Tensor, rows: Tensor, target: float) -> Tensor:
    """log(beta) where the entropy of small temperatures, log N - beta^2 Var(s) / 2, meets the target: [B, G], within the bounds."""
    variance = _mean(u, rows, lambda _, queries, keys: (queries @ keys.mT).var(-1, correction=0).sum(-1)).clamp_min(1e-12)
    guess = 0.5 * torch.log(2 * max(math.log(u.shape[2]) - target, 1e-6) / variance)
    return guess.clamp(*map(math.log, RANGE))


def _mean(u: Tensor, rows: Tensor, sums: Callable[[slice, Tensor, Tensor], Tensor]) -> Tensor:
    """The mean over the rows [B, G, R, d] of numbers whose sums [..., h] over r rows [h, r, d] the function returns: [..., B, G].

    It is called with some heads, of the B G, some of their rows, and all their vectors [h, N, d].
    """
    vectors, queries = u.flatten(0, 1), rows.flatten(0, 1)
    most, count, tokens = at_once(SLICE, u), rows.shape[2], u.shape[2]

    def of(heads: slice) -> Tensor:
        keys, asking = vectors[heads], queries[heads]
        return total(sums(heads, asking[:, part], keys) for part in parts(count, tokens, most))

    means = in_parts(len(vectors), count * tokens, most, of, axis=-1) / count
    return means.reshape(*means.shape[:-1], *u.shape[:2])
