"""The literal statement of any recipe by one call, whatever it reads: from pixels and texts to scores.

Published rows of patch features are stated in `fastloc.reference`, changed ones and those that are nothing but a row in
`fastloc.reference_rows`, everything else in `fastloc.reference_relevance`.
"""

import torch
from torch import Tensor

from fastloc import reference, reference_relevance, reference_rows
from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import RECIPES, Recipe


def scores(weights: Weights, pixels: Tensor, texts: Tensor, row: Recipe, empty: Tensor | None = None) -> Tensor:
    """What a recipe says of normalised pixels [B, 3, H, W] and texts [T, E] of unit length: [B, P, T] in the weights' dtype.

    Args:
        empty: [E], the empty text's embedding, for feature surgery with one text.
    """
    if row.readout.score == "feature-surgery":
        return torch.cat([_surgery(weights, one[None], texts, row, empty) for one in pixels])
    if row.reads != "patches":
        return reference_relevance.relevance(weights, pixels, texts, row)
    return reference.cosine(features(weights, pixels, row), texts)


def features(weights: Weights, pixels: Tensor, row: Recipe) -> Tensor:
    """Patch features [B, P, E] of a recipe that reads them: by the authors' own steps where it is their row."""
    if row == RECIPES.get(row.name) and row.name in reference.METHODS:
        return reference.METHODS[row.name](weights, pixels)
    return reference_rows.features(weights, pixels, row)


def _surgery(weights: Weights, picture: Tensor, texts: Tensor, row: Recipe, empty: Tensor | None) -> Tensor:
    patches = features(weights, picture, row)
    if empty is not None and len(texts) == 1:
        return reference.minus_empty(patches, texts, empty)
    embedding, _ = reference.encoder(weights, picture, row.position)
    return reference.feature_surgery(torch.cat([embedding[:, None], patches], 1), texts)[:, 1:]
