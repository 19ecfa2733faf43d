"""The pass that the study of finer grids writes out is the engine's, and its tables are what calibration measures."""

from typing import Any

import numpy as np
import pytest
import torch

from fastloc.engine import calibration
from fastloc.recipes import recipe
from gpu_parts.scenes import Scene
from quality_parts.grids_pass import BLOCKS, Model, Row, encoded, shares, similarity
from quality_parts.temperature import Embedded

SIZE = 48


class Two(Embedded):
    """The embedded model on two sample scenes."""

    def __init__(self) -> None:
        pictures = calibration.at_hand("scenes", 2, (SIZE, SIZE))
        self.judged = [Scene(picture, ("cat",), np.zeros((1, *picture.size[::-1]), bool)) for picture in pictures]
        self.names = ["cat", "dog", "pizza"]


@pytest.fixture(scope="module")
def model() -> Model:
    judged = Two()
    return Model(judged, SIZE, [judged.judged[1].picture])


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        (Row(number=5.0), {"inv_temp": 5.0, "residual": False, "iterations": 0}),
        (Row(number="adaptive", residual=True, iterations=1), {}),
        (Row(number=20.0, residual=True), {"inv_temp": 20.0, "iterations": 0}),
    ],
)
def test_the_pass_is_the_engines(model: Model, row: Row, changes: dict[str, Any]) -> None:
    pixels, _ = model.pixels(model.scenes[0].picture)
    with torch.inference_mode():
        kept, grid = encoded(model.weights, pixels, row.position, row.logarithm)
        found = similarity(model, row, kept, grid, model.texts[:3])
    expected = model.localizer.with_method("gem", official=True, **changes).similarity(pixels, model.names[:3])[0][0].flatten(1)
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=2e-5)


@torch.inference_mode()
def test_a_table_is_what_calibration_measures(model: Model) -> None:
    pixels, _ = model.pixels(model.scenes[1].picture)
    expected = calibration.solved(model.localizer.source.vit, pixels, recipe("gem_matched", blocks=BLOCKS))[0, ..., 0]
    apart = model.table(Row())[..., 0, 0] / expected.permute(0, 2, 1) - 1
    assert apart.abs().max() < 0.08, "numbers are interpolated between those of a ladder"
    # a mean of exp(entropy), which is above the exp of their mean
    assert 0.7 < shares(model)["spread"] < 0.8


def test_a_power_keeps_the_count_of_tokens(model: Model) -> None:
    here, trained = model.table(Row(power=1.0)), model.table(Row())
    # fewer tokens than the trained grid's: the same count is a larger share, and a smaller number
    assert (here < trained).all()
