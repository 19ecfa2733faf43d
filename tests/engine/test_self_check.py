"""The self-check of PyTorch's engines: quiet where plans agree, loud at a planted fault, and absent unless you ask for it."""

import pickle
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import resnet_towers
import towers
from fastloc import load
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine.localizer import Localizer
from fastloc.engine.self_check.second_plan import SecondPlan, SlicedEngine, in_float32
from fastloc.engine.tower_kinds import tower_kind
from fastloc.errors import FastlocError, FastlocWarning, RecipeError
from fastloc.functional import attention
from fastloc.onnx_file.self_check import TENTH, SelfCheck
from fastloc.recipes import RECIPES
from repo import SAMPLES

CPU = torch.device("cpu")
MARKET = SAMPLES / "market.webp"
WORDS = ["cat", "red car"]


@cache
def engine(**options: Any) -> Localizer:
    return Localizer(size=96, self_check=1.0, **options)


def second(weights: Any, method: str, dtype: str = "float32", **settings: str) -> SecondPlan:
    """Another plan for a small tower; every call is checked."""
    kind, row = tower_kind(weights), RECIPES[method]
    kind.check(row, weights.spec, "tiny")
    run = kind.engine(kind.tower(weights, CPU, dtype), row, {"dtype": dtype, **settings})
    return SecondPlan(run, kind, SelfCheck(1.0, method, dtype, row.readout.score, seed=0))


def called(plan: SecondPlan, pixels: Tensor, texts: Tensor, empty: Tensor) -> None:
    """One call of the engine, checked, as a localizer does it."""
    given = tuple(each.float() for each in (pixels, texts, empty))
    plan(given, None, False, True, plan.engine(*given, background=True))


@pytest.mark.slow("every method in three dtypes", quick="method")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("method", RECIPES)
def test_plans_agree(method: str, dtype: str) -> None:
    for attends in ("sdpa", "bmm"):
        plan = second(towers.tower(scale=True), method, dtype, attention=attends)
        with warnings.catch_warnings():
            warnings.simplefilter("error", FastlocWarning)
            called(plan, towers.pixels(3, (4, 5)), towers.texts(3), towers.texts(1, seed=3)[0])
        assert (plan.check.calls, plan.check.checked, plan.check.different) == (1, 1, 0)
        assert plan.check.largest > 0 or not RECIPES[method].streams, "the other plan is the same one"


@pytest.mark.parametrize("method", ["itsm", "clip_surgery", "maskclip", "grad_cam"])
def test_plans_of_a_resnet_agree(method: str) -> None:
    plan = second(resnet_towers.tower(), method)
    called(plan, resnet_towers.pixels(2, (2, 3)), resnet_towers.texts(3), resnet_towers.texts(1, seed=3)[0])
    assert (plan.check.checked, plan.check.different) == (1, 0)


def test_the_other_plan_differs_wherever_there_is_a_choice() -> None:
    plan = second(towers.tower(), "gem", "float16")
    used = plan.engine.plan(3, (32, 32))
    other = plan._engines(plan._settings(3, (32, 32)))
    assert isinstance(other, SlicedEngine) and other.tower.weights.dtype == torch.float32
    made = other.plan(1, (32, 32))
    assert (used.attention, made.attention) == ("sdpa", "bmm") and made.dtype == "float32" and made.frames == "torch"
    beside = second(towers.tower(), "gem", attention="bmm")
    assert beside._settings(1, (32, 32))[1] == ("attention", "sdpa")
    assert plan._engines(plan._settings(3, (32, 32))) is other


def test_a_tower_in_float32_is_not_copied_and_another_keeps_its_rounded_numbers() -> None:
    kind = tower_kind(towers.tower())
    exact, half = (kind.tower(towers.tower(), CPU, dtype) for dtype in ("float32", "float16"))
    assert in_float32(exact) is exact
    copy = in_float32(half)
    assert copy.dtype == "float32" and half.dtype == "float16" and half.weights.dtype == torch.float16
    assert torch.equal(copy.weights.patch_w, half.weights.patch_w.float()) and copy.patch_matrix.dtype == torch.float32


