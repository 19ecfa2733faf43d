"""From patch features and text embeddings to similarity grids. Maps at picture size are made from these in `maps`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.errors import TextError
from fastloc.recipes import ReadOut
from fastloc.vit import Output

# CLIP Surgery's literal factor on the class scores, not the model's logit scale
SURGERY_SCALE = 2.0


def similarity(out: Output, texts: Tensor, readout: ReadOut, empty: Tensor | None = None) -> Tensor:
    """Scores of every patch for every text: [B, T, h, w], cosine in [-1, 1] or the surgery's differences of cosines.

    Args:
        texts: [T, E], unit length.
        empty: [E], unit length, the embedding of the empty string; feature surgery with one text needs it.

    Raises:
        TextError: feature surgery lacks what it needs.
    """
    patches = F.normalize(out.patches, dim=-1)
    if readout.score == "cosine":
        scores = patches @ texts.T
    elif len(texts) == 1:
        if empty is None:
            raise TextError("feature surgery with one text needs the embedding of the empty string")
        scores = patches @ (texts - empty).T
    else:
        if out.cls is None:
            raise TextError("feature surgery with several texts needs the image embedding: call forward(…, cls=True)")
        scores = feature_surgery(patches, F.normalize(out.cls, dim=-1), texts)
    return scores.transpose(1, 2).reshape(-1, len(texts), *out.grid)


def needs_cls(readout: ReadOut, texts: int) -> bool:
    """Whether the read-out of this many texts reads the image embedding."""
    return readout.score == "feature-surgery" and texts > 1


def feature_surgery(patches: Tensor, cls: Tensor, texts: Tensor) -> Tensor:
    """CLIP Surgery's score without redundant features, one small text matrix an image: [B, P, T].

    With w = softmax over texts of 2 cos(cls, text), divided by its mean, the official sum over channels of
    (F_itc - mean_t F_itc) is patches @ (w * texts - mean_t(w * texts))^T exactly.

    Args: patches [B, P, E], cls [B, E] and texts [T, E], each of unit length.
    """
    weight = torch.softmax(SURGERY_SCALE * cls @ texts.T, -1)
    weighted = (weight / weight.mean(-1, keepdim=True))[..., None] * texts
    return patches @ (weighted - weighted.mean(1, keepdim=True)).transpose(1, 2)
