"""Metrics against mmsegmentation's, torchmetrics' and CLIPer's, intervals against literal resamples, and summaries in and out."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloc.errors import FastlocError
from fastloc.evaluation.metrics.bootstrap import resampled, weights
from fastloc.evaluation.metrics.comparison import Comparison
from fastloc.evaluation.metrics.confusion import LabelSums, confusions
from fastloc.evaluation.metrics.measures import MEASURES
from fastloc.evaluation.metrics.summary import Summary, sums_of
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.rows import Answer, Row
from repo import GOLDENS

LABELS = Protocol(paper="paper", data="data", source="")
NAMES = ("wall", "sky", "sea", "tree")


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(GOLDENS / "mmseg_metrics.npz") as file:
        return {key: file[key] for key in file.files}


def counted(labels: np.ndarray, predicted: np.ndarray, key: str, none: int = 254, ignored: int = 255) -> Row:
    pairs = zip(labels.ravel().tolist(), predicted.ravel().tolist(), strict=True)
    found: dict[tuple[int, int], int] = {}
    for true, guess in pairs:
        if true != ignored:
            pair = true, -1 if guess == none else guess
            found[pair] = found.get(pair, 0) + 1
    return Row(key, tuple((*pair, pixels) for pair, pixels in found.items()))


@pytest.fixture(scope="module")
def rows(golden: dict[str, Any]) -> list[Row]:
    edges = np.cumsum(golden["sizes"].prod(1))[:-1]
    parts = zip(np.split(golden["labels"], edges), np.split(golden["predicted"], edges), strict=True)
    return [counted(*part, f"picture {number}") for number, part in enumerate(parts)]


def random_rows(pictures: int, classes: int = 4, seed: int = 0, pairs: int = 6) -> Iterator[Row]:
    random = np.random.default_rng(seed)
    for number in range(pictures):
        true, predicted, pixels = random.integers(0, classes, pairs), random.integers(-1, classes, pairs), random.integers(1, 999, pairs)
        right = np.where(random.random(pairs) < 0.6, true, predicted)
        yield Row(f"{number:06d}", tuple(zip(true.tolist(), right.tolist(), pixels.tolist(), strict=True)))


def test_figures_are_those_of_mmsegmentation_and_torchmetrics(golden: dict[str, Any], rows: list[Row]) -> None:
    classes = json.loads(str(golden["meta"]))["classes"]
    sums = LabelSums(classes)
    total = sum(sums.of(row) for row in rows)
    assert isinstance(total, np.ndarray)
    both, union, predicted, true = golden["mmseg_areas"]
    assert np.array_equal(total[: 3 * classes], [*both, *predicted, *true])
    by_class, figures = sums.of_classes(total), sums.figures(total)
    # never seen, predicted only, true only
    assert union[6] == 0 and true[7] == 0 < predicted[7] and predicted[8] == 0 < true[8]
    # to the last digit of the float32 that both count in
    assert np.array_equal(by_class["iou"].astype(np.float32), golden["mmseg_iou"], equal_nan=True)
    assert np.array_equal(by_class["accuracy"].astype(np.float32), golden["mmseg_acc"], equal_nan=True)
    names = ("miou", "class_accuracy", "pixel_accuracy")
    # it takes means in float32 too
    assert (np.abs(np.float32([figures[name] for name in names]) - golden["mmseg_means"]) <= np.spacing(golden["mmseg_means"])).all()
    summary = Summary.of(lambda: rows, [str(each) for each in range(classes)], LABELS, resamples=10)
    assert [summary.figures[name].percent for name in names] == np.round(golden["mmseg_printed"], 2).tolist()
    assert round(100 * float(figures["miou_all"]), 2) == round(float(golden["mmseg_zero_printed"][0]), 2)


def test_torchmetrics_leaves_out_classes_that_never_occur(golden: dict[str, Any], rows: list[Row]) -> None:
    kept = [Row(row.key, tuple(each for each in row.counts if each[1] >= 0)) for row in rows]
    sums = LabelSums(json.loads(str(golden["meta"]))["classes"])
    total = sum(sums.of(row) for row in kept)
    assert isinstance(total, np.ndarray)
    assert np.array_equal(np.nan_to_num(sums.of_classes(total)["iou"]).astype(np.float32), golden["torchmetrics_none"])
    assert np.float32(sums.figures(total)["miou"]) == golden["torchmetrics_macro"]


def test_sums_are_exact_where_float32_rounds(golden: dict[str, Any]) -> None:
    both, _, predicted, true = golden["many_areas"]
    assert true[0] > 2**24
    total = np.concatenate([both, predicted, true, [0, 0]])
    found = LabelSums(len(both)).of_classes(total)["iou"][0]
    assert found == 14690550 / 19352100 and 0 < abs(found - golden["many_iou"][0]) < 1e-5


def test_a_mean_of_true_classes_is_cliper_s(rows: list[Row]) -> None:
    table = np.zeros((10, 10))
    for row in rows:
        for true, predicted, pixels in row.counts:
            table[true, predicted] += pixels
    # predicted to be no class: a label of its own that is never true
    union = table.sum(1) + table.sum(0) - np.diag(table) + 1e-5
    expected = (np.diag(table) / union)[table.sum(1) > 0].mean()
    summary = Summary.of(lambda: rows, list("abcdefghi"), replace(LABELS, absent="truth"), resamples=10)
    assert summary.measure == "miou_true"
    assert summary.figures["miou_true"].value == pytest.approx(expected, abs=1e-8) and expected > summary.figures["miou"].value + 0.05


def test_a_picture_s_own_figure_is_over_its_classes() -> None:
    first = Row("first", ((0, 0, 30), (0, 1, 10), (1, 1, 60)))
    second = Row("second", ((2, 3, 5), (2, 2, 5)))
    figures = Summary.of(lambda: [first, second], NAMES, LABELS, resamples=10)
    one, two = (30 / 40 + 60 / 70) / 2, (5 / 10 + 0) / 2
    assert figures.figures["picture_miou"].value == pytest.approx((one + two) / 2, abs=1e-15)
    assert [(each.key, each.value) for each in (*figures.best, *figures.worst)] == [("first", pytest.approx(one)), ("second", two)]


def test_weights_are_multinomial() -> None:
    drawn = np.concatenate(list(weights(150, 4000, seed=1)), 1)
    assert drawn.shape == (4000, 150) and (drawn.sum(1) == 150).all()
    # mean 1, variance 1 - 1/n, covariance -1/n, within a block and across blocks; 6 standard errors
    assert np.abs(drawn.mean(0) - 1).max() < 6 / np.sqrt(4000)
    covariance = np.cov(drawn.T)
    assert np.abs(np.diag(covariance) - (1 - 1 / 150)).max() < 6 * np.sqrt(3 / 4000)
    within = covariance[:64, :64]
    assert abs(covariance[:64, 64:].mean() + 1 / 150) < 2e-3
    assert abs((within.sum() - np.trace(within)) / (64 * 63) + 1 / 150) < 2e-3


def test_resampled_sums_are_those_of_literal_resamples() -> None:
    vectors = np.random.default_rng(0).integers(0, 9, (100, 5)).astype(np.float64)
    drawn = np.concatenate(list(weights(100, 7)), 1).astype(int)
    expected = [vectors[np.repeat(np.arange(100), each)].sum(0) for each in drawn]
    assert np.array_equal(resampled(iter(vectors), 100, 7), expected)


@pytest.mark.parametrize("count", [99, 101])
def test_as_many_vectors_as_pictures(count: int) -> None:
    with pytest.raises(ValueError, match="there must be 100 vectors"):
        resampled(np.ones((count, 2)), 100, 3)


@pytest.mark.slow("two hundred bootstraps")
def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of a mean with a known expectation, over 200 draws of 60 pictures."""
    random, inside = np.random.default_rng(2), 0
    for number in range(200):
        values = random.random(60)
        answers = [Row(str(i), answers=(Answer(-1, {"iou": float(value)}),)) for i, value in enumerate(values)]
        summary = Summary.of(lambda answers=answers: answers, (), replace(LABELS, task="questions"), resamples=200, seed=number)
        found = summary.figures["iou"]
        inside += found.low <= 0.5 <= found.high
        assert found.error == pytest.approx(values.std() / np.sqrt(60), rel=0.25)
    assert 180 <= inside <= 199


