"""Every row of the table is the published method, and values that contradict one another raise an error before a run."""

import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

import towers
from fastloc.errors import RecipeError
from fastloc.functional.vit import forward
from fastloc.imaging import geometry, heatmaps
from fastloc.recipes import RECIPES, ReadOut, Recipe, readout, recipe
from fastloc.text import templates

# blocks, terms, combine, residual, mlp, position, order of the map, templates: from the authors' code, and said here once more
ROWS = {
    "itsm": (0, (), "mean", False, False, "bilinear", "grid", "surgery85"),
    "rclip": (0, (), "mean", False, False, "bilinear", "grid", "surgery85"),
    "eclip": (0, (), "mean", False, False, "bilinear", "grid", "surgery85"),
    "gem": (6, ("vv", "kk", "qq"), "mean", True, False, "bicubic-antialias", "picture", "gem"),
    "gem_calibrated": (6, ("vv", "kk", "qq"), "mean", False, False, "bicubic-antialias", "picture", "gem"),
    "gem_matched": (6, ("vv", "kk", "qq"), "mean", False, False, "bicubic-antialias", "picture", "gem"),
    "clip_surgery": (6, ("vv",), "mean", True, False, "bilinear", "grid", "surgery85"),
    "maskclip": (1, ("identity",), "mean", True, True, "bicubic", "softmax", "surgery85"),
    "sclip": (1, ("qq", "kk"), "sum", True, True, "bicubic-scale", "softmax", "openai80"),
    "clearclip": (1, ("qq",), "mean", False, False, "bicubic-scale", "softmax", "openai80"),
    "naclip": (1, ("kk",), "mean", False, False, "bicubic-scale", "softmax", "openai80"),
    "cliptrase": (1, ("qq", "kk", "vv"), "sum", True, True, "bicubic-scale", "softmax", "openai80"),
    "tagclip": (1, ("identity",), "mean", True, True, "bilinear", "softmax", "surgery85"),
    "resclip": (1, ("kk",), "mean", False, False, "bicubic-scale", "softmax", "openai80"),
    "pearl": (1, ("procrustes",), "mean", False, False, "bicubic-scale", "softmax", "openai80"),
    "itaclip": (1, ("qq", "kk"), "sum", True, False, "bicubic-scale", "softmax", "openai80"),
    "sc_clip": (0, (), "mean", False, False, "bicubic-scale", "softmax", "openai80"),
    "sfp": (0, (), "mean", False, False, "bicubic-scale", "softmax", "openai80"),
    "grad_cam": (0, (), "mean", False, False, "bicubic-antialias", "picture", "plain"),
    "grad_cam_clip_es": (0, (), "mean", False, False, "bilinear", "grid", "a clean origami {}."),
    "grad_cam_input": (0, (), "mean", False, False, "bicubic", "grid", "openai80"),
    "bi_modal": (0, (), "mean", False, False, "bicubic-antialias", "picture", "plain"),
    "bi_modal_last": (0, (), "mean", False, False, "bicubic-antialias", "picture", "plain"),
    "legrad": (0, (), "mean", False, False, "bicubic-antialias", "picture", "gem"),
    "grad_eclip": (0, (), "mean", False, False, "bicubic", "grid", "openai80"),
    "rollout": (0, (), "mean", False, False, "bicubic-antialias", "picture", "plain"),
    "cliper": (0, (), "mean", False, False, "bilinear", "picture", "openai80"),
    "anchor_qk": (0, ("qk",), "mean", False, False, "bilinear", "grid", "surgery85"),
    "anchor_vv": (0, ("vv",), "mean", False, False, "bilinear", "grid", "surgery85"),
    "anchor_qq": (0, ("qq",), "mean", False, False, "bilinear", "grid", "surgery85"),
    "anchor_kk": (0, ("kk",), "mean", False, False, "bilinear", "grid", "surgery85"),
}
# what only one row has: iterated, normalised, adaptive attention; neighbours; surgery; reversal
SPECIAL: dict[str, dict[str, Any]] = {
    "gem": {"unit": True, "iterations": 1, "inv_temp": "adaptive"},
    "eclip": {"trained": True},
    "gem_calibrated": {"unit": True, "inv_temp": 10.0, "rho": 0.7},
    "gem_matched": {"unit": True, "inv_temp": "matched", "rho": 0.7},
    "naclip": {"bias_std": 5.0},
    "resclip": {"bias_std": 5.0, "cross": (5 / 12, 9 / 12), "cross_weight": 0.3, "gain": 2.0},
    "pearl": {"procrustes_weight": 0.08},
    "itaclip": {"cross_blocks": (6 / 12, 7 / 12, 9 / 12), "cross_terms": "own", "cross_weight": 0.5},
    "sc_clip": {"path": "sc-clip"},
    "sfp": {"path": "sfp"},
    "clip_surgery": {"score": "feature-surgery"},
    "rclip": {"reverse": True},
    "grad_cam": {"score": "relevance", "reads": "grad-cam", "target": "softmax"},
    "grad_cam_clip_es": {"score": "relevance", "reads": "grad-cam", "target": "softmax-of-mean"},
    "grad_cam_input": {"score": "relevance", "reads": "grad-cam-input", "one_head": True},
    "bi_modal": {"score": "relevance", "reads": "bi-modal", "target": "logit"},
    "bi_modal_last": {"score": "relevance", "reads": "bi-modal", "target": "logit", "start": -1},
    "legrad": {"score": "relevance", "reads": "legrad", "start": -2},
    "grad_eclip": {"score": "relevance", "reads": "grad-eclip", "one_head": True},
    "rollout": {"score": "relevance", "reads": "rollout"},
    "cliper": {"score": "relevance", "reads": "cliper", "target": "softmax", "start": -1, "cutoff": 0.2},
    **{f"anchor_{term}": {"score": "relevance", "reads": "anchor", "start": -1} for term in ("qk", "vv", "qq", "kk")},
}
USUAL = {
    "path": "local", "path_blocks": (),
    "reads": "patches", "start": 0, "target": "cosine", "target_scale": "model", "one_head": False, "compares": "projected", "head": None,
    "cam": "grad-cam",
    "unit": False, "iterations": 0, "inv_temp": None, "rho": None, "bias_std": None,
    "procrustes_weight": 0.0, "cross": None, "cross_blocks": (), "cross_terms": "qk", "cross_weight": 0.0, "gain": 1.0,
    "keep_position": False, "trained": False, "score": "cosine", "reverse": False, "cutoff": 0.0,
}  # fmt: skip
LOGIT_SCALE = {
    "maskclip": 40.0, "sclip": 40.0, "clearclip": 50.0, "naclip": 40.0, "resclip": 40.0, "pearl": 40.0, "itaclip": 40.0, "sc_clip": 40.0,
    "sfp": 40.0,
}  # fmt: skip


