"""Every method of patch features on every family of towers: the fast path against the literal one."""

import pytest
import torch

import families
import towers
from fastloc.functional.folding import fold
from fastloc.functional.op_set import Ops
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.vit import encode, forward, positions
from fastloc.recipes import RECIPES, recipe
from fastloc.reference import any_recipe, parts, scores
from towers import PATCHES, error

EXACT = 1e-10
# (batch, grid): the trained one, and another that is not square
SHAPES = ((1, (3, 5)), (3, (4, 4)))


@pytest.mark.slow("every method on every family", quick=12)
@pytest.mark.parametrize("method", PATCHES)
@pytest.mark.parametrize("name", families.NAMES)
def test_the_fast_path_is_the_literal_one(name: str, method: str) -> None:
    weights, row = families.tower(name), RECIPES[method].at_scale(100.0)
    for batch, grid in SHAPES:
        pixels = towers.pixels(batch, grid)
        out = forward(weights, pixels, row, cls=True)
        assert error(out.patches, scores.features(weights, pixels, row)) < EXACT
        assert out.cls is not None and error(out.cls, parts.encoder(weights, pixels, row.position)[0]) < EXACT


OPTIONS = [("pe", {"rotary": False}), ("eva02", {"rotary": False}), ("pe-g", {"patch_read": "value"}), ("siglip", {"patch_read": "value"})]


@pytest.mark.parametrize(("name", "changes"), OPTIONS, ids=str)
@pytest.mark.parametrize("method", ["gem", "clearclip", "naclip", "sclip", "gem_matched", "pearl", "itaclip"])
def test_options_of_a_row(name: str, changes: dict[str, object], method: str) -> None:
    weights, row, pixels = families.tower(name), recipe(method, **changes).at_scale(100.0), towers.pixels(2, (3, 5))
    found = forward(weights, pixels, row).patches
    assert error(found, any_recipe.features(weights, pixels, row)) < EXACT
    assert error(found, forward(weights, pixels, recipe(method)).patches) > 1e-3, "the option changes nothing"


DEFERRED = [
    ("pe", True), ("pe", False), ("eva02", False), ("registers", True), ("siglip", True), ("eva02-e", True), ("tips", True),
    ("relpos", True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rotary"), DEFERRED)
def test_attention_that_waits_for_all_blocks_is_the_same(name: str, rotary: bool) -> None:
    weights, row = families.tower(name), recipe("gem", rotary=rotary)
    prepared, (tokens, grid) = fold(weights, row, joint=True), patch_tokens(weights, towers.pixels(1, (3, 5)))
    places = positions(weights, grid, row)
    expected = encode(prepared, tokens, places, grid, cls=True)
    with torch.inference_mode():
        found = encode(prepared, tokens, places, grid, Ops(deferred=True, slots=True), cls=True)
    assert expected.cls is not None and found.cls is not None
    assert error(found.patches, expected.patches) < 1e-12 and error(found.cls, expected.cls) < 1e-12


@pytest.mark.parametrize("name", families.NAMES)
def test_pictures_of_a_batch_do_not_meet(name: str) -> None:
    weights, pixels = families.tower(name), towers.pixels(3, (3, 5))
    together = forward(weights, pixels, RECIPES["gem"], cls=True)
    for i in range(3):
        alone = forward(weights, pixels[i : i + 1], RECIPES["gem"], cls=True)
        assert alone.cls is not None and together.cls is not None
        assert error(together.patches[i : i + 1], alone.patches) < 1e-12
        assert error(together.cls[i : i + 1], alone.cls) < 1e-12


@pytest.mark.parametrize("name", ["siglip", "siglip-value", "pe", "pe-g", "coca"])
def test_one_token_alone_is_read_as_the_pool_reads_it(name: str) -> None:
    """A picture of one patch and nothing else has that patch's feature as its embedding."""
    weights = families.tower(name)
    read = parts.project(weights, x := towers.array("token", 4, 32, low=-1.0), "pool")
    alone = torch.cat([parts.pooled(weights, token[None, None]) for token in x])
    assert error(read, alone) < 1e-12


def test_a_mean_after_the_norm_is_the_mean_of_patches() -> None:
    out = forward(families.tower("gap"), towers.pixels(2, (3, 5)), RECIPES["itsm"], cls=True)
    assert out.cls is not None and error(out.patches.mean(1), out.cls) < 1e-12
