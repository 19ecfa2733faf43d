"""The fast path equals the literal reference in float64: every recipe, every shape of tower, every read-out."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import towers
from fastloc.errors import ModelError, RecipeError, TextError
from fastloc.functional import attention
from fastloc.functional.folding import crossed
from fastloc.functional.output import Output
from fastloc.functional.readout import needs_cls, similarity
from fastloc.functional.vit import forward
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.recipes import RECIPES, recipe
from fastloc.recipes.official import OFFICIAL
from fastloc.recipes.schema import Table
from fastloc.reference import any_recipe, arithmetic, methods, parts, readouts
from fastloc.reference import scores as literal
from towers import error

EXACT = 1e-10
GRIDS = {"trained": (4, 4), "wide": (3, 5), "larger": (6, 7), "row": (1, 3), "same count": (2, 8)}
KINDS = [
    {"scale": scale, "ln_pre": ln_pre, "activation": activation}
    for scale, ln_pre, activation in itertools.product((False, True), (True, False), ("gelu", "quick_gelu", "gelu_tanh"))
]


def label(kind: dict[str, object]) -> str:
    return f"{'layerscale' if kind['scale'] else 'plain'}-{'ln_pre' if kind['ln_pre'] else 'no_ln_pre'}-{kind['activation']}"


def test_every_recipe_has_a_reference() -> None:
    assert set(methods.METHODS) <= set(towers.PATCHES)


@pytest.mark.slow("every method at every shape", quick="name")
@pytest.mark.parametrize("kind", KINDS, ids=label)
@pytest.mark.parametrize("name", towers.PATCHES)
def test_patches(name: str, kind: dict[str, object]) -> None:
    weights = towers.tower(**kind)
    for (label, grid), batch in itertools.product(GRIDS.items(), (1, 3)):
        pixels = towers.pixels(batch, grid)
        out = forward(weights, pixels, RECIPES[name])
        wrong = error(out.patches, literal.features(weights, pixels, RECIPES[name]))
        assert wrong < EXACT, f"{label} grid {grid}, batch {batch}: off by {wrong:.1e}"
        assert out.grid == grid and out.cls is None


@pytest.mark.parametrize("name", [name for name in OFFICIAL if RECIPES[name].reads == "patches"])
def test_official_forms(name: str) -> None:
    """On a tower that has every block that authors name by its number."""
    weights, row = towers.tower(layers=11), recipe(name, official=True)
    for label, grid in GRIDS.items():
        pixels = towers.pixels(2, grid)
        wrong = error(forward(weights, pixels, row).patches, literal.features(weights, pixels, row))
        assert wrong < EXACT, f"{label} grid {grid}: off by {wrong:.1e}"


def test_as_many_positions_in_another_shape_are_kept_where_a_row_allows_it() -> None:
    weights = towers.tower()
    kept = recipe("itsm", keep_position=True)
    for label, grid in GRIDS.items():
        pixels = towers.pixels(1, grid)
        apart = error(forward(weights, pixels, kept).patches, forward(weights, pixels, RECIPES["itsm"]).patches)
        assert apart > 1e-3 if label == "same count" else apart == 0, label
        assert error(forward(weights, pixels, kept).patches, literal.features(weights, pixels, kept)) < EXACT


@pytest.mark.parametrize("pool", ["tok", "avg", "avg-norm"])
@pytest.mark.parametrize("name", towers.PATCHES)
def test_image_embedding(name: str, pool: str) -> None:
    weights = towers.tower(pool=pool, scale=True)
    for grid in GRIDS.values():
        pixels = towers.pixels(2, grid)
        out = forward(weights, pixels, RECIPES[name], cls=True)
        assert out.cls is not None
        # the image embedding is the encoder's own, whatever the local path does
        assert error(out.cls, parts.encoder(weights, pixels, RECIPES[name].position)[0]) < EXACT
        assert error(out.patches, literal.features(weights, pixels, RECIPES[name])) < EXACT, "asking for the embedding changed the patches"


@pytest.mark.parametrize("name", towers.PATCHES)
def test_tower_that_is_nowhere_square(name: str) -> None:
    """A patch and a trained grid of two different sides each."""
    square = towers.tower()
    spec = replace(square.spec, patch=(4, 8), image=(12, 40))
    weights = replace(square, spec=spec, patch_w=square.patch_w[:, :, ::2] * 2**0.5, pos=towers.array("pos", 16, 32, low=-0.5, high=0.5))
    for grid in ((3, 5), (5, 3), (6, 10)):
        pixels = towers.pixels(2, grid, patch=spec.patch)
        assert error(forward(weights, pixels, RECIPES[name]).patches, literal.features(weights, pixels, RECIPES[name])) < EXACT, grid


def test_recipes_differ() -> None:
    """The methods differ on seeded weights, so that the equalities above mean something."""
    weights, pixels = towers.tower(), towers.pixels(2, (3, 5))
    found = {name: literal.features(weights, pixels, RECIPES[name]) for name in towers.PATCHES if name not in ("rclip", "eclip")}
    for (one, first), (other, second) in itertools.combinations(found.items(), 2):
        assert error(first, second) > 0.02, (one, other)


# GEM's parameters


def table(blocks: int, heads: int, streams: int, passes: int) -> Table:
    """Every entry another one."""
    values = towers.array("table", blocks, heads, streams, passes, low=2.0, high=30.0).tolist()
    return tuple(tuple(tuple(tuple(stream) for stream in head) for head in block) for block in values)


@pytest.mark.parametrize("iterations", range(4))
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("temperature", ["adaptive", 20.0, 0.5, "scale", "table", "table of streams", "table of blocks and heads"])
def test_gem(temperature: str | float, residual: bool, iterations: int) -> None:
    passes, plain = iterations + 1, (32 // towers.HEADS) ** -0.5
    # as the recipe and as the official code write it
    inv_temp, official = {
        "adaptive": ("adaptive", None), 20.0: (20.0, 20.0), 0.5: (0.5, 0.5), "scale": (None, plain),
        "table": (table(6, towers.HEADS, 3, passes),) * 2, "table of streams": (table(1, 1, 3, 1),) * 2,
        "table of blocks and heads": (table(6, towers.HEADS, 1, 1),) * 2,
    }[temperature]  # fmt: skip
    row = recipe("gem", iterations=iterations, inv_temp=inv_temp, residual=residual)
    for scale, batch in ((False, 1), (True, 3)):
        weights, pixels = towers.tower(scale=scale), towers.pixels(batch, (3, 5))
        expected = methods.gem(weights, pixels, iterations=iterations, temperature=official, residual=residual)
        assert error(forward(weights, pixels, row).patches, expected) < EXACT


@pytest.mark.parametrize("blocks", range(towers.LAYERS + 1))
def test_gem_counts_blocks(blocks: int) -> None:
    weights, pixels = towers.tower(), towers.pixels(2, (3, 5))
    assert error(forward(weights, pixels, recipe("gem", blocks=blocks)).patches, methods.gem(weights, pixels, depth=blocks + 1)) < EXACT


def test_gem_of_no_blocks_is_the_encoder() -> None:
    weights, pixels = towers.tower(), towers.pixels(2, (3, 5))
    assert error(methods.gem(weights, pixels, depth=1), methods.itsm(weights, pixels, "bicubic-antialias")) < EXACT


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(ModelError, match="8 changed blocks do not fit a model of 7"):
        methods.gem(towers.tower(), towers.pixels(1, (2, 2)), depth=9)


def test_table_that_is_constant_is_the_number() -> None:
    weights, pixels = towers.tower(), towers.pixels(2, (3, 5))
    expected = forward(weights, pixels, recipe("gem", inv_temp=7.0)).patches
    assert error(forward(weights, pixels, recipe("gem", inv_temp=((((7.0,),),),))).patches, expected) < EXACT


# attention that no row has: recipes are free to combine terms


def unit_logits(p: Tensor, multiplier: float) -> Tensor:
    p = arithmetic.unit(p)
    return multiplier * p @ p.mT


FREE: dict[str, tuple[dict[str, object], parts.Attention]] = {
    "q-k": ({"terms": ("qk",)}, lambda i, y, q, k, v: arithmetic.attend(q, k, v)),
    "mean of four": (
        {"terms": ("qk", "vv", "identity", "kk")},
        lambda i, y, q, k, v: (arithmetic.attend(q, k, v) + arithmetic.attend(v, v, v) + v + arithmetic.attend(k, k, v)) / 4,
    ),
    "sum with identity": ({"terms": ("vv", "identity"), "combine": "sum"}, lambda i, y, q, k, v: arithmetic.attend(v, v, v) + v),
    "term twice": ({"terms": ("qq", "qq", "kk")}, lambda i, y, q, k, v: (2 * arithmetic.attend(q, q, v) + arithmetic.attend(k, k, v)) / 3),
    "unit": ({"terms": ("qq",), "unit": True, "inv_temp": 9.0}, lambda i, y, q, k, v: arithmetic.softmax(unit_logits(q, 9.0)) @ v),
    "unit q-k": (
        {"terms": ("qk",), "unit": True, "inv_temp": 9.0},
        lambda i, y, q, k, v: arithmetic.softmax(9.0 * arithmetic.unit(q) @ arithmetic.unit(k).mT) @ v,
    ),
    "adaptive, not unit": (
        {"terms": ("vv",), "inv_temp": "adaptive"},
        lambda i, y, q, k, v: arithmetic.softmax(v @ v.mT * y.norm(dim=-1).mean(1)[:, None, None, None] * v.shape[-1] ** -0.5) @ v,
    ),
    "number, not unit": ({"terms": ("kk",), "inv_temp": 0.3}, lambda i, y, q, k, v: arithmetic.softmax(0.3 * k @ k.mT) @ v),
    "two with neighbours": (
        {"terms": ("qk", "vv"), "bias_std": 1.5},
        lambda i, y, q, k, v: (
            arithmetic.softmax(arithmetic.logits(q, k) + methods.neighbourhood((3, 5), 1.5))
            + arithmetic.softmax(arithmetic.logits(v, v) + methods.neighbourhood((3, 5), 1.5))
        ) @ v / 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("name", FREE)
def test_free_terms_over_several_blocks(name: str, residual: bool) -> None:
    changes, stated = FREE[name]
    weights, pixels = towers.tower(scale=True), towers.pixels(2, (3, 5))
    row = recipe("itsm", blocks=3, residual=residual, position="bicubic", **changes)
    g, _ = parts.dual_paths(weights, pixels, 3, stated, "bicubic", residual)
    assert error(forward(weights, pixels, row).patches, parts.project(weights, g)[:, 1:]) < EXACT


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("name", FREE)
def test_free_terms_in_the_last_block(name: str, plain: bool) -> None:
    changes, stated = FREE[name]
    weights, pixels = towers.tower(scale=True), towers.pixels(2, (3, 5))
    row = recipe("itsm", blocks=1, residual=plain, mlp=plain, **changes)
    assert error(forward(weights, pixels, row).patches, parts.last_block(weights, pixels, stated, "bilinear", plain)) < EXACT


def test_free_term_that_is_the_encoders_own_is_the_encoder() -> None:
    weights, pixels = towers.tower(scale=True), towers.pixels(2, (3, 5))
    row = recipe("itsm", blocks=1, terms=("qk",), residual=True, mlp=True)
    assert error(forward(weights, pixels, row).patches, methods.itsm(weights, pixels)) < EXACT


@pytest.mark.parametrize("layers", [2, 3, 6, 7, 12])
def test_cross_attention_at_any_depth(layers: int) -> None:
    """ResCLIP's shares of the depth; where no block lies in them, the one before the last."""
    weights, pixels = towers.tower(layers=layers), towers.pixels(2, (3, 5))
    found = forward(weights, pixels, recipe("resclip", gain=1.5, cross_weight=0.6)).patches
    assert error(found, methods.resclip(weights, pixels, gain=1.5, share=0.6)) < EXACT
    alone = forward(weights, pixels, recipe("resclip", gain=1.0, cross_weight=0.0)).patches
    assert error(alone, methods.naclip(weights, pixels)) < EXACT


