"""Labels of pictures under protocols: the judge against the literal statement of one window after another and maps of all pixels."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation_subjects import Classes, Patches, sample
from fastloc.errors import FastlocError
from fastloc.evaluation import judges
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.samples import Sample
from fastloc.evaluation.segmentation import stacked
from fastloc.evaluation.segmentation.grids import stacked_grids
from fastloc.evaluation.segmentation.judge import SegmentationJudge
from fastloc.evaluation.segmentation.pictures import Input
from fastloc.evaluation.segmentation.views import joined, views
from fastloc.evaluation.segmentation.windows import axis
from fastloc.reference import evaluation

NAMES = (("sky", "sea"), ("dog",), ("cat", "kitten"), ("car",), ("tree",))
CLASSES = Classes(tuple(each[0] for each in NAMES))
BASE = Protocol(paper="p", data="d", source="", short_side=80, crop=48, stride=24, logit_scale=20.0)
SIZES = ((75, 110), (100, 70), (61, 90), (75, 110))
PAMR = {"refinement": "pamr", "refinement_settings": (("iterations", 2), ("dilations", (2, 5)))}
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
CASES = {
    "plain": {},
    "threshold": {"probability": 0.2},
    "area": {"area": 0.15},
    "area and threshold": {"area": 0.25, "probability": 0.2},
    "cut sides": {"crop": 43, "stride": 20},
    "padded sides": {"crop": 43, "stride": 20, "odd": "pad"},
    "whole": {"crop": 0},
    "long side": {"long_side": 90},
    "refined": PAMR,
    "refined area": {**PAMR, "area": 0.2, "probability": 0.15},
    "own scale": {"logit_scale": None, "probability": 0.9},
}  # fmt: skip


def judge(subject: Patches | None = None, **fields: object) -> SegmentationJudge:
    return SegmentationJudge(subject or Patches(), replace(BASE, **fields), CLASSES, NAMES)


def made_sample(made: SegmentationJudge, size: tuple[int, int], seed: int = 0) -> Input:
    return made.prepare(sample(size, len(NAMES), seed))[1][0]


def literal(made: SegmentationJudge, one: Input) -> Tensor:
    """Logits [T, H, W] in front of the scale."""
    protocol, subject = made.protocol, made.subject
    pixels = one.normalised(made.normalisation, subject.device)
    found = evaluation.logits(
        lambda window: subject.similarity(window, made.texts), pixels, one.truth.shape, subject.patch, crop=protocol.crop,
        stride=protocol.stride, odd=protocol.odd,
    )  # fmt: skip
    return evaluation.pamr(pixels, found, **dict(protocol.refinement_settings)) if protocol.refinement else found


@pytest.mark.parametrize("case", CASES)
def test_labels_are_those_of_the_literal_statement(case: str) -> None:
    made = judge(**CASES[case])
    inputs = [made_sample(made, size, seed) for seed, size in enumerate(SIZES[:2])]
    for one, labels in zip(inputs, made.labels(inputs), strict=True):
        expected = evaluation.labels(literal(made, one), made.owner, made.scale, made.protocol.area, made.protocol.probability)
        assert torch.equal(labels, expected)
        assert len(expected.unique()) > 1


@pytest.mark.parametrize("budget", [1 << 9, 1 << 12])
@pytest.mark.parametrize("case", ["plain", "padded sides", "refined"])
def test_logits_are_those_of_the_literal_statement_in_blocks_of_any_size(case: str, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "_TILE", {"cpu": budget, "cuda": budget})
    monkeypatch.setattr(stacked, "_CHUNK", 2 * 75 * 110)
    made = judge(**CASES[case])
    one = made_sample(made, SIZES[0])
    pixels = one.normalised(made.normalisation, made.subject.device)
    windows = literal(made, one)
    found, seen = torch.full_like(windows, torch.nan), 0
    (grids,) = stacked_grids(made.subject, made.texts, (), made.protocol, [one], [pixels])
    for block in made.logits(one, pixels, grids).blocks():
        found[block.first : block.first + len(block.logits), block.rows, block.columns] = block.logits
        seen += 1
    assert seen > 1
    assert (found - windows).abs().max() < 1e-12


def test_pictures_of_a_chunk_share_batches_and_have_the_rows_they_have_alone() -> None:
    made = judge(probability=0.1, area=0.1)
    samples = [sample(size, len(NAMES), seed) for seed, size in enumerate(SIZES)]
    rows = made.judge([made.prepare(each) for each in samples])
    # all windows have one shape: those of four pictures fit into one batch
    assert made.subject.batches == [sum(len(_windows(made, each)) for each in samples)]
    assert rows == [made.judge([made.prepare(each)])[0] for each in samples]
    for row, each in zip(rows, samples, strict=True):
        assert row.key == each.key
        assert sum(count for _, _, count in row.counts) == (each.labels >= 0).sum()
        for label in range(len(NAMES)):
            assert sum(count for true, _, count in row.counts if true == label) == (each.labels == label).sum()


def test_the_views_of_windows_share_their_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for the five views of all windows, which have the grids that they have one view after the other."""
    made = judge(views="itaclip", view_weight=0.7)
    given = [made_sample(made, size, seed) for seed, size in enumerate(SIZES[:2])]
    pixels = [one.normalised(made.normalisation, made.subject.device) for one in given]
    count = sum(len(one.vertical.starts) * len(one.horizontal.starts) for one in given)
    found = stacked_grids(made.subject, made.texts, (), made.protocol, given, pixels)
    assert made.subject.batches == [5 * count]
    for one, picture, grids in zip(given, pixels, found, strict=True):
        side, next_ = one.vertical.side, one.horizontal.side
        rows = []
        for top in one.vertical.starts:
            windows = [picture[None, :, top : top + side, left : left + next_] for left in one.horizontal.starts]
            each = [joined([made.subject.similarity(view, made.texts) for view in views(window)], 0.7)[0] for window in windows]
            rows.append(torch.cat(each, 2))
        assert (grids - torch.cat(rows, 1)).abs().max() < 1e-6
    # a batch has no more inputs than without views
    monkeypatch.setitem(judges._TOGETHER, "cpu", 10 * 48 * 48)
    made.subject.batches.clear()
    few = stacked_grids(made.subject, made.texts, (), made.protocol, given, pixels)
    assert made.subject.batches == [10] * (count // 2) + [5] * (count % 2)
    assert all((one - other).abs().max() < 1e-6 for one, other in zip(found, few, strict=True))


def test_views_are_those_of_the_literal_statement() -> None:
    made = judge(views="itaclip", view_weight=0.7)
    one = made_sample(made, SIZES[1])
    pixels = one.normalised(made.normalisation, made.subject.device)
    (grids,) = stacked_grids(made.subject, made.texts, (), made.protocol, [one], [pixels])
    (block,) = made.logits(one, pixels, grids).blocks()
    expected = evaluation.logits(
        lambda window: made.subject.similarity(window, made.texts), pixels, one.truth.shape, made.subject.patch, crop=48, stride=24,
        view_weight=0.7,
    )  # fmt: skip
    assert block.logits.shape == expected.shape and (block.logits - expected).abs().max() < 1e-6


def _windows(made: SegmentationJudge, each: Sample) -> list[tuple[int, int]]:
    (one,) = made.prepare(each)[1]
    return [(top, left) for top in one.vertical.starts for left in one.horizontal.starts]


def test_counts_are_of_pixels_with_these_labels() -> None:
    made = judge()
    each = sample(SIZES[0], len(NAMES))
    prepared = made.prepare(each)
    labels = made.labels(prepared[1])[0].numpy()
    (row,) = made.judge([prepared])
    for true, chosen, count in row.counts:
        assert ((each.labels == true) & (labels == chosen)).sum() == count > 0


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize(
    ("thresholds", "normalized"), [((0.3, 0.2, 0.1), False), ((0.2, 0.6, 0.1), True), ((0.25, 0.0, 0.1), False), ((0.99, 0.5, 0.1), False)]
)
def test_clipers_rule(shares: bool, thresholds: tuple[float, ...], normalized: bool) -> None:
    fields = {"rule": "cliper", "thresholds": thresholds, "normalized": normalized, "resize": "whole-patches", "crop": 0}
    protocol = replace(BASE, **fields)
    names = (("wall", "floor"), ("dog",), ("cat",), ("car",))
    subject = Patches(shares=shares)
    made = SegmentationJudge(subject, protocol, Classes(tuple(each[0] for each in names)), names)
    one = made_sample(made, SIZES[1])
    labels = made.labels([one])[0]
    pixels = one.normalised(made.normalisation, subject.device)[None]
    maps = subject.similarity(pixels, made.texts)[0]
    maps = maps if shares else (20 * maps).softmax(0)[2:]
    expected = evaluation.cliper_labels(maps, one.truth.shape, thresholds, normalized)
    assert torch.equal(labels, expected)
    assert (len(expected.unique()) == 1) == (thresholds[0] > 0.9)
    # without a background among the classes, its pixels are of no class
    bare = SegmentationJudge(subject, protocol, Classes(tuple(each[0] for each in names[1:]), background=False), names)
    assert torch.equal(bare.labels([made_sample(bare, SIZES[1])])[0], expected - 1)


def test_squares_are_judged_alone() -> None:
    made = judge(resize="whole-patches", crop=0, short_side=48, cut="squares")
    each = sample((60, 120), len(NAMES))
    key, parts = made.prepare(each)
    assert [one.truth.shape for one in parts] == [(60, 60), (60, 60)]
    assert [tuple(one.pixels.shape) for one in parts] == [(48, 48, 3)] * 2
    (row,) = made.judge([(key, parts)])
    halves = [made.judge([(key, [one])])[0] for one in parts]
    both = {(true, chosen): count for true, chosen, count in row.counts}
    assert sum(both.values()) == (each.labels >= 0).sum()
    assert sum(count for half in halves for _, _, count in half.counts) == sum(both.values())


def test_the_middle_square_has_the_truth_of_its_own_pixels() -> None:
    made = judge(resize="centre", crop=0, short_side=48)
    each = sample((48, 80), len(NAMES))
    (one,) = made.prepare(each)[1]
    assert np.array_equal(one.truth, each.labels[:, 16:64])
    assert np.array_equal(one.pixels.numpy(), np.asarray(each.picture)[:, 16:64])


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox", "aspect"])
def test_the_own_fit_reads_maps_as_a_localizer_does(fit: str) -> None:
    made = judge(Patches(fit=fit), resize="fit", crop=0)
    one = made_sample(made, SIZES[0])
    geometry = made.subject.geometry(SIZES[0])
    grids = made.subject.similarity(one.pixels[None], made.texts)[0]
    rows, columns = (torch.from_numpy(each) for each in geometry.resampling(tuple(grids.shape[1:])))
    expected = torch.full(SIZES[0], -1)
    expected[geometry.covered()] = made.owner[(rows @ grids @ columns.T).argmax(0)][geometry.covered()]
    assert torch.equal(made.labels([one])[0], expected)
    assert (fit == "crop") == bool((expected < 0).any())


def test_windows_cover_an_axis_and_end_with_it() -> None:
    for length in (5, 47, 48, 49, 72, 73, 200):
        for odd in ("floor", "pad"):
            windows = axis(length, 48, 24, 8, odd)
            assert windows.starts[0] == 0
            assert windows.starts[-1] + windows.side == length
            assert max(np.diff(windows.starts), default=0) <= 24
            assert windows.seen % 8 == 0 < windows.seen
            assert np.allclose(windows.matrix(37).sum(1), 1)


def test_bytes_are_normalised_with_mmsegs_digits_where_the_models_are_openais() -> None:
    assert judge().normalisation == ((122.771, 116.746, 104.094), (68.501, 66.632, 70.323))
    assert judge(resize="square").normalisation[0] == pytest.approx([255 * each for each in Patches.mean])
    other = Patches()
    other.mean = (0.5, 0.5, 0.5)
    assert judge(other).normalisation[0] == (127.5, 127.5, 127.5)


def test_what_is_wrong_is_reported() -> None:
    made = judge()
    each = sample(SIZES[0], len(NAMES))
    narrow = replace(each, labels=each.labels[:, :100])
    with pytest.raises(FastlocError, match="labels must be 75 x 110 as the picture, got 75 x 100"):
        made.prepare(narrow)
    with pytest.raises(FastlocError, match="pamr setting"):
        judge(refinement="pamr", refinement_settings=(("steps", 3),))


PEAK = """
import sys
from evaluation_subjects import Classes, Patches, sample
from fastloc.bench.peers.protocol import peak, reset_peak
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.segmentation.judge import SegmentationJudge

names = [(f"thing {number}",) for number in range(int(sys.argv[1]))]
protocol = Protocol(paper="p", data="d", source="", short_side=64, crop=0, probability=0.001, area=0.01)
made = SegmentationJudge(Patches((16, 16)), protocol, Classes(tuple(each for each, in names)), names)
made.judge([made.prepare(sample((64, 64), 9))])
before = reset_peak()
made.judge([made.prepare(sample((900, 1200), 9))])
print((peak() - before) >> 20)
"""


@pytest.mark.slow("a picture of a million pixels in a process of its own")
def test_memory_does_not_grow_with_texts_times_pixels() -> None:
    """Maps of all pixels would take 4 GB of 1000 texts, in float32."""
    few, many = (int(subprocess.check_output([sys.executable, "-c", PEAK, str(count)], text=True, env=ENVIRONMENT)) for count in (10, 500))
    assert many < few + 100
