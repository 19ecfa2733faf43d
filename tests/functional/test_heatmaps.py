"""Heatmaps and labels on the device, against the numpy ones that they stand in for."""

import numpy as np
import pytest
import torch

import literal_readouts
from fastloc.engine.device_heatmaps import heatmaps, labels
from fastloc.errors import FastlocError
from fastloc.functional.heatmaps import AxisTensors, tables
from fastloc.imaging import heatmaps as maps
from fastloc.imaging.geometry import FITS, fit

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")
GEOMETRIES = [fit(picture, 96, 16, name) for name in FITS for picture in ((50, 70), (131, 77), (5, 3))]
STRETCH = GEOMETRIES[0]
TOLERANCES = {np.float64: 1e-12, np.float32: 1e-6}


def similarities(geometry, batch=3, texts=4, dtype=np.float64):
    return RNG.standard_normal((batch, texts, *geometry.grid(16))).astype(dtype)


def numpy_maps(values, *arguments, **options):
    return np.stack([maps.heatmaps(each, *arguments, **options) for each in values])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("order", maps.ORDERS)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: f"{geometry.fit}-{geometry.picture}")
def test_heatmaps_are_numpy_s(geometry, order, dtype):
    for reverse in (False, True) if order in ("grid", "picture") else (False,):
        for texts in (1, 4):
            values = similarities(geometry, texts=texts, dtype=dtype)
            expected = numpy_maps(values, geometry, order, 10.0, reverse)
            kind = torch.from_numpy(values).dtype
            found = heatmaps(torch.from_numpy(values), geometry, order, 10.0, reverse, dtype=kind)
            assert found.dtype == kind and found.shape == (3, texts, *geometry.picture)
            size = np.abs(expected).max() if order == "none" else 1.0
            np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=TOLERANCES[dtype] * size, err_msg=f"{order} {reverse=}")


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("threshold", [None, 0.4, -0.2])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: f"{geometry.fit}-{geometry.picture}")
def test_labels_are_numpy_s(geometry, threshold, dtype):
    for texts in (1, 3, 300):
        values = similarities(geometry, batch=2, texts=texts, dtype=dtype)
        order = "softmax-input" if texts == 3 else "none"
        found = labels(torch.from_numpy(values), geometry, threshold, order)
        assert found.dtype == torch.int32
        expected = np.stack([literal_readouts.labels(each, geometry, threshold, order) for each in values])
        if dtype == np.float64:
            np.testing.assert_array_equal(found.numpy(), expected)
        # in float32 two texts can be nearer to each other than rounding
        assert (found.numpy() != expected).mean() < 1e-3, texts


def test_of_equal_texts_the_first_wins():
    values = torch.from_numpy(similarities(STRETCH, texts=6, dtype=np.float32))
    values[:, 3:] = values[:, :3]
    assert labels(values, STRETCH).max() == 2


@pytest.mark.parametrize("order", ["grid", "picture", "softmax"])
def test_bytes_and_halves_are_the_floats_rounded(order):
    values = torch.from_numpy(similarities(STRETCH, dtype=np.float32))
    exact = heatmaps(values, STRETCH, order, 40.0)
    assert torch.equal(heatmaps(values, STRETCH, order, 40.0, dtype=torch.uint8), torch.round(255 * exact).to(torch.uint8))
    assert torch.equal(heatmaps(values, STRETCH, order, 40.0, dtype=torch.float16), exact.half())


def test_sixteen_bits_are_computed_in_float32_and_arguments_stay_as_they_were():
    values = torch.from_numpy(similarities(STRETCH)).bfloat16()
    before = values.clone()
    for order in maps.ORDERS:
        assert torch.equal(heatmaps(values, STRETCH, order, 40.0), heatmaps(values.float(), STRETCH, order, 40.0))
    labels(values, STRETCH, 0.5)
    assert torch.equal(values, before)


