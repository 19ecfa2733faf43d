"""The score of a text's presence: its formula, its range and what a calibration may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastloc.errors import FastlocError
from fastloc.recipes.presence import UNCALIBRATED, Calibration, presence


def test_uncalibrated_it_is_a_softmax_of_the_text_and_the_background() -> None:
    cosines, background, scale = np.array([0.31, 0.24, 0.1], np.float32), 0.24, 100.0
    pairs = np.exp(scale * np.stack([cosines, np.full(3, background)]).astype(np.float64))
    found = presence(cosines, background, scale)
    np.testing.assert_allclose(found, pairs[0] / pairs.sum(0), rtol=1e-5)
    assert found.dtype == np.float32 and found[1] == pytest.approx(0.5, abs=1e-6)


def test_with_a_bias_it_is_the_sigmoid_that_the_model_was_trained_with() -> None:
    """SigLIP's logits, whatever the background."""
    cosines, scale, bias = np.array([0.13, 0.05, -0.1], np.float32), 112.67, -16.55
    expected = 1 / (1 + np.exp(-(scale * cosines.astype(np.float64) + bias)))
    for background in (0.0, 0.2):
        np.testing.assert_allclose(presence(cosines, background, scale, logit_bias=bias), expected, rtol=1e-6)
    moved = presence(cosines, 0.0, scale, Calibration(0.5, 2.0), bias)
    np.testing.assert_allclose(np.log(moved / (1 - moved.astype(np.float64))), 0.5 * (scale * cosines + bias) + 2, rtol=1e-3)
    # a bias of nothing is one too
    assert presence(cosines, 0.2, scale, logit_bias=0.0)[0] == pytest.approx(1 / (1 + np.exp(-scale * 0.13)), rel=1e-5)


def test_a_calibration_moves_it_and_keeps_the_order() -> None:
    cosines = np.linspace(-1, 1, 9, dtype=np.float32)
    plain, moved = presence(cosines, 0.2, 5.0), presence(cosines, 0.2, 5.0, Calibration(0.9, 2.0))
    assert (np.diff(plain) > 0).all() and (np.diff(moved) > 0).all() and (moved[3:] > plain[3:])[:-1].all()
    np.testing.assert_allclose(np.log(moved / (1 - moved.astype(np.float64))), 0.9 * 5 * (cosines - 0.2) + 2, rtol=1e-3)


def test_the_ends_of_the_range_hold() -> None:
    with np.errstate(over="raise", invalid="raise"):
        found = presence(np.array([-1, 1], np.float32), 0.0, 1e5)
    assert found.tolist() == [0, 1]


def test_the_usual_calibration_changes_nothing() -> None:
    assert Calibration(1.0, 0.0) == UNCALIBRATED


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"slope": 0}, "slope"), ({"slope": -1.0}, "slope"), ({"slope": float("nan")}, "slope"), ({"slope": float("inf")}, "slope"),
    ({"offset": float("nan")}, "offset"), ({"offset": -float("inf")}, "offset"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "name"), BROKEN, ids=str)
def test_what_is_no_calibration_is_one_line(content: dict[str, Any], name: str) -> None:
    with pytest.raises(FastlocError, match=f"{name} of a calibration must be a finite number") as caught:
        Calibration(**content)
    assert "\n" not in str(caught.value)
