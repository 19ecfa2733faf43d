"""A run beside what papers published."""

from __future__ import annotations

from fastloc.evaluation.protocols.differences import Ran
from fastloc.evaluation.running.settings import Settings
from fastloc.evaluation.sets.table import SETS

__all__ = ["ran"]


def ran(settings: Settings, failed: int) -> Ran:
    """What published figures are compared with. failed: pictures that could not be used."""
    row = SETS.get(settings.data)
    return Ran(
        method=settings.method, model=settings.model, pretrained=settings.pretrained, protocol=settings.protocol,
        official=settings.official, pictures=settings.pictures, expected=0 if row is None else row.pictures, failed=failed,
        dtype=settings.dtype,
    )  # fmt: skip