@pytest.mark.parametrize("layers", [2, 3, 6, 12, 24])
def test_blocks_at_places_of_any_depth(layers: int) -> None:
    """ITACLIP's three blocks of twelve; fewer where a tower is not deep enough for three different ones."""
    weights, pixels = towers.tower(layers=layers), towers.pixels(2, (3, 5))
    found = forward(weights, pixels, RECIPES["itaclip"]).patches
    assert error(found, methods.METHODS["itaclip"](weights, pixels)) < EXACT
    numbers = {2: (0,), 3: (1,), 6: (3, 4), 12: (6, 7, 9), 24: (12, 14, 18)}[layers]
    assert crossed(RECIPES["itaclip"], layers) == numbers
    assert torch.equal(found, forward(weights, pixels, recipe("itaclip", cross_blocks=numbers[::-1])).patches)


CROSS: dict[str, dict[str, object]] = {
    "numbers": {"cross_blocks": (0, 4, 4)}, "a number and a place": {"cross_blocks": (2, 0.7)}, "one": {"cross_blocks": (5,)},
    "encoder's own": {"cross_terms": "qk"}, "share": {"cross_blocks": (), "cross": (0.2, 0.7)},
    "with a bias": {"bias_std": 1.5}, "with the values": {"terms": ("identity", "vv", "qk"), "combine": "mean", "mlp": True},
    "unit": {"terms": ("qk",), "unit": True, "inv_temp": 7.0},
    "iterated": {"terms": ("vv", "kk"), "unit": True, "inv_temp": 9.0, "iterations": 1},
    "aligned": {"terms": ("procrustes", "kk"), "procrustes_weight": 0.2, "gain": 1.5},
}  # fmt: skip


