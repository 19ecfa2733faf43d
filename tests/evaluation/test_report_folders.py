"""Reports of runs in folders: their content, comparisons with a paired bootstrap, and what is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import stub_evaluation
from fastloc.errors import FastlocError
from fastloc.evaluation import rows as row_lines
from fastloc.evaluation.metrics.bootstrap import weights
from fastloc.evaluation.metrics.summary import PictureScore, Summary
from fastloc.evaluation.protocols.table import protocol_of
from fastloc.evaluation.report.compare import compare
from fastloc.evaluation.report.gallery import mistakes, question_gallery
from fastloc.evaluation.report.row_pairs import RowPairs
from fastloc.evaluation.report.run_content import run_content
from fastloc.evaluation.report.write import write_comparison, write_reports
from fastloc.evaluation.rows import Answer, Row
from fastloc.evaluation.running.settings import RunFile, Settings
from fastloc.evaluation.samples import Item, Question, Sample

CLASSES = ("background", "cat", "<dog>")


def settings(**changes: Any) -> Settings:
    made = Settings(
        data="voc21", root="/data", options={}, task="labels", classes=CLASSES, names=tuple((each,) for each in CLASSES), background=True,
        pictures=40, keys="0" * 64, model="ViT-B-16", pretrained="openai", method="sclip", digest="sha256:0", official=False,
        protocol=protocol_of("sclip", "voc21"), changed=(), device="cpu", dtype="float32", model_options={}, chunk=8,
    )  # fmt: skip
    return replace(made, **changes)


def some_rows(seed: int, count: int = 40) -> list[Row]:
    random = np.random.default_rng(seed)
    cells = [(true, guess) for true in range(3) for guess in range(3) if (true, guess) != (2, 1)]
    found = [Row(f"{number:03d}", tuple((*cell, int(random.integers(1, 99))) for cell in cells)) for number in range(count)]
    return [*found[:-1], Row(found[-1].key, error="it is broken")]


def write_run(folder: Path, found: Sequence[Row], **changes: Any) -> Path:
    folder.mkdir(parents=True)
    run = RunFile(settings=settings(**changes))
    (folder / "run.json").write_text(json.dumps(asdict(run)), encoding="utf-8")
    (folder / "rows.jsonl").write_bytes(b"".join(map(row_lines.encoded, found)))
    summary = Summary.of(lambda: found, run.settings.classes, run.settings.protocol)
    (folder / "result.json").write_bytes(summary.dumps())
    return folder


def miou(found: Sequence[Row], times: np.ndarray) -> float:
    """The mean IoU of rows, each so many times."""
    counts = np.zeros((3, 3))
    for row, factor in zip(found, times, strict=True):
        for true, guess, pixels in row.counts:
            counts[true, guess] += factor * pixels
    return float((np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))).mean())


def test_the_content_of_a_run_is_its_summary_beside_published_figures(tmp_path: Path) -> None:
    found = run_content(write_run(tmp_path / "sclip", some_rows(0)))
    assert (found.pictures, found.total, found.failed, found.protocol) == (39, 40, 1, "sclip")
    assert run_content(write_run(tmp_path / "changed", some_rows(0), changed=("crop",))).protocol == "sclip, crop changed"
    assert found.figures[0].name == "mIoU"
    assert found.figures[0].estimate.value == pytest.approx(miou(some_rows(0)[:-1], np.ones(39)))
    assert [each.name for each in found.classes] == list(CLASSES) and found.per_class == "IoU"
    assert found.published[0].value == 0.5963 and found.published[0].model == "ViT-B-16 openai"
    assert any("failed: 1" in each for each in found.differences)
    assert found.confusions and found.failures[0].key == "039"


def test_a_comparison_resamples_both_runs_in_pairs(tmp_path: Path) -> None:
    first, second = some_rows(1), some_rows(2)
    found = compare(write_run(tmp_path / "a", first), write_run(tmp_path / "b", second, method="naclip"))
    assert (found.first, found.second, found.pictures, found.alone) == ("a", "b", 39, (0, 0))
    assert ("method", "sclip", "naclip") in found.settings
    times = np.concatenate(list(weights(39)), axis=1)
    differences = [miou(second[:-1], each) - miou(first[:-1], each) for each in times]
    one = found.figures[0]
    assert one.difference.value == pytest.approx(one.second - one.first, abs=1e-12)
    assert one.difference.low == pytest.approx(np.quantile(differences, 0.025), abs=1e-12)
    assert one.difference.high == pytest.approx(np.quantile(differences, 0.975), abs=1e-12)
    assert one.difference.error == pytest.approx(np.std(differences), abs=1e-12)


def test_a_run_beside_itself_does_not_differ(tmp_path: Path) -> None:
    found = compare(write_run(tmp_path / "x" / "sclip", some_rows(1)), write_run(tmp_path / "y" / "sclip", some_rows(1)))
    assert (found.first, found.second) == ("x/sclip", "y/sclip")
    assert all((each.difference.value, each.difference.low, each.difference.high) == (0, 0, 0) for each in (*found.figures, *found.classes))
    assert found.changes == () and found.settings == ()


@pytest.mark.parametrize("order", [lambda each: each, reversed, lambda each: each[7:] + each[:7]], ids=["same", "reversed", "rotated"])
def test_rows_pair_by_their_keys_in_any_order(order: Callable[[list[Row]], Sequence[Row]]) -> None:
    first, second = some_rows(1)[:30], some_rows(2)[5:]
    pairs = RowPairs(lambda: first, lambda: order(second))
    for _ in range(2):
        assert sorted((a.key, b.key) for a, b in pairs) == [(f"{number:03d}",) * 2 for number in range(5, 30)]
        # the last one of the second failed
        assert pairs.alone == (5, 9)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "another set": ({"data": "voc20"}, "runs must have the same data, got voc21 and voc20"),
    "other classes": ({"classes": ("a", "b", "c")}, "runs must have the same classes, got others"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_runs_that_cannot_be_compared_are_refused(fault: str, tmp_path: Path) -> None:
    changes, message = FAULTS[fault]
    first, second = write_run(tmp_path / "a", some_rows(1)), write_run(tmp_path / "b", some_rows(2), **changes)
    with pytest.raises(FastlocError, match=message):
        compare(first, second)


def test_a_comparison_is_written_as_its_name_says(tmp_path: Path) -> None:
    content = compare(write_run(tmp_path / "a", some_rows(1)), write_run(tmp_path / "b", some_rows(2)))
    for name, begins in (("both.html", "<!doctype html>"), ("both.md", "# a and b")):
        write_comparison(tmp_path / name, content)
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)


def test_runs_without_a_picture_in_common_are_refused(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a", some_rows(1)[:20]), write_run(tmp_path / "b", some_rows(1)[20:])
    with pytest.raises(FastlocError, match="pictures in common"):
        compare(first, second)
    with pytest.raises(FastlocError, match=r"run\.json"):
        compare(first, tmp_path / "none")


def test_reports_of_several_methods_have_a_table_over_them(tmp_path: Path) -> None:
    names = ("sclip", "naclip", "nothing")
    for seed, name in enumerate(names):
        found = some_rows(seed) if name != "nothing" else [Row(f"{number:03d}", error="it is broken") for number in range(40)]
        write_run(tmp_path / name, found, method=name)
    written = write_reports(tmp_path, stub_evaluation.Numbers(40), {name: stub_evaluation.Counting() for name in names})
    assert written == [tmp_path / "report.html", *(tmp_path / name / "report.html" for name in names)]
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| sclip |" in text and "| naclip |" in text and "nothing" not in text
    assert "40 pictures could not be used" in (tmp_path / "nothing" / "report.md").read_text(encoding="utf-8")
    assert not list(tmp_path.rglob("*.part"))


def test_mistakes_are_the_largest_confusions() -> None:
    row = Row("street", ((0, 0, 500), (1, 2, 300), (2, 1, 4), (0, -1, 196)))
    assert mistakes(row, CLASSES) == ["cat → <dog> 30.0 % of the pixels", "background → no class 19.6 % of the pixels"]


class Questions:
    """Pictures with two questions, whose maps are hot at the left and at the right."""

    name, task, background, classes = "pointing", "questions", False, ("cat", "dog")

    def items(self) -> list[Item]:
        return [Item(key, key) for key in "ab"]

    def read(self, item: Item) -> Sample:
        return Sample(item.key, Image.new("RGB", (30, 20)), questions=tuple(Question(each, boxes=((0, 0, 9, 9),)) for each in self.classes))

    def questions(self, sample: Sample) -> tuple[Question, ...]:
        return sample.questions

    def heatmaps(self, sample: Sample) -> list[np.ndarray]:
        left = np.linspace(1, 0, 30, dtype=np.float32)[None].repeat(20, 0)
        return [left, left[:, ::-1]]


def test_a_good_picture_shows_its_best_question_and_a_bad_one_its_worst() -> None:
    asked = {"a": (PictureScore("a", 0.5), False), "b": (PictureScore("b", 0.7), True)}
    answers = (Answer(0, {"iou": 0.9, "hit": 0.0}), Answer(1, {"iou": 0.1}))
    found = question_gallery(Questions(), Questions(), asked, {key: Row(key, answers=answers) for key in asked})
    shown = [(each.key, each.value, each.best, each.notes) for each in found]
    assert shown == [("a", 0.1, False, ("“dog”",)), ("b", 0.9, True, ("“cat”",))]