def test_the_table_holds_these_methods() -> None:
    assert list(RECIPES) == list(ROWS)


@pytest.mark.parametrize("name", RECIPES)
def test_row(name: str) -> None:
    row = RECIPES[name]
    assert (row.blocks, row.terms, row.combine, row.residual, row.mlp, row.position, row.readout.order, row.template) == ROWS[name]
    for field, usual in USUAL.items():
        value = getattr(row.readout if field in ("score", "reverse") else row, field)
        assert value == SPECIAL.get(name, {}).get(field, usual), field
    assert row.readout.logit_scale == LOGIT_SCALE.get(name, "model")


@pytest.mark.parametrize("name", RECIPES)
def test_row_fits_the_other_tables(name: str) -> None:
    row = RECIPES[name]
    assert row.name == name and row.summary and row.source
    assert templates.sentences(row.template)
    assert row.fit in geometry.FITS
    assert row.readout.order in heatmaps.ORDERS
    assert hash(row) == hash(recipe(name)) and row == recipe(name)


def test_orders_are_those_of_the_maps() -> None:
    assert list(readout.ORDERS) == list(heatmaps.ORDERS)


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RECIPES["gem"].blocks = 3  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        RECIPES["gem"].readout.order = "grid"  # type: ignore[misc]


# the model's own scale


