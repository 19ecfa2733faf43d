"""Gradients in closed form, rollout and anchors on the towers of every family, against their literal statements by autograd."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import families
import towers
from fastloc.bench.peers.seeded import seeded_texts
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.errors import RecipeError
from fastloc.functional.folding import fold
from fastloc.functional.op_set import Ops
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.similarity import answer, grids
from fastloc.functional.vit import forward, positions
from fastloc.recipes import RECIPES, Recipe, recipe
from fastloc.reference import any_recipe, arithmetic, parts, readouts, relevance
from towers import error

EXACT = 1e-10
NAMES = [name for name, row in RECIPES.items() if row.reads != "patches"]
# one text alone too: a softmax of it has no gradient
SHAPES = ((1, (4, 4), 1), (3, (3, 5), 3))


def texts(count: int, family: str) -> Tensor:
    width = families.spec(family).embed
    return normalize(torch.from_numpy(seeded_texts(count, width, 0)).double(), dim=-1)


def pixels(family: str, batch: int, grid: tuple[int, int]) -> Tensor:
    return towers.pixels(batch, grid, patch=families.spec(family).patch)


def check(family: str, row: Recipe, batch: int, grid: tuple[int, int], count: int, **changes: Any) -> Tensor:
    weights, pictures, words = families.tower(family, **changes), pixels(family, batch, grid), texts(count, family)
    found, scores = grids(weights, pictures, words, row)
    expected = relevance.relevance(weights, pictures, words, row).transpose(1, 2).reshape(found.shape)
    if not expected.any():
        # a ReLU that lets nothing of one text through lets its opposite through
        assert not found.any()
        words = -words
        found, scores = grids(weights, pictures, words, row)
        expected = relevance.relevance(weights, pictures, words, row).transpose(1, 2).reshape(found.shape)
    assert expected.any() and error(found, expected) < EXACT, (family, row.name, batch, grid, count)
    cls = forward(weights, pictures, recipe("itsm", position=row.position), cls=True).cls
    assert cls is not None and scores is not None and error(scores, normalize(cls, dim=-1) @ words.T) < EXACT
    return found


def runs(family: str, row: Recipe) -> bool:
    return not (row.reads == "grad-eclip" and families.spec(family).pool == "avg")


# a map for every way in which a gradient reaches the tokens; the others are slow by their number
WAYS = ("siglip", "pe", "eva02", "eva02-e", "coca", "registers", "relpos")
QUICK = [(family, name) for family in WAYS for name in ("grad_cam", "bi_modal")]


@pytest.mark.parametrize(("family", "name"), QUICK)
def test_families(family: str, name: str) -> None:
    check(family, RECIPES[name], 2, (3, 5), 3)


@pytest.mark.parametrize("cam", ["grad-cam++", "layer-cam"])
@pytest.mark.parametrize("family", ["vitamin", "siglip", "pe", "eva02-e"])
def test_grad_cam_plus_plus_and_layer_cam(family: str, cam: str) -> None:
    for batch, grid, count in SHAPES:
        plain = check(family, recipe("grad_cam", target_scale=5.0), batch, grid, count)
        found = check(family, recipe("grad_cam", target_scale=5.0, cam=cam), batch, grid, count)
        assert error(found / found.amax(), plain / plain.amax()) > 1e-3, "the three are one map"


@pytest.mark.slow("every family by every method", quick=4)
@pytest.mark.parametrize("family", families.NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_its_reference(name: str, family: str) -> None:
    row = RECIPES[name]
    if not runs(family, row):
        with pytest.raises(RecipeError, match="'grad_eclip' reads the gradient of the class token, and the model's embedding is the mean"):
            grids(families.tower(family), pixels(family, 1, (2, 2)), texts(1, family), row)
        return
    for batch, grid, count in SHAPES:
        check(family, row, batch, grid, count)


# rows whose fields are changed
CHANGED: list[tuple[str, dict[str, Any]]] = [
    ("grad_cam", {"target": "cosine"}), ("grad_cam", {"one_head": True}), ("grad_cam_clip_es", {"one_head": True}),
    ("grad_cam_input", {"one_head": False}), ("grad_cam_input", {"target": "softmax-of-mean"}), ("bi_modal", {"start": 3}),
    ("legrad", {"start": 0}), ("grad_eclip", {"one_head": False}), ("grad_eclip", {"compares": "plain"}), ("rollout", {"start": 4}),
    ("anchor_qk", {"start": 2}), ("anchor_vv", {"head": 3}),
]  # fmt: skip


@pytest.mark.slow("every field on five families", quick=1)
@pytest.mark.parametrize(("name", "changes"), CHANGED, ids=str)
def test_every_field(name: str, changes: dict[str, Any]) -> None:
    row = recipe(name, **changes)
    for family in ("siglip-value", "pe", "eva02", "registers", "relpos"):
        found = check(family, row, 2, (3, 5), 3)
        plain = grids(families.tower(family), pixels(family, 2, (3, 5)), texts(3, family), RECIPES[name])[0]
        assert error(found, plain) > 1e-4, (family, "the field changes nothing")


@pytest.mark.slow("some families in slices", quick=1)
@pytest.mark.parametrize("family", ["pe", "eva02", "coca", "gap", "registers", "relpos"])
def test_in_slices(family: str) -> None:
    """However few numbers may exist at a time, the sums are the same."""
    words = texts(3, family)
    for name in NAMES:
        row = RECIPES[name]
        if not runs(family, row):
            continue
        prepared = fold(families.tower(family), row)
        tokens, grid = patch_tokens(prepared.weights, pixels(family, 2, (3, 5)))
        arguments = (prepared, tokens, positions(prepared.weights, grid, row), grid, words, lambda out, words: out.patches)
        whole = answer(*arguments, Ops(most=None))[0]
        for most in (1, 9000):
            assert error(answer(*arguments, Ops(most=most))[0], whole) < 1e-12, (name, most)


@pytest.mark.parametrize("family", ["siglip", "pe"])
def test_texts_and_images_do_not_mix(family: str) -> None:
    weights, words = families.tower(family), texts(3, family)
    pictures = torch.cat([pixels(family, 1, (3, 5)) * factor for factor in (1.0, 30.0)])
    for name in ("grad_cam_input", "bi_modal", "legrad", "grad_eclip"):
        row = recipe(name) if name == "legrad" else recipe(name, target="cosine")
        together = grids(weights, pictures, words, row)[0]
        for i in range(2):
            assert error(grids(weights, pictures[i : i + 1], words[1:2], row)[0], together[i : i + 1, 1:2]) < 1e-10, name


@pytest.mark.slow("some families in half precision", quick=1)
@pytest.mark.parametrize("family", ["siglip", "pe", "coca", "eva02", "eva02-e", "registers", "relpos"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_other_dtypes(family: str, dtype: str) -> None:
    """Of each map scaled to its own range, which is what is shown."""
    words, limit = texts(3, family), {"float32": 1e-4, "float16": 3e-2}[dtype]
    for name in ("grad_cam_input", "bi_modal", "legrad", "grad_eclip", "rollout"):
        # a softmax of logits is steeper than half precision
        row = RECIPES[name] if RECIPES[name].target != "softmax" else recipe(name, target="cosine")
        exact = grids(families.tower(family), pixels(family, 2, (6, 7)), words, row)[0]
        run = Engine(Tower(families.tower(family), torch.device("cpu"), dtype), row, {"dtype": dtype})
        found = run(pixels(family, 2, (6, 7)).float(), words.float())[0]
        assert found.dtype == torch.float32
        assert (ranged(found.double()) - ranged(exact)).abs().mean() < limit, name


def ranged(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-30)


@pytest.mark.parametrize("family", ["siglip", "siglip-value", "coca", "gap", "registers"])
@pytest.mark.parametrize("count", [1, 3])
def test_feature_surgery_of_pooled_towers(family: str, count: int) -> None:
    """The read-out that compares patches with the image embedding, whatever makes that of them."""
    weights, pictures, words = families.tower(family), pixels(family, 2, (3, 5)), texts(4, family)
    row = RECIPES["clip_surgery"]
    found, scores = grids(weights, pictures, words[:count], row, words[3])
    cls, _ = parts.encoder(weights, pictures, row.position)
    patches = any_recipe.features(weights, pictures, row)
    if count == 1:
        expected = readouts.minus_empty(patches, words[:1], words[3])
    else:
        expected = readouts.feature_surgery(torch.cat([cls[:, None], patches], 1), words[:count])[:, 1:]
    assert error(found, expected.transpose(1, 2).reshape(found.shape)) < EXACT
    assert count == 1 or (scores is not None and error(scores, arithmetic.unit(cls) @ words[:count].T) < EXACT)