# planted faults


def hotter(*given: Any, **more: Any) -> Tensor:
    """PyTorch's attention with a wrong temperature."""
    q, k, v, temperature, bias = given
    return attention.attend(q, k, v, temperature * 1.5, bias)


def mixing(*given: Any, **more: Any) -> Tensor:
    """Attention that lets the pictures of a batch see one another."""
    found = attention.attend(*given)
    return found + 0.3 * found.flip(0)


@pytest.mark.parametrize("fault", [hotter, mixing])
def test_a_planted_fault_is_found_and_said_once(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attention.FORMS, "sdpa", attention.local_form(fault))
    localizer = Localizer(size=96, fit="stretch", self_check=1.0, method="clearclip")
    pixels = torch.stack([localizer.pixels(picture, localizer.geometry(picture.size[::-1])) for picture in _pictures()])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(8):
            localizer.similarity(pixels, WORDS)
    messages = [str(each.message) for each in caught if "self-check" in str(each.message)]
    assert len(messages) == 1 and "similarity of method 'clearclip', 2 texts on a grid of " in messages[0]
    check = localizer.self_check
    assert check is not None and check.calls == check.checked == check.different == 8 and check.largest > 1


def _pictures() -> list[Any]:
    from fastloc.imaging.images import load as load_picture

    return [load_picture(SAMPLES / f"{name}.webp") for name in ("market", "garden")]


# the localizer


def test_a_call_a_method_and_a_stream_of_frames_are_checked() -> None:
    localizer = Localizer(size=96, self_check=1.0)
    plain = Localizer(size=96)
    np.testing.assert_array_equal(localizer(MARKET, WORDS).similarity, plain(MARKET, WORDS).similarity)
    frame = np.asarray(_pictures()[0])
    localizer.predict_frame(frame, localizer.encode_texts(WORDS))
    localizer.heatmaps(torch.from_numpy(frame[None].copy()), WORDS)
    other = localizer.with_method("clip_surgery")
    other(MARKET, WORDS)
    assert localizer.self_check is not None and other.self_check is not None
    counts = [(each.method, each.calls, each.checked, each.different) for each in (localizer.self_check, other.self_check)]
    assert counts == [("gem", 3, 3, 0), ("clip_surgery", 1, 1, 0)]


def test_it_is_off_unless_you_ask_for_it() -> None:
    assert Localizer(size=96).self_check is None and Localizer(size=96, self_check=0.0).self_check is None
    made = load(size=96, self_check=True)
    assert isinstance(made, Localizer) and made.self_check is not None and made.self_check.share == TENTH
    with pytest.raises(FastlocError, match="self_check must be a share of the calls from 0 to 1"):
        Localizer(size=96, self_check=2.0)


def test_it_is_among_the_arguments_that_a_pickle_has() -> None:
    again = pickle.loads(pickle.dumps(engine().with_method("clearclip")))
    assert again.self_check is not None and (again.self_check.share, again.self_check.method) == (1.0, "clearclip")


def test_an_empty_batch_is_no_call() -> None:
    localizer = Localizer(size=96, self_check=1.0)
    localizer.similarity(torch.zeros(0, 3, 96, 96), WORDS)
    assert localizer.self_check is not None and localizer.self_check.calls == 0


def test_a_classifier_has_no_other_plan() -> None:
    class Two(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))[:, :2]

    with pytest.raises(FastlocError, match="option 'self_check' cannot be given with Two: it is a classifier"):
        load(Two(), self_check=True)


def test_a_recipe_that_does_not_fit_is_refused_as_ever() -> None:
    with pytest.raises(RecipeError):
        second(resnet_towers.tower(), "gem")
    assert isinstance(towers.tower(), Weights)
