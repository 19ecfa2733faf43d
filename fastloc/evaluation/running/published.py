"""The figures that papers published, beside a run."""

from __future__ import annotations

from fastloc.auto import EXPORTED, kind_of
from fastloc.evaluation.protocols.differences import Ran, comparable_figures
from fastloc.evaluation.protocols.published import Figure
from fastloc.evaluation.running.settings import Settings
from fastloc.evaluation.sets.table import SETS

__all__ = ["published", "ran"]

# a protocol's own measure -> what papers call it
_METRICS = {"miou": "mIoU", "miou_true": "mIoU", "two_class_iou": "mIoU"}


def ran(settings: Settings, failed: int) -> Ran:
    """The settings of a run that published figures are compared with. failed: pictures that could not be used."""
    row, model, pretrained = SETS.get(settings.data), settings.model, settings.pretrained
    if kind_of(model) == EXPORTED:
        # what the file was made of
        model, _, pretrained = settings.encoder.partition("/")
    return Ran(
        method=settings.method, model=model, pretrained=pretrained, protocol=settings.protocol,
        official=settings.official, pictures=settings.pictures, expected=0 if row is None else row.pictures, failed=failed,
        dtype=settings.dtype,
    )  # fmt: skip


def published(run: Ran, measure: str) -> tuple[Figure, ...]:
    """The published figures of a run's own measure, a name in `fastloc.evaluation.metrics.measures.MEASURES`, the nearest first."""
    return tuple(each for each in comparable_figures(run) if each.metric == _METRICS.get(measure))
