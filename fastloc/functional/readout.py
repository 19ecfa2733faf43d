"""Similarity grids from patch features and text embeddings. `fastloc.functional.heatmaps` makes maps at picture size from them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.errors import TextError
from fastloc.functional.output import Output
from fastloc.recipes import ReadOut

# CLIP Surgery's literal factor on the class scores, not the model's logit scale
SURGERY_SCALE = 2.0


# patches [B, P, E] of any length, texts [T, E] or one set an image [B, T, E] -> unit patches x texts, [B, T, P]
Cosine = Callable[[Tensor, Tensor], Tensor]


def cosine(patches: Tensor, texts: Tensor) -> Tensor:
    """Cosines of patches with texts, see `Cosine`; in float32 at least, because maps are made of small differences."""
    accumulate_dtype = torch.promote_types(patches.dtype, torch.float32)
    return texts.to(accumulate_dtype) @ F.normalize(patches.to(accumulate_dtype), dim=-1).transpose(1, 2)


def similarity(out: Output, texts: Tensor, readout: ReadOut, empty: Tensor | None = None, cosine: Cosine = cosine) -> Tensor:
    """Scores of every patch for every text: [B, T, h, w], cosine in [-1, 1] or the surgery's differences of cosines.

    Every score is a product with a text matrix: the texts themselves, or the matrix that feature surgery makes from them.

    Args:
        texts: [T, E], unit length.
        empty: [E], unit length, the embedding of the empty string; feature surgery with one text needs it.
        cosine: the function that computes the cosines.

    Raises:
        TextError: feature surgery with one text lacks the empty text.
    """
    if readout.score == "feature-surgery":
        texts = _surgery(out, texts, empty)
    scores = cosine(out.patches, texts)
    return scores.reshape(*scores.shape[:2], *out.grid)


def needs_cls(readout: ReadOut, texts: int) -> bool:
    """True if the read-out of this many texts reads the image embedding; relevance has it in any case."""
    return readout.score == "relevance" or (readout.score == "feature-surgery" and texts > 1)


def scores(out: Output, texts: Tensor) -> Tensor | None:
    """Cosines of the image embedding with the texts, [B, T]; None where the pass has none."""
    return None if out.cls is None else image_scores(out.cls, texts)


def image_scores(embedding: Tensor, texts: Tensor) -> Tensor:
    """Cosines of an image embedding [B, E] with the texts, [B, T]."""
    return F.normalize(embedding.to(texts.dtype), dim=-1) @ texts.T


def _surgery(out: Output, texts: Tensor, empty: Tensor | None) -> Tensor:
    """CLIP Surgery's texts: [T, E], or one set an image [B, T, E]."""
    if texts.shape[0] == 1:
        if empty is None:
            raise TextError("the embedding of the empty string must be given for feature surgery with one text, got none")
        return texts - empty
    if out.cls is None:
        raise TextError("the image embedding must be given for feature surgery with several texts, got none; call forward(…, cls=True)")
    return surgery_texts(F.normalize(out.cls.to(texts.dtype), dim=-1), texts)


def surgery_texts(cls: Tensor, texts: Tensor) -> Tensor:
    """CLIP Surgery's score without redundant features, as one small text matrix an image: [B, T, E].

    With w = softmax over texts of 2 cos(cls, text), divided by its mean, the official sum over channels of
    (F_itc - mean_t F_itc) equals patches @ (w * texts - mean_t(w * texts))^T exactly.

    Args: cls [B, E] and texts [T, E], each of unit length.
    """
    weight = torch.softmax(SURGERY_SCALE * cls @ texts.T, -1)
    weighted = (weight / weight.mean(-1, keepdim=True))[..., None] * texts
    return weighted - weighted.mean(1, keepdim=True)
