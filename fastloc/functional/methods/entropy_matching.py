"""Inverse temperatures solved for an entropy: self-self attention's rows spread as a uniform row over a share of the tokens.

A row of softmax(beta u u^T) over N unit vectors u has an entropy that falls from log N at beta = 0, and its slope is known:
dH / d log(beta) = -beta^2 Var(s), s the row's cosines under the row's own weights. So one beta for each head and stream, at which the mean
over the rows is log(rho N), is found for all of them at once, by Newton's steps in log(beta) between two bounds.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

# the bounds of the multiplier; a target beyond them gets the largest one
RANGE = (1e-3, 1e4)
# Newton steps; a step that leaves the bounds becomes a bisection
STEPS = {torch.float64: 14, torch.float32: 10}
# the most cosines of rows with all tokens in memory at a time: 16 MB of float32
SLICE = 1 << 22


def matched(u: Tensor, rho: float) -> Tensor:
    """The inverse temperature of each head at which the mean entropy of its rows is log(rho N).

    Args:
        u: unit vectors [B, N, G, d], G any heads and streams side by side, each by itself.
        rho: the share of the N tokens, between 0 and 1.

    Returns: [B, 1, G, 1], float32 at least: to multiply `u` as queries. 1e4 where even that leaves the rows more entropy, as where
    tokens are the same, and where rho N is no more than 1.
    """
    vectors = u.to(torch.promote_types(u.dtype, torch.float32)).permute(0, 2, 1, 3)
    if rho * u.shape[1] <= 1:
        return torch.full_like(vectors[:, None, :, :1, 0], RANGE[1])
    target = math.log(rho * u.shape[1])
    low, high = (torch.full_like(vectors[..., 0, 0], math.log(each)) for each in RANGE)
    out_of_reach = entropy(vectors, high.exp())[0] >= target
    at = _first_guess(vectors, target).clamp(low, high)
    for _ in range(STEPS[vectors.dtype]):
        found, slope = entropy(vectors, at.exp())
        low, high = torch.where(found > target, at, low), torch.where(found > target, high, at)
        step = at + (found - target) / slope
        at = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
    beta = torch.where(out_of_reach, RANGE[1], at.exp())
    return beta[:, None, :, None]


def entropy(u: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over the rows of softmax(beta u u^T) of their entropy in nats, and minus its derivative by log(beta).

    Args:
        u: [B, G, N, d]. beta: [B, G].

    Returns: both [B, G].
    """
    total, slope = torch.zeros_like(beta), torch.zeros_like(beta)
    for cosines in _cosines(u):
        logits = cosines * beta[..., None, None]
        powers = torch.softmax(logits, -1)
        mean = (powers * logits).sum(-1, keepdim=True)
        total += (torch.logsumexp(logits, -1) - mean[..., 0]).sum(-1)
        slope += (powers * (logits - mean) ** 2).sum((-1, -2))
    return total / u.shape[2], slope / u.shape[2]


def _first_guess(u: Tensor, target: float) -> Tensor:
    """log(beta) where the entropy of small temperatures, log N - beta^2 Var(s) / 2, meets the target: [B, G]."""
    spread = torch.stack([(cosines - cosines.mean(-1, keepdim=True)).pow(2).sum((-1, -2)) for cosines in _cosines(u)]).sum(0)
    variance = (spread / u.shape[2] ** 2).clamp_min(1e-12)
    return 0.5 * torch.log(2 * max(math.log(u.shape[2]) - target, 1e-6) / variance)


def _cosines(u: Tensor) -> Iterator[Tensor]:
    """Yield some rows of u u^T at a time, [B, G, rows, N]."""
    rows = max(SLICE // max(u.shape[0] * u.shape[1] * u.shape[2], 1), 1)
    for start in range(0, u.shape[2], rows):
        yield u[:, :, start : start + rows] @ u.mT
