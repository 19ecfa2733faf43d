"""Measures of one map against a mask, points and boxes, by hand and by the definition; a label set that is asked as questions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score

from evaluation_subjects import Patches
from fastloc.embedded import SAMPLES
from fastloc.engine.localizer import Localizer
from fastloc.evaluation.metrics.answers import QuestionSums
from fastloc.evaluation.protocols.table import protocol_of
from fastloc.evaluation.questions.judge import QuestionJudge
from fastloc.evaluation.questions.measured import NEAR, measured
from fastloc.evaluation.rows import Answer, Row
from fastloc.evaluation.running.subjects import EngineSubject
from fastloc.evaluation.samples import Item, Question, Sample
from fastloc.imaging.heatmaps import minmax, peak

FOUND = np.array([[0.0, 0.2, 0.4, 1.0], [0.1, 0.6, 0.5, 0.3]], np.float32)
MASK = np.array([[0, 0, 1, 1], [0, 0, 1, 0]], bool)


def test_a_mask_by_hand() -> None:
    made = measured(FOUND, Question("a cat", 0, MASK), 0.5)
    # at least a half: 1.0, 0.6 and 0.5
    assert [made[name] for name in ("tp", "fp", "fn", "tn")] == [2, 1, 1, 4]
    assert made["iou"] == 2 / 4 and made["f1"] == pytest.approx(2 * 2 / (4 + 2))
    # pairs of an inner and an outer pixel in order: 1.0 above 5, 0.5 above 4, 0.4 above 4
    assert made["auc"] == pytest.approx(13 / 15)
    # precision where recall grows, from the top: 1/1, 2/3, 3/4
    assert made["ap"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert made["msc"] == pytest.approx(1.9 / 3 - 1.2 / 5, abs=1e-6)
    assert (made["hit"], made["hit_near"]) == (1, 1)


def test_the_mean_is_exceeded_and_ignored_pixels_are_on_neither_side() -> None:
    ignored = np.zeros((2, 4), bool)
    ignored[1, 1] = True
    made = measured(FOUND, Question("a cat", 0, MASK, ignored), "mean")
    # the whole map's mean is 0.3875
    assert [made[name] for name in ("tp", "fp", "fn", "tn")] == [3, 0, 0, 4]
    assert made["iou"] == 1 and made["ap"] == 1


def test_a_mask_of_everything_or_nothing_has_no_ranking() -> None:
    for mask in (np.ones((2, 4), bool), np.zeros((2, 4), bool)):
        made = measured(FOUND, Question("a cat", 0, mask), 0.5)
        assert not {"auc", "ap", "ap_both", "msc"} & set(made)
    assert made["hit"] == 0


def test_imagenet_segmentation_is_summed_up_as_its_authors_do() -> None:
    """hila-chefer/Transformer-Explainability@c3e578f, baselines/ViT/imagenet_seg_eval.py, stated once more over a few pictures."""
    random, sums = np.random.default_rng(0), QuestionSums(1)
    total, inter, union, right, ap, f1 = np.zeros(sums.width), np.zeros(2), np.zeros(2), [], [], []
    for _ in range(4):
        found, mask = minmax(random.random((12, 10), np.float32)), random.random((12, 10)) < 0.3
        total += sums.of(Row("a", answers=(Answer(0, measured(found, Question("a cat", 0, mask), "mean")),)))
        inside = found > found.mean()
        inter += [(~inside & ~mask).sum(), (inside & mask).sum()]
        union += [(~inside | ~mask).sum(), (inside | mask).sum()]
        right.append((inside == mask).mean())
        one_hot, scores = np.stack([~mask, mask]), np.stack([1 - found, found])
        ap.append(average_precision_score(one_hot.ravel(), scores.ravel()))
        f1.append([f1_score(*rows, zero_division=0) for rows in zip(mask, inside, strict=True)])
    figures = {name: float(value) for name, value in sums.figures(total).items()}
    expected = {"two_class_iou": (inter / union).mean(), "pixel_accuracy": np.mean(right), "ap_both": np.mean(ap), "f1_rows": np.mean(f1)}
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_points_and_boxes_by_hand() -> None:
    points = ((3.2, 0.9, True), (1.0, 1.0, False), (0.0, 0.0, False), (2.0, 0.0, True))
    made = measured(FOUND, Question("a cat", points=points), 0.5)
    assert [made[f"point_{name}"] for name in ("tp", "fp", "fn", "tn")] == [1, 1, 1, 1]
    assert made["point_iou"] == 1 / 3 and made["point_iou_both"] == 1 / 3
    for right, hit, near in ((4.0, 1, 1), (3.0, 0, 1)):
        made = measured(FOUND, Question("a cat", boxes=((0.0, 0.0, right, 1.0),)), 0.5)
        assert (made["hit"], made["hit_near"]) == (hit, near)
    wide = np.zeros((4, 40), np.float32)
    wide[0, 30] = 1
    for edge, near in ((30.5 - NEAR, 0), (30.6 - NEAR, 1)):
        assert measured(wide, Question("a cat", boxes=((0.0, 0.0, edge, 4.0),)), 0.5)["hit_near"] == near


@pytest.mark.parametrize(("method", "fit"), [("gem", "stretch"), ("clip_surgery", "crop"), ("rclip", "letterbox"), ("naclip", "aspect")])
def test_a_map_is_the_localizer_s_own_of_that_text_alone(method: str, fit: str) -> None:
    localizer = Localizer(method=method, size=96, fit=fit)
    picture = Image.open(SAMPLES / "market.webp").convert("RGB")
    protocol = protocol_of(method, "coco-boxes", "plain", task="questions")
    judge = QuestionJudge(EngineSubject(localizer), replace(protocol, template=localizer.template), Empty())
    [found] = judge.heatmaps(Sample("a", picture, questions=(Question("cat"),)))
    expected = localizer(picture, "cat")
    np.testing.assert_allclose(found, expected.heatmaps[0], atol=2e-6)
    assert peak(found) == (expected.points()[0].y, expected.points()[0].x)


def test_pictures_of_one_size_and_the_same_texts_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastloc.evaluation.judges._TOGETHER", {"cpu": 2 * 48 * 48, "cuda": 0})
    noise, subject = np.random.default_rng(0), Patches(fit="aspect")
    subject.order = "picture"
    judge = QuestionJudge(subject, replace(protocol_of("gem", "coco-boxes", "plain", task="questions"), asked="present"), Empty())
    prepared = []
    for number, (size, texts) in enumerate([((48, 48), "ab"), ((60, 40), "ab"), ((48, 48), "ba"), *[((48, 48), "ab")] * 3]):
        picture = Image.fromarray(noise.integers(0, 256, (*size, 3), np.uint8))
        asked = tuple(Question(text, boxes=((3.0, 4.0, 30.0, 20.0),)) for text in texts)
        prepared.append(judge.prepare(Sample(str(number), picture, questions=asked)))
    together = judge.judge(prepared)
    assert subject.batches == [2, 2, 1, 1]
    assert together == [judge.judge([each])[0] for each in prepared]


def test_of_equal_peaks_the_middle_one_points() -> None:
    heat = np.zeros((3, 7), np.float32)
    heat[1, 1:6] = 1
    assert peak(heat) == (1, 3)


class Empty:
    """A set of free phrases without a picture."""

    name, task, background, classes = "free", "questions", False, ()

    def items(self) -> list[Item]:
        return []

    def read(self, item: Item) -> Sample:
        raise NotImplementedError
