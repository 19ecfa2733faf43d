"""Similarity grids from embedded patches and texts, for every recipe. The choice between read-out and relevance is made here."""

from collections.abc import Callable

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional import readout
from fastloc.functional.folding import FoldedViT, fold
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.output import Grid, Output
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.position_embedding import Positions
from fastloc.functional.relevance import Scene, relevance
from fastloc.functional.vit import check_pixels, encode, positions
from fastloc.recipes import Recipe

# patch features and texts [T, E] -> [B, T, h, w]
Read = Callable[[Output, Tensor], Tensor]


def grids(
    weights: Weights, pixels: Tensor, texts: Tensor, recipe: Recipe, empty: Tensor | None = None, *, background: bool = False
) -> tuple[Tensor, Tensor | None]:
    """A method's answer for normalised pixels [B, 3, H, W] and texts [T, E], in plain PyTorch.

    Returns: similarity grids [B, T, h, w], float32 at least, and the image embedding's cosines with the texts [B, T] where the method
        has an image embedding, else None.

    Args:
        weights: of any floating dtype; it is the dtype of the products.
        texts: unit length.
        empty: [E], the empty text's embedding, for feature surgery with one text and for CLIPer's background.
        background: compare the image embedding with `empty` too, for every method; the cosines are then [B, T + 1].

    Raises:
        ModelError: the shape of `pixels` does not fit the model.
        RecipeError: the recipe asks for blocks or heads that the model does not have.
        TextError: feature surgery lacks the empty text.
    """
    check_pixels(weights.spec, pixels)
    prepared = fold(weights, recipe)
    tokens, grid = patch_tokens(prepared.weights, pixels)
    places = positions(prepared.weights, grid, recipe)
    beside = empty if background else None

    def read(out: Output, words: Tensor) -> Tensor:
        return readout.similarity(out, words, recipe.readout, empty)

    return answer(prepared, tokens, places, grid, texts, read, beside=beside, empty=empty)


def answer(
    prepared: FoldedViT, tokens: Tensor, places: Positions, grid: Grid, texts: Tensor, read: Read, ops: Ops = TORCH,
    cls: bool | None = None, beside: Tensor | None = None, empty: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """`grids` from embedded patches [B, P, C] and the positions of this grid.

    Args:
        read: compares patch features with the texts; not called for maps that are no patch features.
        cls: True to return the image embedding's cosines; by default if the read-out needs them.
        beside: [E], a text that only the image embedding is compared with; its cosine follows those of the texts.
        empty: [E], the empty text's embedding, for maps that are no patch features and read it (`Recipe.reads_empty`).
    """
    recipe = prepared.recipe
    compared = texts if beside is None else torch.cat([texts, beside[None]])
    if recipe.reads == "patches":
        with_cls = beside is not None or (readout.needs_cls(recipe.readout, texts.shape[0]) if cls is None else cls)
        out = encode(prepared, tokens, places, grid, ops, cls=with_cls)
        return read(out, texts), readout.scores(out, compared)
    found, embedding = relevance(Scene(prepared, tokens, places, grid, texts, ops, empty))
    return found, readout.image_scores(embedding, compared)