def test_memory_is_flat_in_the_number_of_pictures() -> None:
    def peak(pictures: int) -> int:
        tracemalloc.start()
        Summary.of(lambda: random_rows(pictures), NAMES, LABELS, resamples=50)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)
    # a row that is kept has 500 bytes and more; garbage waits for its collector, in no fixed amount
    assert peak(1500) - peak(300) < 200_000


def test_failed_pictures_are_counted_and_listed() -> None:
    failed = [Row("a", error="a.png cannot be read"), *random_rows(3), *(Row(f"b{i}", error="no") for i in range(20))]
    found = Summary.of(lambda: failed, NAMES, LABELS, resamples=10)
    alone = Summary.of(lambda: random_rows(3), NAMES, LABELS, resamples=10)
    assert (found.pictures, found.failed, found.figures) == (3, 21, alone.figures)
    assert found.failures[0].reason == "a.png cannot be read" and len(found.failures) == 10
    nothing = Summary.of(lambda: failed[:1], NAMES, LABELS)
    assert (nothing.measure, nothing.pictures, nothing.failed, dict(nothing.figures)) == ("", 0, 1, {})


def test_the_worst_confusions_come_first() -> None:
    rows = [Row("a", ((0, 1, 5), (0, 0, 90), (1, 0, 7), (2, -1, 7), (3, 3, 1))), Row("b", ((0, 1, 5),))]
    found = Summary.of(lambda: rows, NAMES, LABELS, resamples=5).confusions
    assert [(each.true, each.predicted, each.pixels, each.share) for each in found] == [
        ("wall", "sky", 10, 0.1), ("sky", "wall", 7, 1.0), ("sea", "", 7, 1.0),
    ]  # fmt: skip
    matrix = np.arange(12).reshape(3, 4)
    assert confusions(matrix, 2) == [(2, -1, 11), (2, 1, 9)] and np.array_equal(matrix, np.arange(12).reshape(3, 4))