def test_a_models_scale_goes_where_it_is_read() -> None:
    assert recipe("tagclip").at_scale(30.0) == recipe("tagclip", logit_scale=30.0)
    assert recipe("bi_modal").at_scale(50.0) == recipe("bi_modal", target_scale=50.0)
    # what the authors fix, what is given, and what no scale goes into
    rows = recipe("tagclip", logit_scale=7.0), recipe("bi_modal", target_scale=8.0)
    for row in (*rows, recipe("naclip"), recipe("gem"), recipe("legrad")):
        assert row.at_scale(30.0) == row
    assert recipe("gem", order="softmax").at_scale(21.8).readout.scale == 21.8


def test_maps_are_not_drawn_at_a_scale_that_nobody_knows() -> None:
    assert recipe("gem").readout.scale is None and recipe("naclip").readout.scale == 40
    with pytest.raises(RecipeError, match="logit_scale must be a number to draw maps, got 'model'; Recipe"):
        _ = recipe("tagclip").readout.scale


@pytest.mark.parametrize("value", ["models", "", 0, -1.0, float("nan"), float("inf"), None])
# where nothing reads it too: a manifest holds it, and JSON has no NaN
@pytest.mark.parametrize(
    ("name", "field"), [("tagclip", "logit_scale"), *((name, "target_scale") for name in ("bi_modal", "gem", "legrad"))]
)
def test_a_scale_is_a_number_or_the_models(name: str, field: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=f"{field} must be a number above 0, or 'model' for the model's own, got "):
        recipe(name, **{field: value})


# one method with changes


def test_changes_go_where_they_belong() -> None:
    row = recipe("gem", blocks=4, inv_temp=20.0, order="grid", reverse=True)
    assert row == replace(RECIPES["gem"], blocks=4, inv_temp=20.0, readout=ReadOut(order="grid", reverse=True))
    assert RECIPES["gem"].blocks == 6 and RECIPES["gem"].readout.order == "picture", "the table itself was changed"


@pytest.mark.parametrize("field", ["score", "order", "logit_scale", "reverse"])
def test_fields_of_the_read_out_can_be_changed(field: str) -> None:
    value = {"score": "feature-surgery", "order": "none", "logit_scale": 7.0, "reverse": True}[field]
    changed = recipe("gem", **{field: value})
    assert getattr(changed.readout, field) == value
    assert replace(changed, readout=RECIPES["gem"].readout) == RECIPES["gem"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gme", "unknown method 'gme': did you mean 'gem'?"),
        ("GEM", "unknown method 'GEM': did you mean 'gem'?"),
        ("clipsurgery", "unknown method 'clipsurgery': did you mean 'clip_surgery'"),
        ("", "unknown method ''"),
    ],
)
def test_unknown_method(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)) as caught:
        recipe(name)
    assert str(caught.value).endswith("known methods: " + ", ".join(sorted(RECIPES)))


def test_unknown_field() -> None:
    with pytest.raises(RecipeError, match=re.escape("unknown recipe field 'iteration': did you mean 'iterations'")) as caught:
        recipe("gem", iteration=2)
    assert "inv_temp" in str(caught.value) and "logit_scale" in str(caught.value)


@pytest.mark.parametrize("field", ["summary", "source", "readout"])
def test_fields_that_describe_a_row_are_not_parameters(field: str) -> None:
    with pytest.raises(RecipeError, match=f"unknown recipe field {field!r}"):
        recipe("gem", **{field: "other"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terms": ("vv", "kq")}, "unknown attention term 'kq'"),
        ({"terms": "vv"}, "unknown attention term 'v'"),
        ({"position": "cubic"}, "unknown position mode 'cubic'"),
        ({"combine": "max"}, "unknown combine 'max'"),
        ({"cross_terms": "kk"}, "unknown cross term 'kk': known cross terms: qk, own"),
        ({"score": "cos"}, "unknown score 'cos'"),
        ({"order": "pictures"}, "unknown order 'pictures': did you mean 'picture'? known orders: grid, picture, softmax"),
    ],
)
def test_unknown_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        recipe("gem", **changes)


# contradictions


CONTRADICTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("gem", {"blocks": -1}, "blocks must be a whole number, 0 or more, got -1"),
    ("gem", {"terms": ()}, "changed blocks need at least one attention term"),
    ("itsm", {"path_blocks": (8, 3, 3, 9)}, "path_blocks are for the paths 'sc-clip' and 'sfp'"),
    ("sc_clip", {"blocks": 1, "terms": ("kk",)}, "path 'sc-clip' stands in the local path's place, so no field of one can be changed"),
    ("sfp", {"residual": True}, "path 'sfp' stands in the local path's place"),
    ("legrad", {"path": "sfp"}, "path 'sfp' gives patch features, and what is read is 'legrad'"),
    ("sfp", {"path_blocks": (8, 3, 3)}, "path_blocks must be four blocks counted from 0, the third not behind the fourth, got (8, 3, 3)"),
    ("sfp", {"path_blocks": (8, 3, 9, 3)},
     "path_blocks must be four blocks counted from 0, the third not behind the fourth, got (8, 3, 9, 3)"),
    ("sc_clip", {"path_blocks": (8, 3, -1, 3)},
     "path_blocks must be four blocks counted from 0, the third not behind the fourth, got (8, 3, -1, 3)"),
    ("itsm", {"blocks": 2}, "changed blocks need at least one attention term"),
    ("gem", {"iterations": -1}, "iterations must be a whole number, 0 or more, got -1"),
    ("gem", {"unit": False}, "iterations need unit projections and self-self terms"),
    ("gem", {"terms": ("vv", "qk")}, "iterations need unit projections and self-self terms"),
    ("gem", {"terms": ("vv", "identity")}, "iterations need unit projections and self-self terms"),
    ("sclip", {"iterations": 1}, "iterations need unit projections and self-self terms"),
    ("sclip", {"blocks": 2}, "mlp is kept in one-block recipes only, and blocks is 2"),
    ("gem", {"mlp": True}, "mlp is kept in one-block recipes only, and blocks is 6"),
    ("gem", {"inv_temp": 0.0}, "inv_temp must be None, 'adaptive', 'matched', a number above 0 or a table, got 0.0"),
    ("gem", {"inv_temp": -3}, "inv_temp must be None, 'adaptive', 'matched', a number above 0 or a table, got -3"),
    ("gem", {"inv_temp": float("nan")}, "inv_temp must be None, 'adaptive', 'matched', a number above 0 or a table, got nan"),
    ("gem", {"inv_temp": "auto"}, "inv_temp must be None, 'adaptive', 'matched', a number above 0 or a table, got 'auto'"),
    ("naclip", {"bias_std": 0.0}, "bias_std must be a deviation in patches, above 0, got 0.0"),
    ("naclip", {"bias_std": -1.0}, "bias_std must be a deviation in patches, above 0, got -1.0"),
    ("naclip", {"bias_std": float("nan")}, "bias_std must be a deviation in patches, above 0, got nan"),
    ("gem", {"bias_std": 5.0}, "a neighbour bias needs plain attention terms"),
    ("maskclip", {"bias_std": 5.0}, "a neighbour bias needs plain attention terms"),
    ("resclip", {"cross": (0.75, 0.25)}, "cross must be two shares of the depth, 0 … 1, the smaller first, got (0.75, 0.25)"),
    ("resclip", {"cross": 0.5}, "cross must be two shares of the depth, 0 … 1, the smaller first, got 0.5"),
    ("resclip", {"cross": None}, "cross_weight, gain and cross_terms are for cross attention; give cross or cross_blocks too"),
    ("sclip", {"cross_terms": "own"}, "cross_weight, gain and cross_terms are for cross attention; give cross or cross_blocks too"),
    ("resclip", {"cross_blocks": (5,)}, "cross and cross_blocks are two ways to name the same blocks; give one of them"),
    *(("itaclip", {"cross_blocks": value},
       f"cross_blocks must be numbers of blocks, counted from 0, or fractions of the depth below 1, got {value!r}")
      for value in (5, (-1,), (6, 1.5), (1.0,), (True,), ("6",), ((6,),), (float("nan"),), None)),
    ("itaclip", {"cross_blocks": ()}, "cross_weight, gain and cross_terms are for cross attention; give cross or cross_blocks too"),
    ("itaclip", {"inv_temp": "adaptive"}, "terms of other blocks have one temperature: inv_temp None or a number above 0"),
    ("itaclip", {"inv_temp": ((((2.0,),),),)}, "terms of other blocks have one temperature: inv_temp None or a number above 0"),
    ("itaclip", {"blocks": 2}, "cross attention joins that of the last block: blocks=1, and a term"),
    *(("pearl", {"procrustes_weight": value}, f"procrustes_weight must be a number, 0 or more, got {value!r}")
      for value in (-0.1, float("nan"), float("inf"), "0.08", None)),
    ("sclip", {"procrustes_weight": 0.1}, "procrustes_weight is for the term 'procrustes'"),
    ("pearl", {"unit": True}, "the term 'procrustes' aligns projections as they are: unit must be False"),
    ("pearl", {"iterations": 1}, "iterations need unit projections and self-self terms"),
    ("anchor_qk", {"terms": ("procrustes",)}, "an anchor's attention is one term: qk, qq, kk or vv"),
    ("resclip", {"cross_weight": 1.5}, "cross_weight must be a share in 0 … 1, got 1.5"),
    ("resclip", {"gain": 0.0}, "gain must be a number above 0, got 0.0"),
    ("gem", {"cross": (0.2, 0.5)}, "cross attention joins that of the last block: blocks=1, and a term"),
    ("tagclip", {"cross": (0.2, 0.5)}, "cross attention joins that of the last block: blocks=1, and a term"),
]


