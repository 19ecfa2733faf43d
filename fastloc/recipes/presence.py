"""Presence scores: the probability that a text is in a picture at all, from the picture's embedding, the text and the background.

Every map has a hottest place, so a peak gives a position and is no evidence that the text is in the picture. The score compares two texts
in a softmax at the scale that the model was trained at: the requested one, and the background, which is its template without a
thing in it ("a photo of a ."):

    score = sigmoid(slope * logit_scale * (cos(picture, text) - cos(picture, background)) + offset)

Slope 1 and offset 0 are that softmax itself. A model that was trained with a sigmoid for each pair of picture and text (SigLIP) brings a
bias, `logit_bias`, and needs no background: its own probability that the two belong together is

    score = sigmoid(slope * (logit_scale * cos(picture, text) + logit_bias) + offset)

A model whose configuration has a slope and an offset of its own was calibrated: they were
fitted on pictures that are known to hold some texts and not to hold others. docs/methods/presence.md names them and the alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError
from fastloc.recipes.validation import positive

__all__ = ["UNCALIBRATED", "Calibration", "presence"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """A logistic calibration of the difference of logits."""

    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not positive(self.slope):
            raise FastlocError(f"slope of a calibration must be a finite number above 0, got {self.slope!r}")
        if not (self.offset == 0 or positive(abs(self.offset))):
            raise FastlocError(f"offset of a calibration must be a finite number, got {self.offset!r}")


UNCALIBRATED = Calibration()


def presence(
    cosines: Floats, background: float, logit_scale: float, calibration: Calibration = UNCALIBRATED, logit_bias: float | None = None
) -> Floats:
    """The scores [T], within [0, 1], of a picture's cosines with texts [T] and with the background; with a bias in its place, if there is
    one (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, algorithm 1)."""
    found = np.asarray(cosines, np.float64)
    scale = np.float64(logit_scale)
    logits = scale * (found - np.float64(background)) if logit_bias is None else scale * found + np.float64(logit_bias)
    scores: Floats = (1 / (1 + np.exp(-(calibration.slope * logits + calibration.offset).clip(-700, 700)))).astype(np.float32)
    return scores
