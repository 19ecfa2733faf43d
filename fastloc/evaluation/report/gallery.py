"""The best and the worst pictures of a run: read again, judged again, and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.evaluation.metrics.summary import PictureScore, Summary
from fastloc.evaluation.report.content import Shown
from fastloc.evaluation.report.numbers import percent
from fastloc.evaluation.report.pictures import class_colours, shown_labels, shown_question
from fastloc.evaluation.rows import Answer, Row
from fastloc.evaluation.samples import DataSet, Labels, Question, Sample
from fastloc.evaluation.segmentation.judge import SegmentationJudge
from fastloc.imaging.heatmaps import peak

__all__ = ["HeatmapJudge", "asked_pictures", "judged_again", "label_gallery", "mistakes", "question_gallery"]

# pictures of either kind
_MOST = 6
# mistakes of a picture that a report lists, and the least share of its counted pixels
_MISTAKES, _LEAST = 2, 0.01

# measures of an answer, the first of which that there is says how good it is
_MEASURES = ("iou", "point_iou", "hit")

Asked = Mapping[str, tuple[PictureScore, bool]]


@runtime_checkable
class HeatmapJudge(Protocol):
    """A judge of questions that gives these and its maps."""

    def questions(self, sample: Sample) -> Sequence[Question]:
        """The questions of a sample."""

    def heatmaps(self, sample: Sample) -> Sequence[NDArray[np.float32]]:
        """A map of values in [0, 1] a question, in their order, float32 [H, W] each at the picture's size."""


def asked_pictures(summary: Summary) -> dict[str, tuple[PictureScore, bool]]:
    """The pictures to show by key, with their figures and True for those among the best: the worst first."""
    return {each.key: (each, best) for best, found in ((False, summary.worst), (True, summary.best)) for each in found[:_MOST]}


def label_gallery(dataset: DataSet, judge: SegmentationJudge, asked: Asked, rows: Mapping[str, Row]) -> tuple[Shown, ...]:
    """Pictures with their true and predicted labels; one that cannot be used any more is left out.

    Args:
        dataset: of task "labels".
        judge: gives the labels.
        asked: the pictures, see `asked_pictures`. rows: their rows by key.
    """
    items = {item.key: item for item in dataset.items() if item.key in asked}
    found = []
    for key in asked:
        with suppress(FastlocError):
            found.append(judged_again(judge, dataset.read(items[key])))
    groups = [np.union1d(_truth(sample), labels).tolist() for sample, labels in found]
    colours = class_colours(groups, 0 if dataset.background else None)
    return tuple(
        shown_labels(
            sample, labels, asked[sample.key][0].value, asked[sample.key][1], colours, dataset.classes,
            mistakes(rows[sample.key], dataset.classes),
        )
        for sample, labels in found
    )  # fmt: skip


def question_gallery(dataset: DataSet, judge: HeatmapJudge, asked: Asked, rows: Mapping[str, Row]) -> tuple[Shown, ...]:
    """Pictures with one question each and its map: the worst of a bad picture, the best of a good one. Arguments as for `label_gallery`."""
    items = {item.key: item for item in dataset.items() if item.key in asked}
    found = []
    for key, (_, best) in asked.items():
        with suppress(FastlocError):
            sample, worth = dataset.read(items[key]), [_worth(answer) for answer in rows[key].answers]
            number = worth.index((max if best else min)(worth))
            heat = judge.heatmaps(sample)[number]
            y, x = peak(heat)
            found.append(shown_question(sample, judge.questions(sample)[number], heat, (x, y), worth[number], best))
    return tuple(found)


def _worth(answer: Answer) -> float:
    return next((answer.measures[name] for name in _MEASURES if name in answer.measures), 0.0)


def mistakes(row: Row, classes: Sequence[str]) -> list[str]:
    """The largest confusions of one picture in words, such as "cat → dog 31.0 % of the pixels"."""
    total = sum(pixels for _, _, pixels in row.counts)
    wrong = sorted(((pixels, true, predicted) for true, predicted, pixels in row.counts if true != predicted), reverse=True)
    return [
        f"{classes[true]} → {classes[predicted] if predicted >= 0 else 'no class'} {percent(pixels / total)} % of the pixels"
        for pixels, true, predicted in wrong[:_MISTAKES]
        if pixels >= _LEAST * total
    ]


def judged_again(judge: SegmentationJudge, sample: Sample) -> tuple[Sample, Labels]:
    """The sample as it was judged, and its predicted labels; two squares are side by side again."""
    _, parts = judge.prepare(sample)
    with torch.inference_mode():
        labels = np.concatenate([each.cpu().numpy().astype(np.int16) for each in judge.labels(parts)], 1)
    truth = np.concatenate([each.truth for each in parts], 1)
    cut = judge.protocol.resize == "centre"
    return replace(sample, picture=Image.fromarray(parts[0].pixels.numpy()) if cut else sample.picture, labels=truth), labels


def _truth(sample: Sample) -> Labels:
    assert sample.labels is not None
    return sample.labels