@pytest.mark.parametrize(("name", "changes", "message"), CONTRADICTIONS)
def test_contradiction(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"recipe {name!r}: {message}")):
        recipe(name, **changes)


def test_a_row_of_ones_own_is_checked_too() -> None:
    with pytest.raises(RecipeError, match="recipe 'mine': changed blocks need at least one attention term"):
        Recipe("mine", "my own", "nowhere", blocks=1)


SOUND: list[tuple[str, dict[str, Any]]] = [
    ("gem", {"blocks": 0, "terms": (), "iterations": 0}), ("gem", {"blocks": 1}), ("gem", {"iterations": 0, "unit": False}),
    ("gem", {"inv_temp": None}), ("gem", {"inv_temp": 1}), ("gem", {"inv_temp": ((((1.0,),),),)}), ("gem", {"terms": ("vv",)}),
    ("clearclip", {"blocks": 3}), ("naclip", {"terms": ("qk", "kk")}), ("sclip", {"combine": "mean", "mlp": False, "blocks": 2}),
    ("pearl", {"procrustes_weight": 0}), ("pearl", {"terms": ("procrustes", "kk", "identity"), "blocks": 3}),
    ("pearl", {"inv_temp": "adaptive"}),
    ("itaclip", {"cross_blocks": (6, 7, 9)}), ("itaclip", {"cross_blocks": (0, 0.0, 0.99)}), ("itaclip", {"inv_temp": 0.2}),
    ("itaclip", {"cross": (5 / 12, 9 / 12), "cross_blocks": ()}), ("resclip", {"cross_terms": "own"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes"), SOUND)
def test_what_does_not_contradict_itself_is_taken(name: str, changes: dict[str, Any]) -> None:
    row = recipe(name, **changes)
    assert all(getattr(row, field) == value for field, value in changes.items())


# at the edge: each either runs or is refused in our own words, never with an error of torch's

TABLE = ((((2.0,),),),)
OPEN: dict[str, dict[str, Any]] = {
    "identity only, twice": {"terms": ("identity", "identity")},
    "terms as a list": {"terms": ["identity"]},
    "table with identity": {"terms": ("qq", "identity"), "inv_temp": TABLE},
    "ragged table": {"inv_temp": ((((2.0,), (3.0, 4.0)),),)},
    "table of zeros": {"inv_temp": ((((0.0,),),),)},
    "infinite": {"inv_temp": float("inf")},
    "not a number of blocks": {"blocks": "1"},
    "half an iteration": {"iterations": 1.5, "unit": True},
}


@pytest.mark.parametrize("case", OPEN)
def test_runs_or_is_refused(case: str) -> None:
    try:
        row = recipe("itsm", **{"blocks": 1, "terms": ("qq",), **OPEN[case]})
        patches = forward(towers.tower(), towers.pixels(2, (3, 5)), row).patches
    except RecipeError:
        return
    assert patches.isfinite().all() and case != "table of zeros"
