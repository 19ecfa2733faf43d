"""The score that gradient methods differentiate: of an embedding with every text, its cosine, logit or softmax share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.recipes import Recipe
from fastloc.recipes.schema import LOGIT_SCALE

__all__ = ["at_unit_embedding"]


def at_unit_embedding(z: Tensor, texts: Tensor, recipe: Recipe, logit_scale: float = LOGIT_SCALE) -> tuple[Tensor, Tensor]:
    """The score's gradient at the unit embedding z / |z|: a direction [B or 1, T, E] and what it is multiplied by, [B or 1, T].

    Apart, because the share of an unlikely text is tiny. One text alone, whose share is always 1, has its logit differentiated.

    Args:
        z: embeddings [B, E], of any length, float32 or float64.
        texts: [T, E] of unit length, of the same dtype.
        recipe: its `target` ("cosine", "logit" or a softmax) and `target_scale`.
        logit_scale: the model's own, which the recipe may ask for.
    """
    scale = recipe.score_scale(logit_scale)
    if recipe.target in ("cosine", "logit"):
        return texts[None], torch.full_like(texts[None, :, 0], scale if recipe.target == "logit" else 1.0)
    shares = torch.softmax(scale * F.normalize(z, dim=-1) @ texts.T, -1)
    # decided by a tensor, because an exported graph may take any number of texts
    alone = torch.ones_like(texts[:, 0]).sum() < 1.5
    # each text against its rivals, not against itself: next to a share of 1, 1 - share would be all rounding
    place = torch.cumsum(torch.ones_like(texts[:, 0]), 0)
    rivals = torch.where(place[:, None] == place, 0.0, shares[:, None])
    towards = rivals.sum(-1, keepdim=True) * texts - rivals @ texts
    return torch.where(alone, texts, towards), scale * shares
