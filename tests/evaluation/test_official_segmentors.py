"""Whole evaluations of a picture, from bytes to labels: ten papers' own segmentors against our judge and the literal statement.

The files are written by benchmarks/official_goldens/from_checkouts/evaluations.py and evaluations_cliper.py, which list the cases and say
what surprises in that code. Towers are in float64 on both sides; inputs and logits of the judge are float32, as on any run.
"""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

import golden_evaluations as goldens
from fastloc.evaluation.samples import Sample
from fastloc.evaluation.segmentation.grids import stacked_grids
from fastloc.evaluation.segmentation.judge import SegmentationJudge

METHODS = ("sclip", "naclip", "clearclip", "resclip", "sc_clip", "sfp", "pearl", "itaclip", "proxyclip", "cliper")
LIMIT = 1e-5


@cache
def judge(name: str) -> SegmentationJudge:
    return SegmentationJudge(goldens.Subject(name), goldens.protocol(name), goldens.dataset(name), goldens.names(name))


def sample(name: str) -> Sample:
    picture = goldens.picture(name)
    return Sample("golden", picture, np.zeros((picture.height, picture.width), np.int16))


@cache
def labels(name: str) -> list[Tensor]:
    """Of the picture, or of its two squares, the left one first."""
    return judge(name).labels(judge(name).prepare(sample(name))[1])


def wanted_labels(name: str) -> list[Tensor]:
    """The same of the authors' code: numbers of CLIPer's classes begin with the background's."""
    found = goldens.array(name, "labels").astype(np.int64) - (0 if goldens.dataset(name).background else 1)
    return [torch.from_numpy(each) for each in (reversed(found) if found.ndim == 3 else [found])]


def logits(name: str) -> Tensor:
    """[T, H, W] in front of the scale, of the judge's blocks."""
    made = judge(name)
    given = made.prepare(sample(name))[1]
    pixels = [each.normalised(made.normalisation, torch.device("cpu")) for each in given]
    grids = stacked_grids(made.subject, made.texts, made.words, made.protocol, given, pixels)
    found = made.logits(given[0], pixels[0], grids[0])
    whole = torch.full((len(made.texts), *found.size), torch.nan, dtype=torch.float64)
    for block in found.blocks():
        whole[block.first : block.first + len(block.logits), block.rows, block.columns] = block.logits.double()
    return whole


def test_all_goldens_are_there() -> None:
    assert len(goldens.NAMES) == 17
    assert {goldens.case(name)["method"] for name in goldens.NAMES} == set(METHODS)


@pytest.mark.parametrize("name", goldens.NAMES)
def test_labels(name: str) -> None:
    for mine, theirs in zip(labels(name), wanted_labels(name), strict=True):
        assert mine.shape == theirs.shape
        off = int((mine != theirs).sum())
        assert off == 0, f"{off} of {theirs.numel()} pixels"


@pytest.mark.parametrize("name", [name for name in goldens.NAMES if goldens.case(name)["method"] != "cliper"])
def test_logits(name: str) -> None:
    step, theirs = goldens.case(name)["step"], torch.from_numpy(goldens.array(name, "logits")).double()
    assert (logits(name)[:, ::step, ::step] - theirs).abs().max() < LIMIT


def literal_labels(name: str, given: Input) -> Tensor:
    """The same of one input by the literal statement, in float64; its parts that it leaves to others are theirs."""
    subject, protocol, names = goldens.Subject(name), goldens.protocol(name), goldens.names(name)
    pixels = given.normalised(judge(name).normalisation, subject.device).double()
    size = given.truth.shape
    if protocol.rule == "cliper":
        maps = subject.similarity(pixels[None], [each for each, in names[1:]], names[0])[0]
        return evaluation.cliper_labels(maps, size, protocol.thresholds, protocol.normalized) - (0 if goldens.dataset(name).background else 1)
    texts = [each for of_class in names for each in of_class]
    owner = torch.tensor([number for number, each in enumerate(names) for _ in each])
    found = evaluation.logits(lambda window: subject.similarity(window, texts), pixels, size, subject.patch, protocol)
    return evaluation.labels(found, owner, protocol.logit_scale, protocol)
