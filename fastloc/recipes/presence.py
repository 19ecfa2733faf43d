"""Tells whether a text is in a picture at all: the picture's own embedding against the text and against the background.

A map always has a hottest place, so a peak says where and never whether. The score compares two texts in a softmax at the scale that the
model was trained at: the one that is asked for, and the background, which is its template without a thing in it ("a photo of a ."):

    score = sigmoid(slope * logit_scale * (cos(picture, text) - cos(picture, background)) + offset)

Slope 1 and offset 0 are that softmax itself. A model whose configuration has a slope and an offset of its own was calibrated: they were
fitted on pictures that are known to hold some texts and not to hold others. docs/methods/presence.md says on which, and what was tried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import ModelError
from fastloc.utils.schema import number

__all__ = ["UNCALIBRATED", "Calibration", "presence"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """A logistic calibration of the difference of logits."""

    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        number("slope", self.slope, 1e-9, 1e9)
        number("offset", self.offset, -1e9, 1e9)

    @classmethod
    def of(cls, content: Any, name: str) -> Calibration:
        """From {"slope", "offset"} of JSON; `name` is the file's or model's, for errors.

        Raises:
            ModelError: it is not that: a slope is a number above 0, an offset any number.
        """
        told = content if isinstance(content, Mapping) else {}
        slope, offset = (_number(told.get(each)) for each in ("slope", "offset"))
        if not slope > 0 or math.isnan(offset):
            raise ModelError(f"the calibration of {name} must be a slope above 0 and an offset, got {content!r}")
        return cls(slope, offset)


def _number(value: Any) -> float:
    """A finite number as it is, anything else as NaN."""
    # the largest whole numbers are no floats
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300 else math.nan


UNCALIBRATED = Calibration()


def presence(cosines: Floats, background: float, logit_scale: float, calibration: Calibration = UNCALIBRATED) -> Floats:
    """The scores [T], within [0, 1], of a picture's cosines with texts [T] and with the background."""
    logits = np.float64(logit_scale) * (np.asarray(cosines, np.float64) - np.float64(background))
    found: Floats = (1 / (1 + np.exp(-(calibration.slope * logits + calibration.offset).clip(-700, 700)))).astype(np.float32)
    return found
