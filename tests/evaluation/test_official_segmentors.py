"""Whole evaluations of a picture, from bytes to labels: ten papers' own segmentors against our judge and the literal statement.

The files are written by benchmarks/official_goldens/from_checkouts/evaluations.py and evaluations_cliper.py, which list the cases and say
what surprises in that code. Towers are in float64 on both sides; inputs of the judge are float32, as on any run.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import golden_evaluations as goldens
import literal_propagation
from fastloc.evaluation.metrics.confusion import LabelSums
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.samples import IGNORE, Sample
from fastloc.evaluation.segmentation.grids import stacked_grids
from fastloc.evaluation.segmentation.judge import SegmentationJudge
from fastloc.evaluation.segmentation.pictures import Input
from fastloc.reference import evaluation

METHODS = ("sclip", "naclip", "clearclip", "resclip", "sc_clip", "sfp", "pearl", "itaclip", "proxyclip", "cliper")
CASES = [(goldens.case(name)["method"], name) for name in goldens.NAMES]
FAMILY = [(method, name) for method, name in CASES if method != "cliper"]
CLIPER = [name for method, name in CASES if method == "cliper"]
LIMIT = 1e-5
# fields of a protocol, and what turns them off
OFF = {"probability": 0.0, "area": None, "refinement": "", "closing": 0, "views": "", "cut": "", "normalized": False}
# (field, golden) of what is set, but for labels that a closing leaves as they are
SET = [
    (field, name) for field, value in OFF.items() for _, name in CASES
    if getattr(goldens.protocol(name), field) != value and (field, name) != ("closing", "evaluation_itaclip_odd")
]  # fmt: skip
# what mmseg's preprocessor takes off and divides by
MEAN, STD = np.array([122.771, 116.746, 104.094]), np.array([68.501, 66.632, 70.323])


def judge(name: str, protocol: Protocol | None = None) -> SegmentationJudge:
    return SegmentationJudge(goldens.Subject(name), protocol or goldens.protocol(name), goldens.dataset(name), goldens.names(name))


def inputs(name: str, made: SegmentationJudge) -> list[Input]:
    picture = goldens.picture(name)
    return made.prepare(Sample("golden", picture, np.zeros((picture.height, picture.width), np.int16)))[1]


def labels(name: str, protocol: Protocol | None = None) -> list[Tensor]:
    """Labels of the picture, or of its two squares, the left one first; -1 is no class."""
    made = judge(name, protocol)
    return made.labels(inputs(name, made))


def expected_labels(name: str) -> list[Tensor]:
    """Labels of the authors' code, which has CLIPer's classes behind the background's number."""
    found = goldens.array(name, "labels").astype(np.int64) - (not goldens.dataset(name).background)
    return [torch.from_numpy(each) for each in (found[::-1].copy() if found.ndim == 3 else found[None])]


def expected(name: str, key: str) -> Tensor:
    return torch.from_numpy(goldens.array(name, key)).double()


def logits(name: str) -> Tensor:
    """[T, H, W] in front of the scale, of the judge's blocks."""
    made = judge(name)
    (sample,) = inputs(name, made)
    pixels = sample.normalised(made.normalisation, torch.device("cpu"))
    (grids,) = stacked_grids(made.subject, made.texts, made.words, made.protocol, [sample], [pixels])
    found = made.logits(sample, pixels, grids)
    whole = torch.full((len(made.texts), *found.size), torch.nan, dtype=torch.float64)
    for block in found.blocks():
        whole[block.first : block.first + len(block.logits), block.rows, block.columns] = block.logits.double()
    return whole


@cache
def literal_logits(name: str) -> Tensor:
    """Logits by the literal statement."""
    made, protocol = judge(name), goldens.protocol(name)
    (sample,) = inputs(name, made)
    pixels = sample.normalised(made.normalisation, torch.device("cpu")).double()
    found = evaluation.logits(
        lambda window: made.subject.similarity(window, made.texts), pixels, sample.truth.shape, made.subject.patch,
        crop=protocol.crop, stride=protocol.stride, odd=protocol.odd, view_weight=protocol.view_weight if protocol.views else None,
    )  # fmt: skip
    settings = dict(protocol.refinement_settings)
    if protocol.refinement == "pamr":
        return evaluation.pamr(pixels, found, **settings)
    if protocol.refinement == "propagate":
        # bytes that the literal propagation normalises back
        shown = interpolate(pixels[None], size=found.shape[1:], mode="bilinear")[0].permute(1, 2, 0).numpy() * STD + MEAN
        affinity = literal_propagation.class_affinity(made.subject.embeddings(made.texts))
        return torch.from_numpy(literal_propagation.propagated(found.numpy(), shown, affinity, **settings))
    return found


