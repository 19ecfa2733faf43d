"""Published figures: they belong to existing rows, the nearest one to a run is found, and its differences are listed."""

from __future__ import annotations

from dataclasses import replace

from fastloc.evaluation.protocols.changes import with_changes
from fastloc.evaluation.protocols.differences import Ran, comparable_figures, differences, overview
from fastloc.evaluation.protocols.papers import SEGMENTATION_SETS
from fastloc.evaluation.protocols.published import FIGURES, Figure, figures
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.protocols.table import PROTOCOLS
from fastloc.recipes.table import RECIPES

# of papers that fastloc has no method of
ELSEWHERE = {"proxyclip", "CASS", "Trident", "CorrCLIP", "OV-Stitcher"}




def test_figures_are_of_rows_and_methods_that_exist() -> None:
    for figure in FIGURES:
        assert figure.method in RECIPES or figure.method in ELSEWHERE, figure
        assert figure.protocol == "" or (figure.protocol, figure.data) in PROTOCOLS, figure
        assert figure.data in SEGMENTATION_SETS
        assert 0 < figure.value < 100
        assert "@" in figure.source
    assert len(set(FIGURES)) == len(FIGURES)
    assert figures("voc21", "sclip") == tuple(each for each in FIGURES if (each.data, each.method) == ("voc21", "sclip"))


def test_the_nearest_figure_comes_first() -> None:
    def first(protocol: Protocol, model: str = "ViT-B-16", method: str = "naclip") -> Figure:
        return comparable_figures(Ran(method=method, model=model, pretrained="openai", protocol=protocol))[0]

    row = PROTOCOLS["naclip", "voc21"]
    assert first(row).value == 64.07
    assert first(with_changes(row, {"refinement": "none"})).value == 58.9
    assert first(with_changes(row, {"refinement": "none"}), "ViT-L-14").value == 52.2
    assert first(PROTOCOLS["clearclip", "voc20"], method="sclip").value == 78.2
    assert first(PROTOCOLS["cliper", "ade20k"], method="cliper").value == 19.8
    assert comparable_figures(Ran(method="bi_modal", model="ViT-B-16", pretrained="openai", protocol=row)) == ()


def test_what_differs_is_named() -> None:
    figure = figures("voc21", "naclip")[0]
    same = Ran(method="naclip", model="ViT-B-16", pretrained="openai", protocol=PROTOCOLS["naclip", "voc21"], official=True, pictures=1449,
               expected=1449)  # fmt: skip
    assert differences(same, figure) == ()
    assert differences(replace(same, model="ViT-B/16"), figure) == differences(replace(same, model="ViT-B-16-quickgelu"), figure) == ()
    other = Ran(method="gem", model="ViT-L-14", pretrained="laion2b_s32b_b82k", pictures=12, expected=1449, failed=1, dtype="bfloat16",
                protocol=with_changes(PROTOCOLS["naclip", "voc21"], {"refinement": "none", "area": "0.1"}))  # fmt: skip
    assert differences(other, figure) == (
        "method: gem here, naclip there",
        "model: ViT-L-14 here, ViT-B-16 there",
        "weights: laion2b_s32b_b82k here, openai there",
        "area: 0.1 here, none there",
        "refinement: none here, pamr there",
        "pictures: 12 here, 1449 in the published split",
        "failed: 1 of the pictures could not be read, and are not counted",
        "precision: bfloat16 here",
    )
    unknown = figures("voc21", "sclip")[-1]
    assert unknown.protocol == ""
    assert any(line.startswith("protocol: the source does not say") for line in differences(same, unknown))


def test_what_each_protocol_gives_its_own_method() -> None:
    found = overview()
    assert [found["sclip"][data].percent for data in SEGMENTATION_SETS] == [
        "59.63", "31.74", "33.52", "81.54", "34.46", "22.77", "32.34", "16.45",
    ]  # fmt: skip
    assert found["sc_clip"]["voc21"].percent == "64.6" and found["cliper"]["voc21"].percent == "60.7"
    assert found["naclip"]["voc21"].remarks == "" and found["resclip"]["voc21"].remarks == "with a second pass over its own segmentation"
    assert overview("ViT-L-14")["sc_clip"]["voc21"].percent == "65.0"
    assert "plain" not in found and overview("RN50") == {}