@pytest.mark.parametrize("name", CROSS)
def test_other_blocks_with_terms_of_their_own(name: str) -> None:
    weights, pixels, row = towers.tower(scale=True), towers.pixels(2, (3, 5)), recipe("itaclip", **CROSS[name])
    found = forward(weights, pixels, row).patches
    assert error(found, any_recipe.features(weights, pixels, row)) < EXACT
    assert error(found, forward(weights, pixels, recipe("itaclip")).patches) > 1e-3


@pytest.mark.parametrize("method", ["resclip", "itaclip"])
def test_cross_attention_needs_a_block_before_the_last(method: str) -> None:
    with pytest.raises(RecipeError, match="reads the attention of blocks before the last, and the model has one block"):
        forward(towers.tower(layers=1), towers.pixels(1, (2, 2)), RECIPES[method])


def test_cross_attention_needs_the_blocks_that_are_named() -> None:
    with pytest.raises(RecipeError, match="cross_blocks names block 6, and the model's blocks before the last are 0 … 5"):
        forward(towers.tower(), towers.pixels(1, (2, 2)), recipe("itaclip", cross_blocks=(5, 6)))


FREE_ALIGNED = [
    {"terms": ("procrustes",), "procrustes_weight": 0.5}, {"terms": ("qk", "procrustes", "identity"), "combine": "sum"},
    {"terms": ("procrustes", "kk"), "inv_temp": "adaptive"}, {"terms": ("procrustes",), "bias_std": 2.0, "inv_temp": 0.9},
    {"terms": ("vv", "procrustes"), "inv_temp": ((((2.0,), (0.3,)),),)},
]  # fmt: skip


