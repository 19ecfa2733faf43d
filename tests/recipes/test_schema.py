"""A recipe's own answers, and its rules at their ends."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fastloc.errors import RecipeError
from fastloc.recipes import RECIPES, Recipe, recipe

# row, changes, words
DEPTHS: list[tuple[str, dict[str, Any], str]] = [
    ("gem", {}, "6"), ("itsm", {}, "0"), ("sclip", {}, "1"), ("sc_clip", {}, "1"), ("sfp", {}, "1"), ("cliper", {}, "all"),
    ("anchor_qk", {}, "1"), ("anchor_qk", {"start": -2}, "1 at -2"), ("anchor_qk", {"start": 1}, "1 at 1"), ("legrad", {}, "2"),
    ("legrad", {"start": 0}, "all"), ("legrad", {"start": 3}, "from 3"), ("bi_modal", {}, "all"), ("bi_modal_last", {}, "1"),
    ("rollout", {}, "all"), ("rollout", {"start": 2}, "from 2"), ("grad_cam", {}, "1"), ("grad_eclip", {"start": 3}, "1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "expected"), DEPTHS, ids=str)
def test_depth_in_words(name: str, changes: dict[str, Any], expected: str) -> None:
    assert recipe(name, **changes).depth == expected


def test_the_empty_text_is_read_by_these() -> None:
    found = {(name, texts) for name, row in RECIPES.items() for texts in (1, 2, 3) if row.reads_empty(texts) is True}
    assert found == {("clip_surgery", 1), *(("cliper", texts) for texts in (1, 2, 3))}
    assert recipe("gem").reads_empty(1) is False


def test_scales_and_streams() -> None:
    assert recipe("grad_cam").score_scale(100.0) == 100.0 and recipe("grad_cam", target_scale=3.0).score_scale(100.0) == 3.0
    assert recipe("maskclip").streams == () and recipe("itsm", blocks=1, terms=("vv", "identity", "qk")).streams == ("vv", "qk")
    # an anchor's term is no stream of the local path
    assert recipe("anchor_qk").streams == ()
    assert Recipe("mine", "", "").rotary is True


_HEAD = "head must be one head of an anchor's block"
_PATH_BLOCKS = "path_blocks must be four blocks counted from 0, the third not behind the fourth"
_RHO = "rho must be a share of the tokens between 0 and 1"
_MATCHED = "matched temperatures need unit projections, self-self terms and rho"
_TABLE = "the inv_temp table must be nested tuples of numbers above 0"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("itsm", {"blocks": 1, "terms": ("identity", "qq", "identity")}, "the identity term stands at most once"),
    ("itsm", {"blocks": 1, "terms": ("identity", "identity")}, "the identity term stands at most once"),
    *(("gem_calibrated", {"rho": each}, _RHO) for each in (0, -0.5, 1, 1.5, math.nan, True)),
    ("gem_matched", {"rho": None}, _MATCHED), ("gem_matched", {"unit": False}, _MATCHED), ("gem_matched", {"terms": ("qk",)}, _MATCHED),
    ("gem_matched", {"unit": False, "rho": None}, _MATCHED), ("gem_calibrated", {"unit": False}, "rho is for unit projections"),
    ("grad_cam", {"compares": "plain"}, "compares is for what reads 'grad-eclip', not 'grad-cam'"),
    ("grad_eclip", {"cam": "layer-cam"}, "cam is for what reads 'grad-cam', not 'grad-eclip'"),
    ("resclip", {"cross_weight": -0.1}, "cross_weight must be a share in 0 … 1, got -0.1"),
    ("resclip", {"cross_weight": math.nextafter(1, 2)}, "cross_weight must be a share in 0 … 1"),
    *(("sfp", {"path_blocks": each}, _PATH_BLOCKS) for each in (
        (8, 3, 3), (8, 3, 3, 9, 1), (8, 3, 9, 3), (-1, 3, 3, 9), (8, 3, 3.0, 9), (8, True, 3, 9),
    )),
    *(("anchor_qk", {"head": each}, _HEAD) for each in (-1, True, 1.0, "1")), *(("legrad", {"head": each}, _HEAD) for each in (0, 1)),
    *(("cliper", {"cutoff": each}, "cutoff must be a share in 0 … 1") for each in (-0.1, math.nextafter(1, 2), 2, math.nan, True)),
    *(("gem", {"blocks": 1, "iterations": 1, "inv_temp": ((((each),),),)}, _TABLE) for each in ((1.0, 2.0, 3.0), (), (1.0, 0.0))),
]  # fmt: skip
TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("gem_calibrated", {"rho": 0.999}), ("gem_calibrated", {"rho": 1e-9}), ("gem_calibrated", {"rho": None}),
    ("grad_eclip", {"compares": "plain"}), ("grad_cam", {"cam": "layer-cam"}),
    ("resclip", {"cross_weight": 0}), ("resclip", {"cross_weight": 1}), ("sfp", {"path_blocks": (0, 0, 0, 0)}),
    ("sfp", {"path_blocks": (8, 3, 3, 9)}), ("sc_clip", {"path_blocks": (1, 0, 2, 2)}), ("anchor_qk", {"head": 0}),
    ("anchor_qk", {"head": 5}), ("cliper", {"cutoff": 1}), ("cliper", {"cutoff": 1e-9}), ("cliper", {"cutoff": 0}),
    ("gem", {"blocks": 1, "iterations": 1, "inv_temp": ((((1.0, 2.0),),),)}),
    ("gem", {"blocks": 1, "iterations": 2, "inv_temp": ((((1.0, 2.0, 3.0),),),)}), ("itsm", {"blocks": 1, "terms": ("identity", "qq")}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED, ids=str)
def test_the_first_value_that_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(name, **changes)
    assert f"recipe {name!r}: {message}" in str(caught.value)


@pytest.mark.parametrize(("name", "changes"), TAKEN, ids=str)
def test_the_last_value_that_is_taken(name: str, changes: dict[str, Any]) -> None:
    (field, value), *_ = reversed(changes.items())
    assert getattr(recipe(name, **changes), field) == value