def test_all_goldens_are_there() -> None:
    assert len(CASES) == 17
    assert {method for method, _ in CASES} == set(METHODS)


@pytest.mark.slow("every paper's own evaluation", quick="method")
@pytest.mark.parametrize(("method", "name"), CASES)
def test_labels(method: str, name: str) -> None:
    for mine, theirs in zip(labels(name), expected_labels(name), strict=True):
        assert mine.shape == theirs.shape
        off = int((mine != theirs).sum())
        assert not off, f"{off} of {theirs.numel()} pixels"


@pytest.mark.slow("every paper's own evaluation", quick=1)
@pytest.mark.parametrize(("method", "name"), FAMILY)
def test_logits(method: str, name: str) -> None:
    step = goldens.case(name)["step"]
    assert (logits(name)[:, ::step, ::step] - expected(name, "logits")).abs().max() < LIMIT


@pytest.mark.slow("one window after another, maps of every pixel", quick=1)
@pytest.mark.parametrize(("method", "name"), FAMILY)
def test_literal_statement(method: str, name: str) -> None:
    made, protocol, step = judge(name), goldens.protocol(name), goldens.case(name)["step"]
    found = literal_logits(name)
    assert (found[:, ::step, ::step] - expected(name, "logits")).abs().max() < LIMIT
    chosen = evaluation.labels(found, made.owner, made.scale, protocol.area, protocol.probability)
    chosen = evaluation.closed(chosen, protocol.closing) if protocol.closing else chosen
    assert (chosen == expected_labels(name)[0]).all()


@pytest.mark.slow("the logits of the literal statement")
@pytest.mark.parametrize(("method", "name"), FAMILY)
def test_probabilities(method: str, name: str) -> None:
    """A class has its best name's share, and 0 if it is too small; some papers divide by the sum, behind the threshold."""
    step, owner = goldens.case(name)["step"], judge(name).owner
    shares = (literal_logits(name)[:, ::step, ::step] * judge(name).scale).softmax(0)
    found = torch.stack([shares[owner == number].amax(0) for number in range(int(owner.max()) + 1)])
    if method in ("naclip", "resclip", "pearl"):
        found = found / found.sum(0)
    theirs = expected(name, "probabilities")
    dropped = theirs.flatten(1).amax(1) == 0
    assert bool(dropped.any()) <= (goldens.protocol(name).area is not None)
    # exponents are a scale of 40 to 60 times as far off
    assert (found[~dropped] - theirs[~dropped]).abs().max() < 60 * LIMIT


@pytest.mark.slow("every paper's own evaluation")
@pytest.mark.parametrize(("field", "name"), SET)
def test_every_setting_shows(field: str, name: str) -> None:
    """A golden shows that each setting is read: without it, its labels are others."""
    found, theirs = labels(name, replace(goldens.protocol(name), **{field: OFF[field]})), expected_labels(name)
    assert len(found) != len(theirs) or any((mine != other).any() for mine, other in zip(found, theirs, strict=True))


@pytest.mark.slow("every paper's own evaluation", quick=1)
@pytest.mark.parametrize("name", CLIPER)
def test_literal_rule(name: str) -> None:
    made, protocol = judge(name), goldens.protocol(name)
    for sample, theirs in zip(inputs(name, made), expected_labels(name), strict=True):
        pixels = sample.normalised(made.normalisation, torch.device("cpu"))
        grids = made.subject.similarity(pixels[None], made.texts, made.words)[0]
        chosen = evaluation.cliper_labels(grids, sample.truth.shape, protocol.thresholds, protocol.normalized)
        assert (chosen - made.ahead == theirs).all()


@pytest.mark.slow("every paper's own evaluation", quick=1)
@pytest.mark.parametrize("name", CLIPER)
def test_metric_of_cliper(name: str) -> None:
    """From the picture to the mean over classes of the truth, which its authors' histogram makes with 1e-5 in the denominator."""
    made, numbers = judge(name), goldens.array(name, "truth").astype(np.int16)
    numbers = np.concatenate(list(numbers[::-1]), 1) if numbers.ndim == 3 else numbers
    truth = np.where(numbers == 255, IGNORE, numbers - made.ahead).astype(np.int16)
    (row,) = made.judge([made.prepare(Sample("golden", goldens.picture(name), truth))])
    sums = LabelSums(len(goldens.dataset(name).classes))
    vector = sums.of(row)
    theirs = goldens.array(name, "iou")[made.ahead :]
    assert sums.figures(vector)["miou_true"] == pytest.approx(float(goldens.array(name, "miou")), abs=1e-7)
    assert np.nan_to_num(sums.of_classes(vector)["iou"]) == pytest.approx(theirs, abs=1e-7)
