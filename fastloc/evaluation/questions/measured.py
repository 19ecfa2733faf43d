"""Measures of one map against one question's truth: a mask, points, boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastloc.evaluation.samples import Question
from fastloc.imaging.heatmaps import peak

__all__ = ["NEAR", "measured"]

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

# pixels within which a peak is near: the tolerance of the pointing game (Zhang et al., ECCV 2016)
NEAR = 15.0


def measured(found: Map, question: Question, threshold: float | str) -> dict[str, float]:
    """Measures by name, see `fastloc.evaluation.metrics.measures.MEASURES`; those that the truth does not define are left out.

    Args:
        found: min-maxed map [H, W], of the size of the question's mask or of the picture.
        threshold: from which on a pixel is inside, or "mean": the map's own, which it must exceed.
    """
    inside = found > found.mean() if threshold == "mean" else found >= float(threshold)
    made: dict[str, float] = {}
    if question.mask is not None:
        made |= _of_mask(found, inside, question.mask, question.ignored)
    if question.points:
        made |= _of_points(inside, question.points)
    if question.boxes or question.mask is not None:
        row, column = peak(found)
        # a pixel's centre
        away = _away(column + 0.5, row + 0.5, question)
        made |= {"hit": float(away == 0), "hit_near": float(away < NEAR)}
    return made


def _of_mask(found: Map, inside: Mask, mask: Mask, ignored: Mask | None) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    counted = np.ones(mask.shape, bool) if ignored is None else ~ignored
    values, guess, truth = found[counted], inside[counted], mask[counted]
    made = _counts(guess, truth, "")
    tp, wrong = made["tp"], made["fp"] + made["fn"]
    if tp + wrong:
        made |= {"iou": tp / (tp + wrong), "f1": 2 * tp / (2 * tp + wrong), "f1_rows": _f1_of_rows(inside & counted, mask & counted)}
    if truth.any() and not truth.all():
        made["auc"] = float(roc_auc_score(truth, values))
        made["ap"] = float(average_precision_score(truth, values))
        both = np.concatenate([~truth, truth]), np.concatenate([1 - values, values])
        made["ap_both"] = float(average_precision_score(*both))
        made["msc"] = float(values[truth].mean() - values[~truth].mean())
    return made


def _f1_of_rows(guess: Mask, truth: Mask) -> float:
    """The figures of hila-chefer/Transformer-Explainability (utils/metrices.py), which takes a picture's first axis for the batch."""
    both, either = (guess & truth).sum(1), guess.sum(1) + truth.sum(1)
    return float((2 * both / np.maximum(either, 1)).mean())


def _of_points(inside: Mask, points: Sequence[tuple[float, float, bool]]) -> dict[str, float]:
    height, width = inside.shape
    at = [(min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)) for x, y, _ in points]
    made = _counts(np.array([inside[each] for each in at]), np.array([yes for _, _, yes in points]), "point_")
    tp, tn, wrong = made["point_tp"], made["point_tn"], made["point_fp"] + made["point_fn"]
    if tp + wrong:
        made["point_iou"] = tp / (tp + wrong)
    sides = [right / (right + wrong) for right in (tp, tn) if right + wrong]
    return {**made, "point_iou_both": sum(sides) / len(sides)}


def _counts(guess: Mask, truth: Mask, name: str) -> dict[str, float]:
    pairs = {"tp": guess & truth, "fp": guess & ~truth, "fn": ~guess & truth, "tn": ~guess & ~truth}
    return {f"{name}{each}": float(np.count_nonzero(found)) for each, found in pairs.items()}


def _away(x: float, y: float, question: Question) -> float:
    """Pixels from a point to the nearest box, or to the nearest pixel of the mask; 0 within."""
    if question.boxes:
        return min(float(np.hypot(max(x0 - x, 0, x - x1), max(y0 - y, 0, y - y1))) for x0, y0, x1, y1 in question.boxes)
    assert question.mask is not None
    rows, columns = np.nonzero(question.mask)
    if not len(rows):
        return float("inf")
    return float(np.sqrt(((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2).min()))
