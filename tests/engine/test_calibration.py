"""Temperatures solved for a row entropy: by Newton's steps as by bisection, in a pass as beforehand, and what refuses them."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import towers
from fastloc.engine import calibration, triton_ops
from fastloc.engine.localizer import Localizer
from fastloc.engine.plan import PlanRequest
from fastloc.engine.plan_options import choose
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.errors import FastlocError, ModelError, PlanError, RecipeError
from fastloc.export.options import Options
from fastloc.functional import slices
from fastloc.functional.methods import entropy_matching
from fastloc.functional.vit import forward
from fastloc.recipes import RECIPES, recipe
from fastloc.recipes.schema import Table
from fastloc.reference import any_recipe
from fastloc.reference import entropy_matching as reference_matched
from towers import error

EXACT = 1e-10
CPU = torch.device("cpu")


def vectors(tokens: int, width: int, alike: float = 0.0, seed: int = 0) -> Tensor:
    """Unit vectors [2, tokens, 6, width]; `alike` is what all tokens of a head share."""
    made = torch.Generator().manual_seed(seed)
    own = torch.randn(2, tokens, 6, width, generator=made, dtype=torch.float64)
    shared = torch.randn(2, 1, 6, width, generator=made, dtype=torch.float64)
    return torch.nn.functional.normalize(own + alike * shared, dim=-1)


def table_of(passes: int, blocks: int = 6) -> Table:
    """An inverse temperature for each block, head, stream and pass, all different."""
    values = towers.array("calibrated", blocks, towers.HEADS, 3, passes, low=2.0, high=25.0).tolist()
    return tuple(tuple(tuple(tuple(stream) for stream in head) for head in block) for block in values)


# the solver


@pytest.mark.parametrize(("tokens", "width", "alike"), list(itertools.product((4, 17, 61), (8, 64), (0.0, 1.0, 5.0))))
def test_solved_as_by_bisection(tokens: int, width: int, alike: float) -> None:
    u = vectors(tokens, width, alike)
    for rho in (0.05, 0.2, 0.35, 0.7, 0.95):
        found = entropy_matching.matched(u, rho)
        assert found.shape == (2, 1, 6, 1)
        assert error(found[:, 0, :, 0], reference_matched.solved(u.transpose(1, 2), rho)) < EXACT, rho


@pytest.mark.parametrize("rho", [0.1, 0.35, 0.7])
def test_entropy_is_met(rho: float) -> None:
    u = vectors(145, 64, 1.0)
    maps = reference_matched.attention_map(u.transpose(1, 2), entropy_matching.matched(u, rho)[:, 0, :, 0])
    share = reference_matched.mean_entropy(maps).exp() / 145
    assert (share - rho).abs().max() < 1e-12


def test_slope_is_the_derivative() -> None:
    u, beta = vectors(17, 8).transpose(1, 2), torch.full((2, 6), 7.0, dtype=torch.float64)
    step = 1e-5
    above, below = (entropy_matching.entropy(u, beta * math.exp(sign * step))[0] for sign in (1, -1))
    assert error(-entropy_matching.entropy(u, beta)[1], (above - below) / (2 * step)) < 1e-8


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    u = vectors(17, 8)
    whole = entropy_matching.matched(u, 0.35)
    # parts of a head, and two heads with a rest
    for most in (17 * 5, 17 * 17 * 5):
        monkeypatch.setattr(slices, "CACHE", most)
        assert error(entropy_matching.matched(u, 0.35), whole) < 1e-13


@pytest.mark.parametrize("odd", [0, 1])
def test_a_sample_that_misleads_is_only_a_start(odd: int) -> None:
    """The rows of the sample are all alike, or all that differ."""
    u = vectors(200, 16)
    u[:, odd::3] = u[:, :1]
    for rho in (0.1, 0.5, 0.7):
        assert error(entropy_matching.matched(u, rho)[:, 0, :, 0], reference_matched.solved(u.transpose(1, 2), rho)) < EXACT


def test_a_device_that_may_not_stop_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    u = vectors(145, 64, 1.0)
    early = entropy_matching.matched(u, 0.5)
    monkeypatch.setattr(entropy_matching, "_may_stop", lambda u: False)
    assert error(entropy_matching.matched(u, 0.5), early) < EXACT


def test_vectors_of_no_length_have_uniform_rows() -> None:
    u = vectors(145, 64)
    u[:, 7] = 0
    for dtype in (torch.float64, torch.float32):
        found = entropy_matching.matched(u.to(dtype), 0.35)
        assert error(found[:, 0, :, 0], reference_matched.solved(u.transpose(1, 2), 0.35)) < (EXACT if dtype == torch.float64 else 1e-5)


def test_out_of_reach() -> None:
    same = vectors(1, 8).expand(-1, 9, -1, -1)
    assert entropy_matching.matched(same, 0.35).eq(1e4).all(), "equal tokens have a uniform row at every temperature"
    assert entropy_matching.matched(vectors(2, 8), 0.35).eq(1e4).all(), "no row spreads over less than one token"
    assert entropy_matching.matched(vectors(9, 8)[:0], 0.35).shape == (0, 1, 6, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_solved_in_float32_at_least(dtype: torch.dtype) -> None:
    u = vectors(145, 64)
    found = entropy_matching.matched(u.to(dtype), 0.35)
    assert found.dtype == torch.float32
    # half precision rounds the vectors themselves
    assert error(found, entropy_matching.matched(u, 0.35)) < (1e-5 if dtype == torch.float32 else 2e-2)


# in a pass


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("iterations", range(3))
@pytest.mark.parametrize("rho", [0.2, 0.6])
def test_matched_equals_its_reference(rho: float, iterations: int, residual: bool) -> None:
    weights, pixels = towers.tower(scale=True), towers.pixels(2, (3, 5))
    row = recipe("gem_matched", rho=rho, iterations=iterations, residual=residual, blocks=2)
    expected = reference_matched.gem_matched(weights, pixels, rho, 2, iterations, residual)
    assert error(forward(weights, pixels, row).patches, expected) < EXACT


@pytest.mark.parametrize("iterations", range(3))
def test_calibrated_equals_its_reference(iterations: int) -> None:
    weights, pixels, table = towers.tower(scale=True), towers.pixels(2, (3, 5)), table_of(iterations + 1)
    row = recipe("gem_calibrated", inv_temp=table, iterations=iterations)
    expected = reference_matched.gem_calibrated(weights, pixels, table, iterations=iterations)
    assert error(forward(weights, pixels, row).patches, expected) < EXACT
    assert error(any_recipe.features(weights, pixels, row), expected) < EXACT


def test_matched_at_what_one_picture_wants_is_calibrated_on_it() -> None:
    weights, pixels = towers.tower(scale=True), towers.pixels(1, (3, 5))
    row = recipe("gem_matched", iterations=1)
    table = calibration.solved(weights, pixels, row)[0].tolist()
    at_table = forward(weights, pixels, recipe("gem_calibrated", inv_temp=table, iterations=1)).patches
    assert error(forward(weights, pixels, row).patches, at_table) < EXACT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rho": None}, "matched temperatures need unit projections, self-self terms and rho"),
        ({"terms": ("vv", "qk"), "iterations": 0}, "matched temperatures need unit projections, self-self terms and rho"),
        ({"rho": 1.0}, "rho must be a share of the tokens between 0 and 1, got 1.0"),
        ({"rho": -0.1}, "rho must be a share of the tokens between 0 and 1, got -0.1"),
        ({"unit": False, "iterations": 0, "inv_temp": None}, "rho is for unit projections"),
    ],
)
def test_contradictions(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe("gem_matched", **changes)


# measured beforehand


def test_table_is_the_mean_of_what_pictures_want() -> None:
    weights, pixels = towers.tower(scale=True), towers.pixels(3, (3, 5))
    found = calibration.solved(weights, pixels, recipe("gem_matched", rho=0.35, blocks=3, iterations=2)).log().mean(0).exp()
    assert found.shape == (3, towers.HEADS, 3, 3)
    assert error(found, reference_matched.calibrated(weights, pixels, 0.35, 3, 2)) < EXACT


def test_parts_are_what_they_are_alone() -> None:
    weights, pixels = towers.tower(), towers.pixels(2, (3, 5))
    whole = calibration.solved(weights, pixels, recipe("gem_matched", blocks=4, iterations=2))
    part = calibration.solved(weights, pixels, recipe("gem_matched", blocks=2, iterations=1, terms=("qq", "vv")))
    assert error(whole[:, -2:, :, [2, 0], :2], part) < 1e-12


def test_shares_of_ones_own_table_are_rho() -> None:
    weights, pixels, row = towers.tower(), towers.pixels(1, (3, 5)), recipe("gem_matched", rho=0.35, blocks=3, iterations=1)
    own = calibration.solved(weights, pixels, row)[0]
    assert (calibration.shares(weights, pixels, row, own) - 0.35).abs().max() < 1e-10
    # colder rows spread over fewer tokens
    assert (calibration.shares(weights, pixels, row, 2 * own)[..., 0] < 0.35).all()


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(RecipeError, match="blocks must be 1 to 7 for this model, got 8"):
        calibration.solved(towers.tower(), towers.pixels(1, (3, 5)), recipe("gem_matched", blocks=8))


@pytest.mark.parametrize("source", calibration.AT_HAND)
def test_the_embedded_model_is_measured(source: str) -> None:
    localizer = Localizer(size=48)
    found = calibration.calibrate(localizer, calibration.at_hand(source, 2, (48, 48)), blocks=2, iterations=0, source=source)
    table = np.asarray(found.table)
    assert table.shape == (2, localizer.source.spec.heads, 3, 1) and (table > 1).all() and (table < 1e3).all()
    assert (found.pictures, found.source, found.model, found.rho) == (2, source, "embedded", 0.7)
    again = localizer.with_method(
        "gem", official=True, inv_temp=found.table_for(recipe("gem", blocks=2, iterations=0)), blocks=2, iterations=0
    )
    assert again.recipe.inv_temp == found.table


def test_nothing_to_measure() -> None:
    localizer = Localizer(size=48)
    with pytest.raises(RecipeError, match="pictures to calibrate on must be one or more"):
        calibration.calibrate(localizer, [])
    with pytest.raises(FastlocError, match="unknown source of pictures 'nose': did you mean 'noise'"):
        calibration.at_hand("nose", 1, (48, 48))


# wherever a recipe runs


def test_kernels_read_a_table() -> None:
    """A temperature for each block, head, stream and pass; at most twice as far from float64 as PyTorch's attention in the same dtype."""
    weights, pixels, texts = towers.tower(width=64, head_width=16), towers.pixels(1, (3, 5)), towers.texts(3)
    row = recipe("gem_calibrated", inv_temp=table_of(2, 2), blocks=2, iterations=1)
    plan = {"dtype": "float16", "launch": "eager", "norm": "torch", "activation": "torch", "readout": "torch", "projection": "joint"}
    plan["schedule"] = "per-block"
    runs = [Engine(Tower(weights, CPU, "float16"), row, {**plan, "attention": each}) for each in ("triton", "sdpa")]
    exact = Engine(Tower(weights, CPU, "float64"), row, {"dtype": "float64"})(pixels, texts)[0]
    found, usual = (float((run(pixels.float(), texts.float())[0].double() - exact).norm()) for run in runs)
    assert found < 2 * usual
    # it would differ from a table whose heads or streams are taken for one another
    turned = recipe("gem_calibrated", inv_temp=tuple(tuple(head[::-1] for head in each) for each in table_of(2, 2)), blocks=2, iterations=1)
    other = Engine(Tower(weights, CPU, "float64"), turned, {"dtype": "float64"})(pixels, texts)[0]
    assert float((other - exact).norm()) > 4 * found


def test_kernels_refuse_what_is_solved_in_the_pass() -> None:
    row, spec = RECIPES["gem_matched"], towers.tower(width=64, head_width=16).spec
    assert "temperatures solved within the pass" in triton_ops.why_not_attention(spec, row, 16, torch.float16)[0]
    with pytest.raises(PlanError, match="attention 'triton' is not possible here: temperatures solved within the pass"):
        choose(PlanRequest(CPU, spec, row, 1, (24, 40)), {"attention": "triton"})


def test_exports_refuse_what_is_solved_in_the_pass() -> None:
    with pytest.raises(FastlocError, match=r"got 'gem_matched', which solves one for every picture; use 'gem_calibrated'"):
        Options().check(towers.tower().spec, RECIPES["gem_matched"])


def test_what_is_ours_is_marked() -> None:
    for name in ("gem_calibrated", "gem_matched"):
        assert RECIPES[name].source.startswith("fastloc, ")
    with pytest.raises(ModelError, match="8 changed blocks do not fit"):
        reference_matched.gem_matched(towers.tower(), towers.pixels(1, (2, 2)), blocks=8)
