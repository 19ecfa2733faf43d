"""The literal reference of any recipe in one call, from pixels and texts to scores.

Published rows of patch features are in `fastloc.reference.methods`, changed rows and methods that are only a row in
`fastloc.reference.any_recipe`, everything else in `fastloc.reference.relevance`.
"""

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import RECIPES, Recipe
from fastloc.reference import any_recipe, first_tokens, methods, parts, readouts, relevance
from fastloc.reference.registers import with_registers


def scores(weights: Weights, pixels: Tensor, texts: Tensor, row: Recipe, empty: Tensor | None = None) -> Tensor:
    """A recipe's scores for normalised pixels [B, 3, H, W] and texts [T, E] of unit length: [B, P, T] in the weights' dtype.

    Args:
        empty: [E], the empty text's embedding, for feature surgery with one text and for CLIPer's background.
    """
    weights = first_tokens.keeping_position(weights, pixels) if row.keep_position else weights
    if row.readout.score == "feature-surgery":
        return torch.cat([_surgery(weights, one[None], texts, row, empty) for one in pixels])
    if row.reads != "patches":
        return relevance.relevance(weights, pixels, texts, row, empty)
    return readouts.cosine(features(weights, pixels, row), texts)


def features(weights: Weights, pixels: Tensor, row: Recipe) -> Tensor:
    """Patch features [B, P, E] of a recipe that reads them, by the authors' own steps if it is their row."""
    if row.name in methods.METHODS and row == RECIPES[row.name].at_scale(weights.logit_scale):
        return methods.METHODS[row.name](weights, pixels)
    return any_recipe.features(weights, pixels, row)


def _surgery(weights: Weights, picture: Tensor, texts: Tensor, row: Recipe, empty: Tensor | None) -> Tensor:
    patches = features(weights, picture, row)
    if empty is not None and len(texts) == 1:
        return readouts.minus_empty(patches, texts, empty)
    embedding, _ = parts.encoder(with_registers(weights, row), picture, row.position)
    return readouts.feature_surgery(torch.cat([embedding[:, None], patches], 1), texts)[:, 1:]
