"""Gradients in closed form, rollout and anchors against their literal statements by autograd: every row, tower, shape and field."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import towers
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.errors import RecipeError
from fastloc.functional import vit
from fastloc.functional.folding import fold
from fastloc.functional.op_set import Ops
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.relevance import RELEVANCES
from fastloc.functional.similarity import answer, grids
from fastloc.recipes import RECIPES, Recipe, recipe, schema
from fastloc.reference import relevance
from towers import error

EXACT = 1e-10
NAMES = [name for name, row in RECIPES.items() if row.reads != "patches"]
KINDS: list[dict[str, Any]] = [
    {}, {"scale": True, "activation": "quick_gelu"}, {"pool": "avg", "activation": "gelu_tanh", "ln_pre": False}, {"pool": "avg-norm"},
]  # fmt: skip
# rows whose fields are changed: (row, changes)
CHANGED: list[tuple[str, dict[str, Any]]] = [
    ("grad_cam", {"target": "cosine"}), ("grad_cam", {"target": "logit", "target_scale": 3.0}), ("grad_cam", {"one_head": True}),
    ("grad_cam_clip_es", {"target_scale": 10.0}), ("grad_cam_clip_es", {"one_head": True}),
    ("grad_cam_input", {"one_head": False}), ("grad_cam_input", {"target": "softmax-of-mean"}),
    ("bi_modal", {"start": 3}), ("bi_modal", {"start": -2, "target": "cosine"}), ("bi_modal", {"target": "softmax", "target_scale": 5.0}),
    ("legrad", {"start": 0}), ("legrad", {"start": -1}), ("grad_eclip", {"one_head": False}), ("grad_eclip", {"target": "softmax"}),
    ("grad_eclip", {"compares": "plain"}), ("grad_eclip", {"compares": "plain", "one_head": False}),
    ("rollout", {"start": 4}), ("anchor_qk", {"start": 2}), ("anchor_vv", {"head": 3}), ("anchor_kk", {"start": 0, "head": 1}),
    ("cliper", {"start": 2}), ("cliper", {"cutoff": 0.9}), ("cliper", {"target_scale": 5.0}),
]  # fmt: skip


def expected(row: Recipe, pixels: Tensor, texts: Tensor, grid: tuple[int, int], **kind: Any) -> Tensor:
    scores = relevance.relevance(towers.tower(**kind), pixels, texts, row)
    return scores.transpose(1, 2).reshape(len(pixels), len(texts), *grid)


def runs(row: Recipe, kind: dict[str, Any]) -> bool:
    return not (row.reads == "grad-eclip" and "pool" in kind)


def test_the_names_are_those_of_the_functions() -> None:
    assert schema.RELEVANCES == tuple(RELEVANCES) == (*relevance.LITERAL, "cliper")
    assert {row.reads for row in RECIPES.values()} == {"patches", *RELEVANCES}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_its_reference(name: str, kind: dict[str, Any]) -> None:
    row = RECIPES[name]
    if not runs(row, kind):
        with pytest.raises(RecipeError, match="'grad_eclip' reads the gradient of the class token, and the model's embedding is the mean"):
            grids(towers.tower(**kind), towers.pixels(1, (2, 2)), towers.texts(1), row)
        return
    for batch, grid, count in ((1, (4, 4), 1), (3, (3, 5), 4)):
        pixels, texts = towers.pixels(batch, grid), towers.texts(count)
        found, scores = grids(towers.tower(**kind), pixels, texts, row)
        assert error(found, expected(row, pixels, texts, grid, **kind)) < EXACT, (batch, grid, count)
        cls = vit.forward(towers.tower(**kind), pixels, recipe("itsm", position=row.position), cls=True).cls
        assert cls is not None and scores is not None and error(scores, torch.nn.functional.normalize(cls, dim=-1) @ texts.T) < EXACT


@pytest.mark.parametrize(("name", "changes"), CHANGED, ids=str)
def test_every_field(name: str, changes: dict[str, Any]) -> None:
    row, pixels, texts = recipe(name, **changes), towers.pixels(2, (3, 5)), towers.texts(3)
    for kind in ({"scale": True}, {"pool": "avg"}):
        if runs(row, kind):
            found = grids(towers.tower(**kind), pixels, texts, row)[0]
            assert error(found, expected(row, pixels, texts, (3, 5), **kind)) < EXACT, kind
            assert error(found, grids(towers.tower(**kind), pixels, texts, RECIPES[name])[0]) > 1e-4, "the field changes nothing"


def test_rows_differ() -> None:
    pixels, texts = towers.pixels(2, (3, 5)), towers.texts(3)
    # each map scaled to its own largest value
    found = {name: grids(towers.tower(), pixels, texts, RECIPES[name])[0] for name in NAMES}
    scaled = {name: each / each.amax((2, 3), keepdim=True).clamp_min(1e-30) for name, each in found.items()}
    for one, other in itertools.combinations(NAMES, 2):
        assert float((scaled[one] - scaled[other]).abs().max()) > 0.02, (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_in_slices(name: str) -> None:
    """However few numbers may exist at a time, the sums are the same."""
    row, texts = RECIPES[name], towers.texts(3)
    for kind in ({}, {"pool": "avg"}):
        if not runs(row, kind):
            continue
        prepared = fold(towers.tower(**kind), row)
        tokens, grid = patch_tokens(prepared.weights, towers.pixels(2, (3, 5)))
        table = vit.positions(prepared.weights, grid, row)
        arguments = (prepared, tokens, table, grid, texts, lambda out, words: out.patches)
        whole = answer(*arguments, Ops(most=None))[0]
        for most in (1, 3000, 9000):
            assert error(answer(*arguments, Ops(most=most))[0], whole) < 1e-12, most


@pytest.mark.parametrize("name", NAMES)
def test_texts_and_images_do_not_mix(name: str) -> None:
    """A text alone is the same as among others, unless a softmax compares them; a picture alone always is."""
    weights, texts, row = towers.tower(scale=True), towers.texts(4), RECIPES[name]
    pixels = torch.cat([towers.pixels(1, (3, 5), seed=seed) * factor for seed, factor in ((1, 1.0), (2, 30.0), (3, 0.1))])
    together = grids(weights, pixels, texts, row)[0]
    for i in range(3):
        assert error(grids(weights, pixels[i : i + 1], texts, row)[0], together[i : i + 1]) < 1e-11
    alone = grids(weights, pixels, texts[2:3], row)[0]
    assert (error(alone, together[:, 2:3]) < 1e-11) == (not row.target.startswith("softmax"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", NAMES)
def test_other_dtypes(name: str, dtype: str) -> None:
    """Of each map scaled to its own range, which is what is shown: the share of a text in a softmax is steeper than half precision."""
    pixels, texts, row = towers.pixels(3, (6, 7)), towers.texts(3), RECIPES[name]
    exact = grids(towers.tower(scale=True), pixels, texts, row)[0]
    run = Engine(Tower(towers.tower(scale=True), torch.device("cpu"), dtype), row, {"dtype": dtype})
    found, scores = run(pixels.float(), texts.float())
    assert found.dtype == torch.float32 and scores is not None
    assert (ranged(found.double()) - ranged(exact)).abs().mean() < {"float32": 1e-5, "float16": 5e-3}[dtype]


def ranged(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-30)


def test_a_share_next_to_one_has_a_gradient_in_float32() -> None:
    """1 - share, subtracted, would be all rounding: what is left of it after float32 is nothing like the map."""
    pixels, texts = towers.pixels(3, (6, 7), seed=1), towers.texts(3)
    row = recipe("grad_cam", target_scale=150.0)
    exact, scores = grids(towers.tower(scale=True), pixels, texts, row)
    assert scores is not None and float((1 - torch.softmax(150 * scores, -1).amax(-1)).min()) < 1e-12
    found = grids(towers.tower(torch.float32, scale=True), pixels.float(), texts.float(), row)[0]
    assert (ranged(found.double()) - ranged(exact)).abs().max() < 1e-4


def test_rollout_is_the_same_for_every_text() -> None:
    found = grids(towers.tower(), towers.pixels(2, (3, 5)), towers.texts(3), RECIPES["rollout"])[0]
    assert torch.equal(found[:, 0], found[:, 1]) and torch.equal(found[:, 0], found[:, 2])


def test_in_inference_mode_and_without_autograd() -> None:
    with torch.inference_mode():
        found = grids(towers.tower(), towers.pixels(1, (3, 5)), towers.texts(2), RECIPES["bi_modal"])[0]
    assert not found.requires_grad and found.isfinite().all()


def test_an_empty_batch() -> None:
    for name in NAMES:
        found, _ = grids(towers.tower(), towers.pixels(1, (3, 5))[:0], towers.texts(2), RECIPES[name])
        assert found.shape == (0, 2, 3, 5), name


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bi_modal", {"start": 7}, "recipe 'bi_modal': start must be a block of the model, 0 … 6, got 7"),
        ("legrad", {"start": -8}, "recipe 'legrad': start must be a block of the model, 0 … 6, got -8"),
        ("anchor_qk", {"head": 4}, "recipe 'anchor_qk': head must be a head of the model, 0 … 3, got 4"),
    ],
)
def test_what_the_model_does_not_have(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        grids(towers.tower(), towers.pixels(1, (2, 2)), towers.texts(1), recipe(name, **changes))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("grad_cam", {"target": "share"}, "unknown target 'share'"),
        ("grad_cam", {"target_scale": 0}, "target_scale must be a number above 0"),
        ("grad_cam", {"residual": True}, "'grad-cam' has no local path"),
        ("bi_modal", {"target": "softmax-of-mean"}, "'bi-modal' reads the class token, and no mean of patches"),
        ("grad_cam", {"terms": ("qk",)}, "terms are for what is read as 'patches' or 'anchor', not 'grad-cam'"),
        ("grad_cam", {"score": "cosine"}, "its score is 'relevance', not 'cosine'"),
        ("grad_cam", {"head": 1}, "head must be one head of an anchor's block, got 1"),
        ("legrad", {"one_head": True}, "'legrad' reads the encoder's own heads"),
        ("legrad", {"target": "softmax"}, "'legrad' has no target to choose"),
        ("grad_eclip", {"cam": "grad-cam++"}, "cam is for what reads 'grad-cam', not 'grad-eclip'"),
        ("grad_cam", {"compares": "plain"}, "compares is for what reads 'grad-eclip', not 'grad-cam'"),
        ("grad_eclip", {"compares": "heads"}, "unknown q and k to compare 'heads'"),
        ("legrad", {"start": 1.5}, "start must be a block"),
        ("legrad", {"cutoff": 0.1}, "cutoff is for recipes that read 'cliper', not 'legrad'"),
        ("gem", {"cutoff": 0.1}, "cutoff is for recipes that read 'cliper'"),
        ("cliper", {"cutoff": 1.5}, "cutoff must be a share in 0 … 1, got 1.5"),
        ("cliper", {"target": "logit"}, "target must be 'softmax' for 'cliper', which shares a patch out among texts, got 'logit'"),
        ("cliper", {"one_head": True}, "'cliper' reads the encoder's own heads"),
        ("anchor_qk", {"terms": ("qk", "vv")}, "an anchor's attention is one term"),
        ("anchor_qk", {"terms": ("identity",)}, "an anchor's attention is one term"),
        ("gem", {"start": 1}, "start, head, one_head and target are for recipes that read something else than patches"),
        ("gem", {"score": "relevance"}, "the score 'relevance' is for recipes that read something else than patches"),
        ("gem", {"reads": "gradcam"}, "unknown thing to read 'gradcam': did you mean 'grad-cam'"),
    ],
)
def test_contradictions(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(name, **changes)
    assert message in str(caught.value)


def test_the_references_steps_are_the_official_ones_where_they_can_be_written_twice() -> None:
    """Anchors by a loop over patches, and rollout by powers: of towers whose blocks are all alike."""
    weights, pixels, texts = towers.tower(), towers.pixels(1, (3, 5)), towers.texts(2)
    same = replace(weights, blocks=weights.blocks[:1] * 7)
    seen = relevance.walk(same, pixels[0], RECIPES["rollout"])
    joint = torch.eye(16, dtype=torch.float64)
    for attention in seen.maps:
        joint = (attention[0].mean(0) + torch.eye(16)) / 2 @ joint
    assert error(grids(same, pixels, texts, RECIPES["rollout"])[0][0, 0].flatten(), joint[0, 1:].detach()) < EXACT
