"""Rows of protocols against the authors' own configurations, class names against their files, and which row a method is given."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from fastloc.errors import FastlocError
from fastloc.evaluation.protocols.changes import changed, with_changes
from fastloc.evaluation.protocols.names import NAMES, class_names, names_of, source
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.protocols.table import PAPERS, PROTOCOLS, protocol_of
from fastloc.evaluation.samples import Item, Sample
from fastloc.recipes.table import RECIPES
from fastloc.text.templates import sentences
from fastloc.utils import schema
from official_goldens.from_checkouts import protocols as authors
from repo import GOLDENS

GOLDEN = json.loads((GOLDENS / "protocols.json").read_text(encoding="utf-8"))
SETTINGS = [(paper, data) for paper, each in GOLDEN["settings"].items() for data in each["sets"]]
# the authors' templates by their files
TEMPLATES = {"../template/car_template.txt": "cliper15", "../template/openai_template.txt": "openai80"}
WITH_BACKGROUND = ("voc21", "context60", "coco-object")


@dataclass
class Set:
    """A data set that has names and no pictures."""

    name: str = "folder"
    classes: tuple[str, ...] = ("cat, kitten", "dog")
    background: bool = False
    task: str = "labels"

    def items(self) -> tuple[Item, ...]:
        return ()

    def read(self, item: Item) -> Sample:
        raise AssertionError(item)


def golden(paper: str, data: str) -> dict[str, Any]:
    return GOLDEN["settings"][paper]["sets"][data]


# rows against the authors' configurations


def mmseg_fields(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of Protocol that a segmentor's settings say."""
    long_side, short_side = config["scale"]
    found = {"long_side": long_side, "short_side": short_side, "crop": config["slide_crop"], "stride": config["slide_stride"],
             "logit_scale": config["logit_scale"], "probability": config["prob_thd"], "area": config.get("area_thd"), "refinement": "",
             "refinement_settings": {}, "method_settings": {}, "views": "", "closing": 0}  # fmt: skip
    if config.get("pamr_steps"):
        settings = {"iterations": config["pamr_steps"], "dilations": tuple(config["pamr_stride"])}
        found |= {"refinement": "pamr", "refinement_settings": settings}
    if config.get("use_prop") == "on":
        found |= {"refinement": "propagate", "refinement_settings": {"iterations": 25, "grid": config["grid"]}}
    if config.get("img_engineering"):
        # the closing is in the segmentor's code, for all sets
        found |= {"views": "itaclip", "view_weight": config["img_eng_coefficient"], "closing": 3}
    if "attn_rcs_weights" in config:
        found["method_settings"] = {"cross_weight": config["attn_rcs_weights"][1]}
    # the method's own weight is that of the other sets
    if config.get("alpha_kk", 0.08) != 0.08:
        found["method_settings"] = {"procrustes_weight": config["alpha_kk"]}
    return found


def cliper_fields(config: dict[str, Any]) -> dict[str, Any]:
    thresholds = tuple(config[name] for name in ("score_threshold", "bkg_thre", "attention_thr"))
    return {"short_side": config["size"], "logit_scale": config["logit_scale"], "thresholds": thresholds,
            "normalized": config["is_normalize"],
            "template": TEMPLATES[config["semantic_templates"]], "rule": "cliper", "absent": "truth", "crop": 0,
            "method_settings": {} if config["select_layer"] == -1 else {"start": config["select_layer"]}}  # fmt: skip


@pytest.mark.parametrize(("paper", "data"), SETTINGS)
def test_a_row_says_what_the_authors_configuration_says(paper: str, data: str) -> None:
    row, config = PROTOCOLS[paper, data], golden(paper, data)
    if paper.startswith("cliper"):
        expected = cliper_fields(config)
        assert (0 in config["ignore_labels"]) == (data not in WITH_BACKGROUND)
        assert row.cut == ("squares" if data == "cityscapes" else "")
    elif paper == "maskclip":
        long_side, short_side = config["scale"]
        expected = {"long_side": long_side, "short_side": short_side, "crop": 0}
        assert config["mode"] == "whole"
    else:
        expected = mmseg_fields(config)
        assert config["keep_ratio"]
        assert row.resize == "mmcv"
    found = {name: getattr(row, name) for name in expected}
    for name in ("refinement_settings", "method_settings"):
        if name in found:
            found[name] = dict(getattr(row, name))
    assert found == expected


@pytest.mark.parametrize("paper", GOLDEN["settings"])
def test_a_paper_has_the_sets_that_its_authors_configure(paper: str) -> None:
    assert set(PAPERS[paper].sets) == set(GOLDEN["settings"][paper]["sets"])
    assert PAPERS[paper].source.startswith(GOLDEN["settings"][paper]["source"] + " ")


def test_sfp_s_rows_for_a_large_model_differ_in_one_threshold() -> None:
    assert {data: changed(row, PROTOCOLS["sfp", data]) for data, row in PAPERS["sfp-large"].rows.items()} == {
        "voc21": {"probability": (0.2, 0.15)}, "coco-object": {"probability": (0.25, 0.35)},
    }  # fmt: skip


@pytest.mark.skipif("FASTLOC_CHECKOUTS" not in os.environ, reason="FASTLOC_CHECKOUTS names no folder of the authors' repositories")
def test_the_golden_is_what_the_checkouts_say() -> None:
    assert json.loads(json.dumps(authors.facts(Path(os.environ["FASTLOC_CHECKOUTS"])))) == GOLDEN