@pytest.mark.parametrize("order", ["grid", "picture"])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("value", [0.0, 0.237, -3e4])
def test_a_flat_map_is_cold_and_its_neighbour_is_not(value, dtype, order):
    values = np.full((1, 2, 6, 6), value, dtype)
    values[0, 1, 2, 3] += 1
    found = heatmaps(torch.from_numpy(values), STRETCH, order)
    assert not found[0, 0].any() and found[0, 1].max() > (0.5 if order == "grid" else 1 - 1e-6)
    assert (heatmaps(torch.from_numpy(values), STRETCH, order, reverse=True)[0, 0] == 1).all()


@pytest.mark.parametrize("order", ["grid", "picture"])
def test_rounding_noise_is_flat_too(order):
    values = torch.full((1, 1, 6, 6), 0.237)
    values[..., ::2, :] = values[0, 0, 0, 0].nextafter(torch.tensor(1.0))
    assert not heatmaps(values, STRETCH, order).any()
    assert not maps.heatmaps(values[0].numpy(), STRETCH, order).any()


def test_a_small_range_upon_a_large_mean_loses_no_digits():
    values = torch.from_numpy(0.25 + 1e-4 * similarities(STRETCH)).float()
    exact = heatmaps(values.double(), STRETCH, dtype=torch.float64)
    assert (heatmaps(values, STRETCH) - exact).abs().max() < 1e-6
    assert np.abs(numpy_maps(values.numpy(), STRETCH) - exact.numpy()).max() > 1e-5


@pytest.mark.parametrize("order", maps.ORDERS)
def test_never_nan(order):
    for picture in ((40, 80), (2, 40), (70, 1), (1, 1)):
        geometry = fit(picture, 96, 16, "letterbox")
        # the padding is as far from the picture's values as can be
        values = torch.full((3, 2, 6, 6), 3e38)
        seen = (..., *geometry.seen((6, 6)))
        values[seen] = 1e-38 * torch.randn(values[seen].shape)
        found = heatmaps(values, geometry, order, 100.0)
        assert torch.isfinite(found).all(), picture
        assert order == "none" or (found.min() >= 0 and found.max() <= 1)


def test_an_empty_batch_is_an_empty_batch():
    assert heatmaps(torch.zeros(0, 2, 6, 6), STRETCH).shape == (0, 2, 50, 70)
    assert labels(torch.zeros(0, 2, 6, 6), STRETCH).shape == (0, 50, 70)


def test_tables_are_kept_and_may_leave_inference_mode():
    geometry = fit((44, 33), 96, 16)
    with torch.inference_mode():
        rows, columns = tables(geometry, (6, 6), CPU)
        heatmaps(torch.zeros(1, 1, 6, 6), geometry)
    assert tables(geometry, (6, 6), CPU)[0] is rows
    assert not rows.weight.is_inference() and columns.pixels == 33 and columns.lower.shape == (33,)
    values = torch.randn(1, 1, 6, 6, requires_grad=True)
    heatmaps(values, geometry).sum().backward()
    assert values.grad is not None
    elsewhere = rows.to(torch.device("meta"))
    assert isinstance(elsewhere, AxisTensors) and elsewhere.bands.is_meta and elsewhere.inside == rows.inside


def test_refusals():
    values = torch.from_numpy(similarities(STRETCH))
    for arguments, options, word in [
        ((values, STRETCH, "gird"), {}, "'grid'"),
        ((values, STRETCH, "softmax"), {}, "logit_scale"),
        ((values, STRETCH, "softmax", float("nan")), {}, "nan"),
        ((values, STRETCH, "none", None, True), {}, "reverse"),
        ((values, STRETCH, "none"), {"dtype": torch.uint8}, "bytes"),
        ((values, STRETCH), {"dtype": torch.int32}, "int32"),
        ((values[0], STRETCH), {}, r"\[4, 6, 6\]"),
        ((values[:, :0], STRETCH), {}, r"\[3, 0, 6, 6\]"),
        ((values.int(), STRETCH), {}, "int32"),
    ]:
        with pytest.raises(FastlocError, match=word):
            heatmaps(*arguments, **options)


def test_fused_says_why_not(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    for function in (heatmaps, labels):
        with pytest.raises(FastlocError, match=r"triton|CPU"):
            function(torch.zeros(1, 1, 6, 6), STRETCH, fused=True)
