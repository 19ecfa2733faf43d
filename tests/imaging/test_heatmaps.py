"""Heatmaps in each order, against torch and against statements of one line each."""

import warnings

import numpy as np
import pytest
import torch

from fastloc.errors import FastlocError
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import FITS, fit

RNG = np.random.default_rng(0)
STRETCH = fit((50, 70), 96, 16, "stretch")
GRID = (6, 6)


def similarities(count=3, grid=GRID, dtype=np.float64):
    return RNG.standard_normal((count, *grid)).astype(dtype)


def bilinear(values, size):
    return torch.nn.functional.interpolate(torch.from_numpy(values)[None], size=size, mode="bilinear")[0].numpy()


def scaled(values):
    low, high = values.min((1, 2), keepdims=True), values.max((1, 2), keepdims=True)
    return (values - low) / (high - low)


# --- the orders


def test_each_order_is_its_definition():
    values = similarities()
    raw = bilinear(values, (50, 70))
    reference = {
        "grid": bilinear(scaled(values), (50, 70)),
        "picture": scaled(raw),
        "softmax": torch.softmax(torch.from_numpy(40 * raw), 0).numpy(),
        "softmax-input": torch.softmax(torch.from_numpy(40 * bilinear(bilinear(values, (96, 96)), (50, 70))), 0).numpy(),
        "softmax-grid": bilinear(torch.softmax(torch.from_numpy(40 * values), 0).numpy(), (50, 70)),
        "none": raw,
    }
    assert reference.keys() == heatmaps.ORDERS.keys()
    for order, expected in reference.items():
        got = heatmaps.heatmaps(values, STRETCH, order, logit_scale=40.0)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12, err_msg=order)
    # the two min-max orders are not the same thing, and neither are the two ways to the picture
    assert np.abs(reference["grid"] - reference["picture"]).max() > 1e-3
    assert np.abs(reference["softmax"] - reference["softmax-input"]).max() > 1e-3
    assert np.abs(reference["softmax"] - reference["softmax-grid"]).max() > 1e-3


@pytest.mark.parametrize("order", ["grid", "picture"])
@pytest.mark.parametrize("name", FITS)
def test_reverse(order, name):
    values, geometry = similarities(), fit((50, 70), 96, 16, name)
    values = similarities(grid=geometry.grid(16))
    inside = (slice(None), *geometry.covered())
    plain, reverse = (heatmaps.heatmaps(values, geometry, order, reverse=each) for each in (False, True))
    np.testing.assert_allclose(reverse[inside], 1 - plain[inside], atol=1e-12)
    # what the model did not see stays cold, reversed or not
    outside = np.ones(plain.shape, bool)
    outside[inside] = False
    assert not plain[outside].any() and not reverse[outside].any()
    assert outside.any() == (name == "crop")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", heatmaps.ORDERS)
@pytest.mark.parametrize("name", FITS)
def test_range_and_dtype(dtype, order, name):
    geometry = fit((50, 70), 96, 16, name)
    values = similarities(4, geometry.grid(16), dtype)
    before = values.copy()
    heat = heatmaps.heatmaps(values, geometry, order, logit_scale=40.0)
    assert heat.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert (values == before).all(), "the argument was changed"
    assert heat.shape == (4, 50, 70) and np.isfinite(heat).all()
    if order != "none":
        assert heat.min() >= 0 and heat.max() <= 1
    if order == "picture":
        assert (heat.max((1, 2)) == 1).all()
    if order in heatmaps.COMPETING:
        np.testing.assert_allclose(heat[(slice(None), *geometry.covered())].sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("order", ["grid", "picture"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.237, -3e4])
@pytest.mark.parametrize("name", FITS)
def test_a_constant_map_is_cold_not_noise(order, dtype, value, name):
    geometry = fit((131, 77), 96, 16, name)
    values = np.full((2, *geometry.grid(16)), value, dtype)
    values[1, 2, 3] += 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heat = heatmaps.heatmaps(values, geometry, order)
    assert not heat[0].any()
    # and its neighbour is untouched by that
    assert heat[1].max() > 0.5


def test_minmax_over_other_axes_and_small_ranges():
    values = similarities(2)
    np.testing.assert_allclose(heatmaps.minmax(values, (0, 1, 2)), (values - values.min()) / np.ptp(values))
    # a real range far below the values themselves is still a range
    fine = 0.2 + 1e-4 * similarities(1, dtype=np.float32)
    assert heatmaps.minmax(fine).min() == 0 and heatmaps.minmax(fine).max() == 1


def test_letterbox_padding_takes_no_part():
    geometry = fit((40, 80), 96, 16, "letterbox")
    values = np.zeros((1, 6, 6))
    values[0, 2, 4] = 1
    clean = {order: heatmaps.heatmaps(values, geometry, order) for order in ("grid", "picture", "none")}
    through = heatmaps.upsample(values, geometry, "softmax-input")
    # rows 0 and 5 are padding alone; rows 1 and 4 hold some of the picture
    values[0, 0], values[0, 5] = 50, -50
    for order, expected in clean.items():
        got = heatmaps.heatmaps(values, geometry, order)
        assert expected.max() > 0.5
        np.testing.assert_array_equal(got, expected, err_msg=order)
    np.testing.assert_array_equal(heatmaps.upsample(values, geometry, "softmax-input"), through)


def test_softmax_of_one_text_is_read_out_as_min_max_and_large_logits_do_not_overflow():
    values = similarities(1)
    alone = heatmaps.heatmaps(values, STRETCH, "softmax", logit_scale=40.0)
    np.testing.assert_array_equal(alone, heatmaps.heatmaps(values, STRETCH, "picture"))
    assert np.ptp(alone) == 1
    heat = heatmaps.softmax(np.array([[1e4], [-1e4]], np.float32), 100.0)
    assert heat.tolist() == [[1], [0]]


def test_refusals():
    values = similarities()
    for arguments, word in [
        ((values, STRETCH, "gird"), "'grid'"),
        ((values, STRETCH, "softmax"), "logit_scale"),
        ((values, STRETCH, "softmax", -1.0), "-1.0"),
        ((values, STRETCH, "softmax", float("nan")), "nan"),
        ((values, STRETCH, "softmax", 40.0, True), "reverse"),
        ((values, STRETCH, "softmax-input"), "logit_scale must be positive for order 'softmax-input'"),
        ((values, STRETCH, "softmax-input", 40.0, True), "reverse"),
        ((values, STRETCH, "none", None, True), "reverse"),
        ((values[0], STRETCH), r"\[6, 6\]"),
        ((values[:0], STRETCH), r"\[0, 6, 6\]"),
        ((values.astype(int), STRETCH), "int64"),
    ]:
        with pytest.raises(FastlocError, match=word):
            heatmaps.heatmaps(*arguments)
