"""The best and the worst pictures of a run: read again, judged again, and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from fastloc.evaluation.report.content import Shown
from fastloc.evaluation.report.numbers import percent
from fastloc.evaluation.report.pictures import class_colours, shown_labels
from fastloc.evaluation.rows import Row
from fastloc.evaluation.samples import DataSet, Labels, Sample, SampleError

__all__ = ["Best", "label_gallery", "mistakes"]

# keys of pictures with their own figures, shares in [0, 1]
Best = Sequence[tuple[str, float]]
# mistakes of a picture that are told, and the least share of its counted pixels
_MISTAKES, _LEAST = 2, 0.01


def label_gallery(
    dataset: DataSet, best: Best, worst: Best, rows: Mapping[str, Row], predict: Callable[[Sample], Labels]
) -> tuple[Shown, ...]:
    """The pictures with their true and predicted labels.

    Args:
        dataset: of task "labels".
        best, worst: which pictures.
        rows: of these pictures, by key.
        predict: gives the labels int16 [H, W] of a sample; -1 is no class.

    A picture that cannot be read any more is left out.
    """
    asked = {key: (value, False) for key, value in worst} | {key: (value, True) for key, value in best}
    samples = {sample.key: sample for sample in _read(dataset, asked)}
    found = {key: (samples[key], predict(samples[key])) for key in asked if key in samples}
    groups = [np.union1d(_labels(sample), predicted).tolist() for sample, predicted in found.values()]
    colours = class_colours(groups, 0 if dataset.background else None)
    return tuple(
        shown_labels(sample, predicted, *asked[key], colours, dataset.classes, mistakes(rows[key], dataset.classes))
        for key, (sample, predicted) in found.items()
    )


def mistakes(row: Row, classes: Sequence[str]) -> list[str]:
    """The largest confusions of one picture in words, such as "cat → dog 31.0 % of the pixels"."""
    total = sum(pixels for _, _, pixels in row.counts)
    wrong = sorted(((pixels, true, predicted) for true, predicted, pixels in row.counts if true != predicted), reverse=True)
    return [
        f"{classes[true]} → {classes[predicted] if predicted >= 0 else 'no class'} {percent(pixels / total)} % of the pixels"
        for pixels, true, predicted in wrong[:_MISTAKES]
        if pixels >= _LEAST * total
    ]


def _labels(sample: Sample) -> Labels:
    assert sample.labels is not None
    return sample.labels


def _read(dataset: DataSet, keys: Iterable[str]) -> list[Sample]:
    asked, found = set(keys), []
    for item in dataset.items():
        if item.key in asked:
            try:
                found.append(dataset.read(item))
            except SampleError:
                continue
    return found
