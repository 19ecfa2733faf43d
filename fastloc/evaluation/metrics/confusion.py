"""Rows of labels as sums that add over pictures, and the figures of such sums: IoU as mmsegmentation, torchmetrics and CLIPer count it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError
from fastloc.evaluation.rows import Row

__all__ = ["Counts", "Floats", "LabelSums", "confusions", "counts_of", "quotient", "valid_mean"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class LabelSums:
    """The sums of rows of labels: of each class the pixels that are both, predicted and true, and the pictures' own mean IoU.

    A vector of sums [width] is whole numbers up to 2^53 in float64, but for the pictures' mean. Pixels that are predicted to be no class
    (-1) are missed by their true class and are no other class's, as mmsegmentation's histogram has it (mmseg/evaluation/metrics/
    iou_metric.py, v1.2.2). mmsegmentation itself adds in float32, which rounds from 2^24 pixels of a class on; here sums are exact.

    classes: their number.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.width = 3 * classes + 2

    def of(self, row: Row) -> Floats:
        """The sums of one row, float64 [width]. Raises FastlocError for a label that is no class."""
        true, predicted, pixels = counts_of(row, self.classes)
        both = self._by_class(true, pixels * (true == predicted))
        seen, marked = self._by_class(true, pixels), self._by_class(predicted[predicted >= 0], pixels[predicted >= 0])
        mean = valid_mean(quotient(both, seen + marked - both))
        return np.concatenate([both, marked, seen, [0.0, 0.0] if np.isnan(mean) else [float(mean), 1.0]])

    def figures(self, sums: Floats) -> dict[str, Floats]:
        """Figures by name, from sums [..., width] an array [...]: shares in [0, 1], NaN where the divisor is 0.

        miou: over the classes that are true or predicted somewhere (mmsegmentation's mIoU, torchmetrics' macro Jaccard index from 1.0 on).
        miou_true: over those that are true somewhere (CLIPer's). miou_all: over all, 0 for one that never occurs (torchmetrics before).
        picture_miou: the mean over pictures of the IoU over the classes that are true or predicted there. pixel_accuracy, class_accuracy:
        mmsegmentation's aAcc and mAcc.
        """
        both, marked, seen = self._parts(sums)
        iou = quotient(both, seen + marked - both)
        return {
            "miou": valid_mean(iou),
            "miou_true": valid_mean(np.where(seen > 0, iou, np.nan)),
            "miou_all": np.nan_to_num(iou).sum(-1) / max(self.classes, 1),
            "picture_miou": quotient(sums[..., -2], sums[..., -1]),
            "pixel_accuracy": quotient(both.sum(-1), seen.sum(-1)),
            "class_accuracy": valid_mean(quotient(both, seen)),
        }

    def of_classes(self, sums: Floats) -> dict[str, Floats]:
        """Figures of each class by name, [..., classes]: iou, accuracy (of its true pixels), precision (of its predicted ones)."""
        both, marked, seen = self._parts(sums)
        return {"iou": quotient(both, seen + marked - both), "accuracy": quotient(both, seen), "precision": quotient(both, marked)}

    def shares(self, sums: Floats) -> Floats:
        """The share of all counted pixels that are truly of each class, [..., classes]."""
        seen = self._parts(sums)[2]
        return quotient(seen, seen.sum(-1, keepdims=True))

    def score(self, vector: Floats) -> float:
        """A picture's own figure, from its sums: its mean IoU; NaN where no pixel is counted."""
        return float(quotient(vector[-2], vector[-1]))

    def _by_class(self, labels: Counts, pixels: Counts) -> Floats:
        # weights are float64: exact for whole numbers
        return np.bincount(labels, pixels, self.classes).astype(np.float64)

    def _parts(self, sums: Floats) -> tuple[Floats, Floats, Floats]:
        n = self.classes
        return sums[..., :n], sums[..., n : 2 * n], sums[..., 2 * n : 3 * n]


def counts_of(row: Row, classes: int) -> tuple[Counts, Counts, Counts]:
    """True labels, predicted labels and pixels of a row, int64 each. Raises FastlocError for a label that is no class."""
    found = np.array(row.counts, np.int64).reshape(-1, 3).T
    true, predicted, pixels = found
    if found.size and (true.min() < 0 or predicted.min() < -1 or pixels.min() < 0 or max(true.max(), predicted.max()) >= classes):
        raise FastlocError(f"counts of {row.key!r} must be of labels below {classes}, got others; evaluate the picture again")
    return true, predicted, pixels


def quotient(part: Floats, whole: Floats) -> Floats:
    """part / whole, NaN where whole is 0."""
    found: Floats = np.full(np.broadcast_shapes(np.shape(part), np.shape(whole)), np.nan)
    return np.divide(part, whole, out=found, where=np.not_equal(whole, 0))


def valid_mean(values: Floats) -> Floats:
    """The mean over the last axis without NaN values; NaN where all are."""
    return quotient(np.nan_to_num(values).sum(-1), (~np.isnan(values)).sum(-1))


def confusions(matrix: Counts, most: int) -> list[tuple[int, int, int]]:
    """The (true, predicted, pixels) of the most frequent mistakes, most first; predicted -1 is no class.

    matrix: pixels, int64 [classes, classes + 1], the last column of those that are predicted to be no class.
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    # equal ones in the order of the classes
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    places = zip(*(axis.tolist() for axis in np.unravel_index(order, wrong.shape)), strict=True)
    found = ((true, predicted if predicted < len(matrix) else -1, int(wrong[true, predicted])) for true, predicted in places)
    return [each for each in found if each[2]]
