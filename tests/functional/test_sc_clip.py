"""SC-CLIP and SFP: outliers, their repair, the two paths on every family of towers, and what no published picture shows."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import families
import towers
from fastloc.errors import RecipeError
from fastloc.functional import slices, vit
from fastloc.functional.attention import Projections
from fastloc.functional.folding import streams_read
from fastloc.functional.methods import outliers
from fastloc.functional.vit import forward
from fastloc.recipes import RECIPES, recipe
from fastloc.reference import aggregation, any_recipe, arithmetic
from towers import error

EXACT = 1e-10
ROWS = ("sc_clip", "sfp")
# (batch, grid): enough patches for 30 neighbours; a square, a wide and a high one, and one whose threshold is a factor itself
SHAPES = ((1, (6, 7)), (3, (9, 5)), (2, (4, 4)), (1, (1, 41)))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask(places: list[int], count: int) -> Tensor:
    return torch.tensor([place in places for place in range(count)])


# outliers


@pytest.mark.parametrize("count", [1, 2, 30, 31, 32, 41, 49, 61, 100, 196])
def test_outliers_by_density_are_those_of_the_definition(count: int) -> None:
    patches = torch.stack([noise(count, 12, seed=seed) * (1 + seed) + 100 * seed for seed in range(3)])
    found = outliers.sparse(patches, None)
    for picture, of_picture in zip(patches, found, strict=True):
        assert torch.equal(of_picture, mask(aggregation.by_density(picture), count))
        # the linear quantile lies between two factors
        assert int(of_picture.sum()) == (count - 1 - 19 * (count - 1) // 20 if count > 30 else 0)
    assert torch.equal(outliers.sparse(patches, 7 * count), found), "the rows at a time change the answer"


def test_a_planted_outlier_is_found() -> None:
    patches = noise(1, 196, 16)
    patches[0, 77] *= 20
    found = outliers.sparse(patches, None)[0]
    assert found[77] and int(found.sum()) == 10
    assert torch.equal(outliers.sparse(patches.half(), None)[0], outliers.sparse(patches.half().double(), None)[0])


def test_one_vector_has_no_outliers() -> None:
    """All distances are 0, and the official code takes an index into nothing."""
    assert not outliers.sparse(torch.ones(2, 40, 8), None).any()


def projections(batch: int, tokens: int, prefix: int) -> Projections:
    return Projections(noise(batch, tokens, 3, 4, 8, seed=tokens), "qkv", prefix)


@pytest.mark.parametrize("prefix", [1, 5])
@pytest.mark.parametrize("tokens", [7, 12, 60])
def test_outliers_by_attention(tokens: int, prefix: int) -> None:
    qkv = projections(2, tokens, prefix)
    found = outliers.attended(qkv, None)
    assert torch.equal(outliers.attended(qkv, 4 * tokens), found), "the rows at a time change the answer"
    for picture in range(2):
        q, k = (qkv[letter][picture].transpose(0, 1) for letter in "qk")
        mean = arithmetic.softmax(arithmetic.logits(q, k)).mean(0)
        of_class, of_self = 1.5 * mean[0, prefix:], mean.diagonal()[prefix:]
        salient = (of_class > of_self).nonzero()[:, 0]
        best = salient[of_class[salient].argsort(descending=True)[:10]]
        assert torch.equal(found[picture], mask(best.tolist(), tokens - prefix))


def test_at_most_ten_by_attention() -> None:
    packed = torch.zeros(1, 50, 3, 2, 8, dtype=torch.float64)
    # the class token looks at every patch, and every patch at the class token
    packed[:, 0], packed[:, 1:, 0], packed[:, 1:, 1] = 3.0, 3.0, torch.linspace(0.5, 1.0, 49)[:, None, None]
    found = outliers.attended(Projections(packed, "qkv", 1), None)[0]
    assert found.nonzero()[:, 0].tolist() == list(range(39, 49))


# their repair

CLUSTERS = {"none": [], "middle": [12], "edges": [0, 4, 7, 20, 24], "row": [5, 6, 7, 8, 9], "corner": [0, 1, 5, 6], "all": list(range(25))}


@pytest.mark.parametrize("name", CLUSTERS)
def test_repair(name: str) -> None:
    patches, places = noise(2, 25, 6), CLUSTERS[name]
    wrong = torch.stack([mask(places, 25), mask([3], 25)])
    found = outliers.repaired(patches, wrong, (5, 5))
    for picture, positions in enumerate((places, [3])):
        assert error(found[picture], aggregation.repaired(patches[picture], positions, (5, 5))) < 1e-12
        assert torch.equal(found[picture][~wrong[picture]], patches[picture][~wrong[picture]]), "a patch that is no outlier changed"
    if name in ("corner", "all"):
        assert torch.equal(found[0, 0], patches[0, 0]), "a patch without a neighbour that is no outlier stays"


def test_repair_of_another_grid() -> None:
    patches, places = noise(1, 21, 6), [0, 8, 9, 20]
    for grid in ((3, 7), (7, 3), (1, 21)):
        found = outliers.repaired(patches, mask(places, 21)[None], grid)[0]
        assert error(found, aggregation.repaired(patches[0], places, grid)) < 1e-12


# the paths


@pytest.mark.parametrize("name", ROWS)
def test_the_fast_path_is_the_literal_one(name: str) -> None:
    weights = towers.tower(scale=True, activation="quick_gelu")
    for batch, grid in SHAPES:
        pixels = towers.pixels(batch, grid)
        assert error(forward(weights, pixels, RECIPES[name]).patches, any_recipe.features(weights, pixels, RECIPES[name])) < EXACT, grid


@pytest.mark.parametrize(("layers", "numbers"), [(12, (8, 3, 3, 9)), (24, (8, 3, 3, 9)), (12, (10, 0, 0, 10)), (2, (0, 0, 0, 0))])
@pytest.mark.parametrize("name", ROWS)
def test_numbered_blocks(name: str, layers: int, numbers: tuple[int, ...]) -> None:
    weights, pixels, row = towers.tower(layers=layers), towers.pixels(1, (6, 7)), recipe(name, path_blocks=numbers)
    found = forward(weights, pixels, row).patches
    assert error(found, any_recipe.features(weights, pixels, row)) < EXACT
    published = layers == 12 and numbers == (8, 3, 3, 9)
    assert torch.equal(found, forward(weights, pixels, RECIPES[name]).patches) is published


def test_blocks_at_a_share_of_the_depth() -> None:
    row = RECIPES["sc_clip"]
    assert streams_read(row, 12) == (8, 3, 3, 4, 5, 6, 7, 8, 9)
    assert streams_read(row, 24) == (17, 7, 7, 9, 11, 13, 15, 17, 19)
    assert streams_read(recipe("sc_clip", path_blocks=(8, 3, 3, 9)), 24) == (8, 3, 3, 4, 5, 6, 7, 8, 9)
    assert streams_read(RECIPES["itsm"], 12) == ()
    for layers in range(2, 49):
        assert all(0 <= block <= layers - 2 for block in streams_read(row, layers))


@pytest.mark.slow("two methods on every family", quick=6)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("family", families.NAMES)
def test_every_family(family: str, name: str) -> None:
    weights = families.tower(family)
    for changes in ({}, {"rotary": False}) if weights.spec.rope else ({},):
        row, pixels = recipe(name, **changes), towers.pixels(2, (5, 7))
        assert error(forward(weights, pixels, row).patches, any_recipe.features(weights, pixels, row)) < EXACT


def test_towers_that_have_not_what_is_read() -> None:
    pixels = towers.pixels(1, (2, 2))
    with pytest.raises(RecipeError, match="reads what stands before the last block, and the model has one block"):
        forward(towers.tower(layers=1), pixels, RECIPES["sc_clip"])
    with pytest.raises(RecipeError, match=r"path_blocks must be within 0 … 5, got \(8, 3, 3, 9\)"):
        forward(towers.tower(), pixels, recipe("sc_clip", path_blocks=(8, 3, 3, 9)))


@pytest.mark.parametrize("name", ROWS)
def test_rows_at_a_time_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, pixels = towers.tower(), towers.pixels(2, (5, 8))
    whole = forward(weights, pixels, RECIPES[name]).patches
    monkeypatch.setattr(slices, "CACHE", 2 * 40 * 7)
    assert error(forward(weights, pixels, RECIPES[name]).patches, whole) < 1e-12


def test_pictures_of_a_batch_have_means_of_their_own() -> None:
    weights, pixels = towers.tower(), towers.pixels(3, (6, 7))
    pixels[1] *= 0.05
    for row in (RECIPES[name] for name in ROWS):
        alone = torch.cat([forward(weights, picture[None], row).patches for picture in pixels])
        assert error(alone, forward(weights, pixels, row).patches) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_patches_that_are_one_vector(name: str, dtype: torch.dtype) -> None:
    """A grey picture without positions: every cosine is 1 up to rounding, and so is their mean; the official code may give NaN."""
    weights = towers.tower(dtype)
    plain = replace(weights, pos=torch.zeros_like(weights.pos))
    for batch, grid in ((1, (6, 7)), (2, (1, 1))):
        found = forward(plain, torch.zeros(batch, 3, 8 * grid[0], 8 * grid[1], dtype=dtype), RECIPES[name]).patches
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", ROWS)
def test_gradients_are_those_of_the_literal_statement(name: str) -> None:
    """The choice of outliers and of near or similar patches is constant; all else passes a gradient on."""
    weights, found = towers.tower(), {}
    for way, pass_on in {"fast": lambda x: forward(weights, x, RECIPES[name]).patches,
                         "literal": lambda x: any_recipe.features(weights, x, RECIPES[name])}.items():  # fmt: skip
        pixels = towers.pixels(2, (6, 7)).requires_grad_()
        (pass_on(pixels) * noise(2, 42, towers.EMBED)).sum().backward()
        found[way] = pixels.grad
    assert error(found["fast"], found["literal"]) < EXACT and found["fast"].abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """A cosine beside a threshold may fall on its other side, so the whole map is compared."""
    pixels = towers.pixels(2, (8, 8))
    exact = forward(towers.tower(), pixels, RECIPES[name]).patches
    found = forward(towers.tower(dtype), pixels.to(dtype), RECIPES[name]).patches
    assert found.dtype == dtype and float((found.double() - exact).norm() / exact.norm()) < 0.1


@pytest.mark.parametrize(("name", "cls"), [*itertools.product(ROWS, (False, True))])
def test_what_the_main_path_captures_stays(name: str, cls: bool) -> None:
    weights, pixels, names = towers.tower(), towers.pixels(1, (6, 7)), ("embedded", "block5", "qkv5", "block6")
    expected: dict[str, Any] = dict(vit.forward(weights, pixels, recipe("itsm", position="bicubic-scale"), capture=names).captured)
    out = forward(weights, pixels, RECIPES[name], cls=cls, capture=(*names, "local"))
    for each in names:
        assert torch.equal(out.captured[each], expected[each])
    assert error(out.patches, forward(weights, pixels, RECIPES[name]).patches) < 1e-12