def test_every_row_is_whole() -> None:
    for (paper, data), row in PROTOCOLS.items():
        assert (row.paper, row.data) == (paper, data)
        assert row.template == "" or sentences(row.template)
        assert row.names == "plain" or class_names(row.names, data)
        assert row.source or row.note or PAPERS[paper].about
        assert with_changes(row, {}) == row
    assert all(paper.method in ("", *RECIPES) for paper in PAPERS.values())
    assert {"sclip", "naclip", "clearclip", "gem", "clip_surgery", "chefer", "point_miou", "plain"} < set(PAPERS)


def test_a_row_comes_back_from_json_as_it_was() -> None:
    for row in PROTOCOLS.values():
        assert schema.decode(json.dumps(asdict(row)), Protocol, "row") == row


@pytest.mark.parametrize("paper", ["gem", "clip_surgery", "point_miou", "explanation"])
def test_a_paper_without_evaluation_code_is_marked(paper: str) -> None:
    assert all("unreleased" in row.note for row in PAPERS[paper].rows.values())


# class names


@pytest.mark.parametrize(("paper", "data"), [(paper, data) for paper, each in GOLDEN["names"].items() for data in each])
def test_class_names_are_those_of_the_authors_files(paper: str, data: str) -> None:
    official = GOLDEN["names"][paper][data]
    key = PROTOCOLS[paper, data].names
    names = class_names(key, data)
    assert (len(names), sum(map(len, names))) == (official["classes"], official["names"])
    assert authors.digest(names) == official["digest"]


@pytest.mark.parametrize("name", GOLDEN["templates"])
def test_templates_are_those_of_the_authors_files(name: str) -> None:
    assert authors.digest(sorted(sentences(name))) == GOLDEN["templates"][name]


def test_the_word_that_is_background_and_class() -> None:
    background, *classes = class_names("sclip", "coco-object")
    assert [each for each in classes if set(each) & set(background)] == [("bed",)]


def test_every_list_has_a_source() -> None:
    assert source("plain") == ""
    assert all("@" in source(key) for key in NAMES if key != "plain")
    with pytest.raises(FastlocError, match="unknown name list 'x'"):
        source("x")
    with pytest.raises(FastlocError, match="names 'tagclip' must be of a paper with a list for the set, got 'ade20k'; tagclip has"):
        class_names("tagclip", "ade20k")


def test_names_of_a_protocol_on_a_set() -> None:
    plain = protocol_of("gem", "folder")
    assert names_of(plain, Set()) == (("cat", "kitten"), ("dog",))
    assert names_of(protocol_of("cliper", "folder", "cliper"), Set()) == (("background",), ("cat", "kitten"), ("dog",))
    assert names_of(protocol_of("cliper", "folder", "cliper"), Set(background=True)) == (("cat", "kitten"), ("dog",))
    twenty = Set("voc20", tuple(f"class {index}" for index in range(20)))
    assert len(names_of(PROTOCOLS["sclip", "voc20"], twenty)) == 20
    assert len(names_of(PROTOCOLS["cliper", "voc20"], twenty)) == 21
    with pytest.raises(FastlocError, match="must have a line for each of the 2 classes of folder, got 21; use names=plain"):
        names_of(PROTOCOLS["sclip", "voc21"], Set())


# which protocol it is


@pytest.mark.parametrize(
    ("method", "data", "task", "paper"),
    [
        ("naclip", "voc21", "labels", "naclip"), ("gem", "voc21", "labels", "gem"), ("gem", "cityscapes", "labels", "sclip"),
        ("bi_modal", "ade20k", "labels", "sclip"), ("sclip", "folder", "labels", "plain"),
        ("gem", "open-images", "questions", "point_miou"),
        ("legrad", "imagenet-segmentation", "questions", "chefer"), ("gem", "refcoco", "questions", "pointing"),
    ],
)  # fmt: skip
def test_a_method_s_own_paper_comes_first(method: str, data: str, task: str, paper: str) -> None:
    row = protocol_of(method, data, task=task)
    assert (row.paper, row.data, row.task) == (paper, data, task)


def test_a_large_model_has_its_own_settings_where_the_paper_has_such() -> None:
    assert protocol_of("cliper", "ade20k", model="ViT-L-14").paper == "cliper-large"
    assert protocol_of("cliper", "ade20k", model="ViT-L/14@336px").paper == "cliper-large"
    assert protocol_of("sfp", "ade20k", model="ViT-L-14").paper == "sfp"
    assert protocol_of("cliper", "ade20k", "cliper", model="ViT-L-14").paper == "cliper"


def test_a_paper_on_a_set_that_it_does_not_have() -> None:
    row = protocol_of("gem", "folder", "naclip")
    assert (row.crop, row.refinement, row.names, row.probability) == (224, "pamr", "plain", 0.0)
    assert row.note == "naclip has no folder: its usual fields, with the set's own names"
    asked = protocol_of("gem", "voc21", "explanation")
    assert asked.task == "questions"


def test_protocols_that_cannot_be() -> None:
    with pytest.raises(FastlocError, match="unknown protocol 'sclp': did you mean 'sclip'"):
        protocol_of("gem", "voc21", "sclp")
    with pytest.raises(FastlocError, match="protocol must be one of questions for open-images, got 'sclip'; use chefer"):
        protocol_of("gem", "open-images", "sclip", task="questions")
