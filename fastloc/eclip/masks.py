"""The pooling of a picture's vector, and the choice of its patches by the encoder's own attention. The paper leaves both open."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.eclip.settings import Settings


def free_attention(qkv: Tensor, kind: str, query: str, prefix: int = 1, bias: Tensor | None = None) -> Tensor:
    """The attention to each patch in one block, the mean over heads, times the number of patches: [B, P], 1 for an even spread.

    Args:
        qkv: [B, 3, H, S+P, d], the patches behind S tokens, the first of which is the class token where there is one.
        kind: the projections that are compared, "qk", "qq", "kk" or "vv", scaled by d^-0.5; "none" is 1 for every patch.
        query: "cls", the class token's row, or "mean", the mean of the patches' rows.
        prefix: S.
        bias: [1, H, S+P, S+P], the tower's own addition to the logits of "qk"; no other kind gets it.
    """
    patches = qkv.shape[3] - prefix
    if kind == "none":
        return qkv.new_ones(qkv.shape[0], patches)
    ours, others = (qkv[:, "qkv".index(letter)] for letter in kind)
    asking = ours[:, :, :1] if query == "cls" else ours[:, :, prefix:]
    # float32, whatever the encoder runs in
    logits = asking.float() @ others.float().mT * qkv.shape[-1] ** -0.5
    if bias is not None and kind == "qk":
        logits = logits + (bias[..., :1, :] if query == "cls" else bias[..., prefix:, :])
    return patches * torch.softmax(logits, -1)[..., prefix:].mean((1, 2))


def mask(attention: Tensor, settings: Settings) -> Tensor:
    """The weight of each patch, [B, P] within [0, 1], at least one a picture above 0; `attention` as from `free_attention`."""
    low, high = attention.amin(1, keepdim=True), attention.amax(1, keepdim=True)
    relevance = high + low - attention if settings.reverse else attention
    if settings.attention == "none":
        return torch.ones_like(attention)
    if settings.mask == "top":
        count = max(1, min(round(settings.keep * attention.shape[1]), attention.shape[1]))
        return torch.zeros_like(attention).scatter(1, relevance.topk(count, 1).indices, 1.0)
    # a picture whose patches all get the same attention counts as a whole
    shares = torch.where(high > low, (relevance - low) / (high - low).clamp_min(1e-12), 1.0)
    if settings.mask == "soft":
        return shares
    kept = relevance >= settings.keep * relevance.mean(1, keepdim=True) if settings.mask == "mean" else shares >= settings.keep
    return (kept | (shares == shares.amax(1, keepdim=True))).float()


def pooled(tokens: Tensor, weights: Tensor, phi: Tensor, how: str) -> Tensor:
    """Pool phi of the patches [B, P, E], times their weights, per channel: unit vectors [B, E].

    Patches of weight 0 are not multiplied by phi either.
    """
    most = int((weights > 0).sum(1).max())
    weights, places = weights.topk(most, 1)
    projected = torch.gather(tokens, 1, places[..., None].expand(-1, -1, tokens.shape[2])) @ phi.T * weights[..., None]
    if how == "mean":
        vector = projected.sum(1) / weights.sum(1, keepdim=True)
    else:
        vector = projected.masked_fill(weights[..., None] == 0, -torch.inf).amax(1)
    return F.normalize(vector, dim=-1)