def test_a_summary_is_read_as_it_was_written(tmp_path: Path, rows: list[Row]) -> None:
    found = Summary.of(lambda: rows, [f"class {each} “é”" for each in range(9)], LABELS, resamples=20)
    path = tmp_path / "result.json"
    path.write_bytes(found.dumps())
    assert Summary.read(path) == found and set(found.figures) <= set(MEASURES)
    assert "iou" not in found.classes[6].figures and found.classes[7].figures["iou"].value == 0
    assert Summary.of(lambda: rows, [f"class {each} “é”" for each in range(9)], LABELS, resamples=20).dumps() == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"measure": 1}', "is damaged .*measure"), ("[", "is damaged"), ('{"format": 2, %s}', "must be of format 1, got 2; evaluate again")],
)
def test_a_damaged_summary_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content.replace("%s", '"measure": "", "pictures": 0, "failed": 0, "figures": {}'), encoding="utf-8")
    with pytest.raises(FastlocError, match=message):
        Summary.read(path)


@pytest.mark.parametrize("counts", [((4, 0, 1),), ((0, 4, 1),), ((-1, 0, 1),), ((0, -2, 1),), ((0, 0, -1),)])
def test_labels_that_are_no_class_are_one_line(counts: tuple[tuple[int, int, int], ...]) -> None:
    with pytest.raises(FastlocError, match="counts of 'a' must be of labels below 4, got others; evaluate the picture again"):
        Summary.of(lambda: [Row("a", counts)], NAMES, LABELS)
    with pytest.raises(FastlocError, match="answers of 'a' must be of labels below 4, got 4"):
        sums_of("questions", 4).of(Row("a", answers=(Answer(4, {"iou": 1.0}),)))


def test_runs_are_compared_in_pairs() -> None:
    first = list(random_rows(80, seed=3))
    # a tenth of every picture's mistakes is mended
    second = [replace(row, counts=(*row.counts[1:], (row.counts[0][0], row.counts[0][0], row.counts[0][2]))) for row in first]

    def pairs() -> Iterable[tuple[Row, Row]]:
        return zip(first, second, strict=True)

    found = Comparison.of(pairs, NAMES, "labels", resamples=400)
    alone = [Summary.of(lambda rows=rows: rows, NAMES, LABELS, resamples=400).figures["miou"] for rows in (first, second)]
    mine = found.figures["miou"]
    assert (mine.first, mine.second) == (alone[0].value, alone[1].value) and mine.difference.value == mine.second - mine.first > 0
    # pairs know more than two runs apart
    assert mine.difference.error < 0.7 * np.hypot(alone[0].error, alone[1].error) and mine.above == 1.0 and mine.difference.low > 0
    moved = [abs(each.second - each.first) for each in found.changes]
    assert moved == sorted(moved, reverse=True) and len(moved) == 20 and [each.name for each in found.classes] == list(NAMES)
    same = Comparison.of(lambda: zip(first, first, strict=True), NAMES, "labels", resamples=50)
    assert same.changes == () and same.figures["miou"].above == 0.5 and same.figures["miou"].difference.error == 0
    assert json.loads(found.dumps())["figures"]["miou"]["difference"]["low"] == mine.difference.low
    assert Comparison.of(list, NAMES, "labels").pictures == 0
