"""Rows of questions as sums that add over pictures, and the figures of such sums: means over questions, and IoU over the whole set."""

from __future__ import annotations

import numpy as np

from fastloc.errors import FastlocError
from fastloc.evaluation.metrics.confusion import Floats, quotient, valid_mean
from fastloc.evaluation.rows import Answer, Row

__all__ = ["MEANS", "QuestionSums"]

# measures of an answer whose mean over questions is a figure, and those that are counts
MEANS = ("iou", "f1", "f1_rows", "auc", "ap", "ap_both", "msc", "hit", "hit_near", "point_iou", "point_iou_both")
COUNTS = ("tp", "fp", "fn", "tn", "point_tp", "point_fp", "point_fn", "point_tn")
# of each class: a mean's sum and number, and counts
_CLASS_MEANS = ("iou", "auc", "ap", "msc", "hit", "hit_near")
_CLASS_ROWS = 2 * len(_CLASS_MEANS) + 3  # right points, wrong points, questions


class QuestionSums:
    """The sums of rows of questions: of each measure its sum and number, of pixels and points true and false ones, likewise of each class.

    A question without a measure, such as the AUC of a mask that covers the picture, is left out of its mean. classes: their number; 0
    for free phrases.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._means = 2 * len(MEANS)
        self._counts = self._means + len(COUNTS)
        self.width = self._counts + _CLASS_ROWS * classes

    def of(self, row: Row) -> Floats:
        """The sums of one row, float64 [width]. Raises FastlocError for a label that is no class."""
        sums = np.zeros(self.width)
        by_class = self._by_class(sums)
        for answer in row.answers:
            if answer.label >= self.classes:
                raise FastlocError(f"answers of {row.key!r} must be of labels below {self.classes}, got {answer.label}; evaluate it again")
            sums[: self._means] += _means(answer, MEANS)
            sums[self._means : self._counts] += [answer.measures.get(name, 0.0) for name in COUNTS]
            if answer.label >= 0:
                by_class[:, answer.label] += [*_means(answer, _CLASS_MEANS), *_points(answer), 1.0]
        return sums

    def figures(self, sums: Floats) -> dict[str, Floats]:
        """Figures by name, from sums [..., width] an array [...], NaN where the divisor is 0.

        Means over questions of each of MEANS. two_class_iou: the mean of foreground's and background's IoU, and pixel_accuracy, both over
        the pixels of all questions (Chefer et al., baselines/ViT/imagenet_seg_eval.py). point_iou_classes: the mean over classes of the IoU
        over the points of all pictures.
        """
        totals = sums[..., : self._means]
        found = {name: quotient(totals[..., 2 * i], totals[..., 2 * i + 1]) for i, name in enumerate(MEANS)}
        tp, fp, fn, tn = np.moveaxis(sums[..., self._means : self._means + 4], -1, 0)
        both = np.stack([quotient(tp, tp + fp + fn), quotient(tn, tn + fp + fn)], -1)
        found["two_class_iou"] = valid_mean(both)
        found["pixel_accuracy"] = quotient(tp + tn, tp + fp + fn + tn)
        found["point_iou_classes"] = valid_mean(self.of_classes(sums)["point_iou"])
        return found

    def of_classes(self, sums: Floats) -> dict[str, Floats]:
        """Figures of each class by name, [..., classes]: means over its questions, and the IoU over its points."""
        by_class = self._by_class(sums)
        found = {name: quotient(by_class[..., 2 * i, :], by_class[..., 2 * i + 1, :]) for i, name in enumerate(_CLASS_MEANS)}
        right, wrong = by_class[..., -3, :], by_class[..., -2, :]
        return {**found, "point_iou": quotient(right, right + wrong)}

    def shares(self, sums: Floats) -> Floats:
        """The share of the questions that ask for each class, [..., classes]."""
        asked = self._by_class(sums)[..., -1, :]
        return quotient(asked, asked.sum(-1, keepdims=True))

    def score(self, vector: Floats) -> float:
        """A picture's own figure, from its sums: the mean over its questions of iou, or else of point_iou, or else of hit."""
        figures = self.figures(vector)
        return next((float(figures[name]) for name in ("iou", "point_iou", "hit") if not np.isnan(figures[name])), float("nan"))

    def _by_class(self, sums: Floats) -> Floats:
        return sums[..., self._counts :].reshape(*sums.shape[:-1], _CLASS_ROWS, self.classes)


def _means(answer: Answer, names: tuple[str, ...]) -> list[float]:
    """Sum and number of each measure."""
    return [value for name in names for value in ((answer.measures[name], 1.0) if name in answer.measures else (0.0, 0.0))]


def _points(answer: Answer) -> tuple[float, float]:
    get = answer.measures.get
    return get("point_tp", 0.0), get("point_fp", 0.0) + get("point_fn", 0.0)
