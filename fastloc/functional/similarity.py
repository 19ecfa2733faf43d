"""From embedded patches and texts to similarity grids, whatever the recipe reads: the one place where that is decided."""

from collections.abc import Callable

from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional import readout
from fastloc.functional.folding import FoldedViT, fold
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.relevance import Scene, relevance
from fastloc.functional.vit import Grid, Output, check_pixels, encode, patch_tokens, position_table
from fastloc.recipes import Recipe

# patch features and texts [T, E] -> [B, T, h, w]
Read = Callable[[Output, Tensor], Tensor]


def grids(weights: Weights, pixels: Tensor, texts: Tensor, recipe: Recipe, empty: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """What a method says of normalised pixels [B, 3, H, W] and texts [T, E], in plain PyTorch.

    Returns: similarity grids [B, T, h, w], float32 at least, and the image embedding's cosines with the texts [B, T] where the method
        has an image embedding, else None.

    Args:
        weights: of any floating dtype; it is the dtype of the products.
        texts: unit length.
        empty: [E], the empty text's embedding, for feature surgery with one text.

    Raises:
        ModelError: the shape of `pixels` does not fit the model.
        RecipeError: the recipe asks for blocks or heads that the model does not have.
        TextError: feature surgery lacks the empty text.
    """
    check_pixels(weights.spec, pixels)
    prepared = fold(weights, recipe)
    tokens, grid = patch_tokens(prepared.weights, pixels)
    table = position_table(weights, grid, recipe)
    return answer(prepared, tokens, table, grid, texts, lambda out, words: readout.similarity(out, words, recipe.readout, empty))


def answer(
    prepared: FoldedViT, tokens: Tensor, table: Tensor, grid: Grid, texts: Tensor, read: Read, ops: Ops = TORCH, cls: bool | None = None
) -> tuple[Tensor, Tensor | None]:
    """The same from embedded patches [B, P, C] and the position table [1+P, C] of this grid.

    Args:
        read: compares patch features with the texts; not asked for what is no patch feature.
        cls: whether the image embedding is wanted; by default where the read-out needs it.
    """
    recipe = prepared.recipe
    if recipe.reads == "patches":
        wanted = readout.needs_cls(recipe.readout, texts.shape[0]) if cls is None else cls
        out = encode(prepared, tokens, table, grid, ops, cls=wanted)
        return read(out, texts), readout.scores(out, texts)
    found, embedding = relevance(Scene(prepared, tokens, table, grid, texts, ops))
    return found, readout.image_scores(embedding, texts)