@pytest.mark.parametrize("changes", FREE_ALIGNED, ids=str)
def test_aligned_queries_beside_other_terms(changes: dict[str, object]) -> None:
    weights, pixels = towers.tower(scale=True), towers.pixels(2, (3, 5))
    for blocks, mlp in ((3, False), (1, True)):
        row = recipe("itsm", blocks=blocks, mlp=mlp, residual=True, **changes)
        assert error(forward(weights, pixels, row).patches, any_recipe.features(weights, pixels, row)) < EXACT


@pytest.mark.parametrize("std", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 6), (6, 1), (1, 1)])
def test_neighbour_bias(grid: tuple[int, int], std: float) -> None:
    like, expected = torch.zeros((), dtype=torch.float64), methods.neighbourhood(grid, std)
    found = attention.neighbour_bias(grid, std, 0, grid[0], like)
    below = attention.neighbour_bias(grid, std, grid[0] // 2, grid[0], like)
    assert torch.equal(below, found[grid[0] // 2 * grid[1] :])
    # the fast path has no row for the class token
    assert error(found, expected[1:]) < EXACT
    assert not expected[0].any() and not expected[:, 0].any()


# scores and maps


def outputs(grid: tuple[int, int], batch: int = 3) -> Output:
    return forward(towers.tower(), towers.pixels(batch, grid), RECIPES["clip_surgery"], cls=True)


@pytest.mark.parametrize("count", [2, 5])
def test_feature_surgery_is_the_official_tensor(count: int) -> None:
    weights, pixels, texts = towers.tower(), towers.pixels(3, (3, 5)), towers.texts(count)
    tokens = methods.clip_surgery(weights, pixels)
    expected = readouts.feature_surgery(tokens, texts)[:, 1:]
    found = similarity(outputs((3, 5)), texts, RECIPES["clip_surgery"].readout)
    assert found.shape == (3, count, 3, 5)
    assert error(found.flatten(2).transpose(1, 2), expected) < EXACT
    # the official code takes one image at a time
    alone = torch.cat([readouts.feature_surgery(tokens[i : i + 1], texts) for i in range(3)])[:, 1:]
    assert error(expected, alone) < EXACT
    # what all texts share is gone
    assert found.mean(1).abs().max() < 1e-12


def test_feature_surgery_of_one_text_is_zero_so_the_empty_text_is_taken_away() -> None:
    out, text, empty = outputs((3, 5)), towers.texts(1), towers.texts(1, seed=1)[0]
    tokens = methods.clip_surgery(towers.tower(), towers.pixels(3, (3, 5)))
    assert readouts.feature_surgery(tokens, text).abs().max() < 1e-12
    found = similarity(out, text, RECIPES["clip_surgery"].readout, empty)
    assert found.shape == (3, 1, 3, 5)
    assert error(found.flatten(2).transpose(1, 2), readouts.minus_empty(tokens[:, 1:], text, empty)) < EXACT


@pytest.mark.parametrize("name", towers.PATCHES)
def test_similarity(name: str) -> None:
    row = RECIPES[name]
    for count, batch in ((1, 2), (3, 1)):
        out = forward(towers.tower(), towers.pixels(batch, (3, 5)), row, cls=needs_cls(row.readout, count))
        found = similarity(out, towers.texts(count), row.readout, towers.texts(1, seed=1)[0])
        assert found.shape == (batch, count, 3, 5)
        if row.readout.score == "cosine":
            assert error(found.flatten(2).transpose(1, 2), readouts.cosine(out.patches, towers.texts(count))) < EXACT
    assert needs_cls(row.readout, 3) == (name == "clip_surgery")
    assert not needs_cls(row.readout, 1)


def test_feature_surgery_says_what_it_lacks() -> None:
    out, readout = forward(towers.tower(), towers.pixels(1, (3, 5)), RECIPES["clip_surgery"]), RECIPES["clip_surgery"].readout
    with pytest.raises(TextError, match="the embedding of the empty string must be given"):
        similarity(out, towers.texts(1), readout)
    with pytest.raises(TextError, match="the image embedding must be given"):
        similarity(out, towers.texts(2), readout)


LITERAL_MAPS: dict[str, Callable[..., Tensor]] = {
    "grid": readouts.surgery_map,
    "picture": readouts.gem_map,
    "reverse": readouts.rclip_map,
    "softmax": readouts.segmentation_map,
}


@pytest.mark.parametrize("size", [(24, 40), (31, 50), (7, 9)], ids=["input", "larger", "smaller"])
@pytest.mark.parametrize("name", towers.PATCHES)
def test_from_pixels_to_maps(name: str, size: tuple[int, int]) -> None:
    """The whole method, the way its authors run it, against the fast rooms one after the other."""
    weights, pixels, texts = towers.tower(), towers.pixels(2, (3, 5)), towers.texts(4)
    row = RECIPES[name].at_scale(weights.logit_scale)
    if row.readout.score == "feature-surgery":
        scores = readouts.feature_surgery(methods.clip_surgery(weights, pixels), texts)[:, 1:]
    else:
        scores = readouts.cosine(literal.features(weights, pixels, RECIPES[name]), texts)
    options = (row.readout.scale,) if row.readout.order == "softmax" else ()
    expected = LITERAL_MAPS["reverse" if row.readout.reverse else row.readout.order](scores, (3, 5), size, *options)

    found = similarity(forward(weights, pixels, row, cls=needs_cls(row.readout, 4)), texts, row.readout)
    geometry = fit(size, (24, 40), towers.PATCH)
    for image in range(2):
        heat = heatmaps.heatmaps(found[image].numpy(), geometry, row.readout.order, row.readout.scale, row.readout.reverse)
        assert heat.shape == (4, *size)
        # min-max divides by the range of a map, so absolute
        assert np.abs(heat - expected[image].numpy()).max() < 1e-8
