"""Fields of a protocol that are changed by name, changes that cannot be, and a protocol in a few words."""

from __future__ import annotations

from dataclasses import fields

import pytest

from fastloc.errors import FastlocError
from fastloc.evaluation.protocols.changes import CHANGEABLE, changed, with_changes
from fastloc.evaluation.protocols.describe import COLUMNS, described
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.protocols.table import PROTOCOLS

DILATIONS = (("iterations", 10), ("dilations", (4, 8)))
CHANGES: list[tuple[dict[str, str], str, object]] = [
    ({"crop": "0"}, "crop", 0),
    ({"area": "none"}, "area", None),
    ({"area": "0.2"}, "area", 0.2),
    ({"logit_scale": "none"}, "logit_scale", None),
    ({"template": "a {}"}, "template", "a {}"),
    ({"template": "none"}, "template", ""),
    ({"threshold": "mean"}, "threshold", "mean"),
    ({"threshold": ".25"}, "threshold", 0.25),
    ({"rule": "cliper", "thresholds": ".7, .6,.1"}, "thresholds", (0.7, 0.6, 0.1)),
    ({"normalized": "True"}, "normalized", True),
    ({"refinement": "none"}, "refinement_settings", ()),
    ({"refinement": "propagate"}, "refinement_settings", ()),
    ({"refinement": "propagate", "refinement.grid": "40"}, "refinement_settings", (("grid", 40),)),
    ({"refinement.dilations": "4,8"}, "refinement_settings", DILATIONS),
]
MISTAKES: list[tuple[dict[str, str], str]] = [
    ({"crop": "x"}, "crop must be a whole number, got 'x'"),
    ({"crop": "-1"}, "crop must be a whole number from 0 to 16384, got -1"),
    ({"crop": "64"}, "stride must be at most the crop 64, got 112"),
    ({"probability": "2"}, "probability must be a number from 0 to 1, got 2"),
    ({"logit_scale": "nan"}, "logit_scale must be a number"),
    ({"crops": "1"}, "unknown protocol field 'crops': did you mean 'crop'"),
    ({"paper": "x"}, "unknown protocol field 'paper'"),
    ({"names": "x"}, "unknown name list 'x'"),
    ({"names": "tagclip"}, "names 'tagclip' must be of a paper"),
    ({"template": "x"}, "unknown template 'x'"),
    ({"rule": "cliper"}, "thresholds must be three numbers"),
    ({"normalized": "2"}, "unknown normalized '2'"),
    ({"resize": "x"}, "unknown resize 'x'"),
    ({"threshold": "x"}, "threshold must be a number"),
    ({"threshold": "inf"}, "threshold must be a number"),
    ({"refinement": "none", "refinement.grid": "4"}, "refinement must be pamr or propagate where refinement.grid is given, got none"),
    ({"refinement.x": "4"}, "unknown pamr setting 'x'"),
    ({"refinement.iterations": "x"}, "refinement.iterations must be a whole number"),
]


@pytest.mark.parametrize(("changes", "field", "value"), CHANGES)
def test_a_field_that_is_changed(changes: dict[str, str], field: str, value: object) -> None:
    row = PROTOCOLS["naclip", "context59"]
    made = with_changes(row, changes)
    assert getattr(made, field) == value
    allowed = {name for name in changes if "." not in name} | {"refinement_settings"}
    assert set(changed(row, made)) <= allowed


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_a_change_that_cannot_be(changes: dict[str, str], message: str) -> None:
    with pytest.raises(FastlocError, match="^" + message) as raised:
        with_changes(PROTOCOLS["naclip", "context59"], changes)
    assert "\n" not in str(raised.value)


def test_every_field_is_changeable_or_says_which_row_it_is() -> None:
    rest = {each.name for each in fields(Protocol)} - set(CHANGEABLE)
    assert rest == {"paper", "data", "source", "task", "note", "refinement_settings", "method_settings"}


def test_a_protocol_in_a_few_words() -> None:
    def words(paper: str, data: str) -> dict[str, str]:
        return {name: cell for name, cell in zip(COLUMNS, described(PROTOCOLS[paper, data]), strict=True) if cell}

    assert words("sclip", "voc21") == {"size": "336", "windows": "224 / 112", "names": "sclip", "template": "openai80", "scale": "65",
                                       "thresholds": "0.1, area 0.1"}  # fmt: skip
    assert words("cliper", "cityscapes") == {
        "size": "560, whole patches", "windows": "two squares", "names": "cliper", "template": "openai80", "scale": "100",
        "thresholds": "score 0, background 0.0001, attention 0.35", "more": "mean over true classes",
    }  # fmt: skip
    assert words("pearl", "cityscapes")["refinement"] == "propagate, grid 224" and words("pearl", "voc21")["refinement"] == "propagate"
    assert words("itaclip", "voc21")["more"] == "views, flipped ones 0.3, closing 3"
    assert words("maskclip", "context59")["size"] == "520, long side at most 520"
    assert words("chefer", "imagenet-segmentation") == {
        "size": "224 x 224", "windows": "whole", "names": "the set's", "template": "the method's", "thresholds": "the map's mean",
        "more": "truth at 224 x 224, present classes asked",
    }  # fmt: skip
    assert all(len(described(row)) == len(COLUMNS) for row in PROTOCOLS.values())
