"""CLIPer's levels: background, forms of its maps, gradients, and what a model must have; its row is in test_relevance.py too."""

from typing import Any

import pytest
import torch
from torch import Tensor

import families
import towers
from fastloc.engine.localizer import Localizer
from fastloc.errors import RecipeError
from fastloc.functional.folding import fold
from fastloc.functional.methods import cliper
from fastloc.functional.methods.row_blocks import Kept, Recomputed, Summed
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.similarity import answer, grids
from fastloc.functional.vit import positions
from fastloc.recipes import RECIPES, recipe
from fastloc.reference import cliper as reference
from fastloc.reference import relevance
from repo import SAMPLES
from towers import error

ROW = RECIPES["cliper"]
EXACT = 1e-10
EMPTY = towers.texts(1, seed=1)[0]
# of 2 pictures and 4 heads of 16 tokens: all maps, one head's at a time, some rows of one
FORMS: dict[str, int | None] = {"all": None, "kept": 1 << 24, "heads": 600, "rows": 40}


def found(row: Any, form: str, pixels: Tensor, texts: Tensor, empty: Tensor | None, **kind: Any) -> Tensor:
    prepared = fold(towers.tower(**kind), row)
    tokens, grid = patch_tokens(prepared.weights, pixels)
    places = positions(prepared.weights, grid, row)
    return answer(prepared, tokens, places, grid, texts, lambda out, words: words, Ops(most=FORMS[form]), empty=empty)[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 3])
def test_the_empty_text_is_the_background(form: str, count: int) -> None:
    pixels, texts = towers.pixels(2, (3, 5)), towers.texts(count)
    expected = relevance.relevance(towers.tower(scale=True), pixels, texts, ROW, EMPTY).mT
    scores = found(ROW, form, pixels, texts, EMPTY, scale=True)
    assert error(scores.flatten(2), expected) < EXACT
    assert error(found(ROW, form, pixels, texts, None, scale=True), scores) > 1e-3, "the background changes nothing"


@pytest.mark.parametrize(
    ("most", "kind", "groups"), [(None, Kept, 1), (2048, Kept, 1), (1024, Kept, 2), (600, Kept, 4), (255, Recomputed, 8)]
)
def test_the_maps_are_kept_as_far_as_memory_goes(most: int | None, kind: type, groups: int) -> None:
    q, k, v = (towers.array(name, 2, 16, 4, 8, low=-1) for name in "qkv")
    summed, maps = Summed(TORCH.attend, most), torch.softmax(q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / 2, -1)
    for _ in range(3):
        assert error(summed.attend(q, k, v, 0.5), TORCH.attend(q, k, v, 0.5)) < EXACT
    # those of one form are no part of the other
    assert bool(summed.sums) != bool(summed.queries)
    made = [summed.maps(i, j) for i, (_, several) in enumerate(summed.groups) for j in range(len(several))]
    assert {type(each) for each in made} == {kind} and len(made) == groups
    beside = torch.cat([torch.cat([rows for _, rows in each.rows()], 2).flatten(0, 1) for each in made])
    assert error(beside, 3 * maps.flatten(0, 1)) < EXACT
    across = torch.cat([torch.cat([rows for _, _, rows in each.both(1)], 2).flatten(0, 1) for each in made])
    assert error(across, 3 * maps.flatten(0, 1).mT[:, 1:]) < EXACT


def test_rounds_scale_both_sides() -> None:
    """The vectors of a round make the map that dividing by sums in turn makes."""
    scaled = whole = towers.array("maps", 2, 3, 7, 7)
    for one in cliper._balanced(Kept(whole, 20), 4):
        scaled = scaled / scaled.sum(-2, keepdim=True)
        scaled = scaled / scaled.sum(-1, keepdim=True)
        assert error(one.rows[..., None] * whole * one.columns[:, :, None], scaled) < EXACT
        assert error(one.sums, scaled.sum(-2)) < EXACT


def test_a_token_that_nothing_attends_to_is_no_division_by_zero() -> None:
    maps = torch.softmax(towers.array("maps", 1, 2, 6, 6, low=-1).float(), -1)
    maps[..., 3] = 0
    values = towers.array("values", 4, 1, 2, 6, 5, low=-1).float()
    seen, refined = cliper._of_heads(Kept(maps, None), values, 1)
    assert seen.isfinite().all() and refined(torch.ones(1, 1, 5)).isfinite().all()


def test_gradients_are_those_of_the_reference() -> None:
    weights, inputs = towers.tower(layers=3), [towers.pixels(1, (3, 4)).requires_grad_(), towers.texts(2).requires_grad_()]
    by = towers.array("weights", 2, 12, low=-1)
    seen = relevance.walk(weights, inputs[0][0], ROW)
    literal = reference.scores(weights, seen.normed[:-1], seen.maps[:-1], seen.states[-2], inputs[1], ROW, EMPTY)
    expected = torch.autograd.grad((literal.T * by).sum(), inputs)
    for form in ("kept", "heads", "rows"):
        scores = found(ROW, form, inputs[0], inputs[1], EMPTY, layers=3)
        for gradient, right in zip(torch.autograd.grad((scores[0].flatten(1) * by).sum(), inputs), expected, strict=True):
            assert error(gradient, right) < 1e-8, form


@pytest.mark.slow("every family with a background", quick=2)
@pytest.mark.parametrize("family", families.NAMES)
def test_families_with_a_background(family: str) -> None:
    weights = families.tower(family)
    width = weights.spec.embed
    words = torch.nn.functional.normalize(towers.array("words", 3, width, low=-1), dim=-1)
    pixels = towers.pixels(2, (3, 5), patch=weights.spec.patch)
    expected = relevance.relevance(weights, pixels, words[:2], ROW, words[2]).mT
    assert error(grids(weights, pixels, words[:2], ROW, words[2])[0].flatten(2), expected) < EXACT


def test_a_model_of_one_block_has_no_levels() -> None:
    with pytest.raises(RecipeError, match="'cliper' reads the attention of blocks before the last, and the model has one block"):
        grids(towers.tower(layers=1), towers.pixels(1, (2, 2)), towers.texts(1), ROW)


def test_one_text_of_the_embedded_model() -> None:
    """Without a background one text has the same share everywhere, and only the refinement is left to separate patches."""
    localizer = Localizer(method="cliper", dtype="float64")
    picture = localizer(SAMPLES / "market.webp", ["a red car"])
    assert picture.similarity.std() > 0.05 * picture.similarity.mean()
    pixels = towers.pixels(1, (5, 6), patch=localizer.source.spec.patch)
    plain, _ = localizer.similarity(pixels, ["a red car"])
    # asking for the picture's own score of the background leaves the grids as they are
    assert torch.equal(localizer.scored_similarity(pixels, ["a red car"])[0], plain)
    texts = localizer.source.text(["a red car"], localizer.template).double()
    whole = recipe("cliper", cutoff=0.0, target_scale=localizer.recipe.target_scale)
    shares = grids(localizer.source.vit.to(dtype=torch.float64), pixels, texts, whole)[0]
    # one half in every level, and one half of what a patch is seen by
    assert float(shares.min()) >= 0.5 - 1e-12
