"""The kernels that read out: what the gate's rule of errors does not see. They are interpreted where there is no GPU."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import literal_readouts
from fastloc.engine.device_heatmaps import heatmaps, labels
from fastloc.errors import FastlocError
from fastloc.functional.heatmaps import tables
from fastloc.imaging import heatmaps as maps
from fastloc.imaging.geometry import FITS, fit
from fastloc.kernels.launch import poisoned, recording
from fastloc.kernels.table import OPS

pytestmark = pytest.mark.skipif(find_spec("triton") is None or sys.platform != "linux", reason="triton is not installed")

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
GENERATOR = torch.Generator().manual_seed(0)
CROP, LETTERBOX, STRETCH = fit((9, 25), 48, 16, "crop"), fit((17, 9), 48, 16, "letterbox"), fit((17, 29), 48, 16)


def similarities(*shape, mean=0.0, spread=1.0):
    return (mean + spread * torch.randn(*shape, generator=GENERATOR)).to(DEVICE)


def run(name, values, geometry, **options):
    op, at = OPS[name].module, tables(geometry, tuple(values.shape[2:]), DEVICE)
    assert op.why_not(values, *at, **options) == []
    with poisoned():
        return getattr(op, name)(values, *at, **options)


# --- heatmaps


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("order", OPS["heatmap"].module.ORDERS)
def test_fused_heatmaps_are_numpy_s(order, name):
    geometry = fit((11, 25), 48, 16, name)
    # numbers of its own: a case that comes new must not change the others'
    values = torch.randn(2, 2, *geometry.grid(16), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    for reverse in (False, True) if order in ("grid", "picture") else (False,):
        found = heatmaps(values, geometry, order, 10.0, reverse, fused=True).cpu().numpy()
        expected = np.stack([maps.heatmaps(each, geometry, order, 10.0, reverse) for each in values.cpu().numpy()])
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6, err_msg=f"{order} {name} reverse={reverse}")


@pytest.mark.parametrize("geometry", [CROP, LETTERBOX, STRETCH], ids=lambda each: each.fit)
@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (0.25, 1e-3), (-700.0, 0.5)])
def test_coldest_is_exactly_0_and_warmest_exactly_1(geometry, mean, spread):
    values = similarities(2, 2, 3, 3, mean=mean, spread=spread)
    for reverse in False, True:
        inside = run("heatmap", values, geometry, reverse=reverse)[(..., *geometry.covered())]
        assert (inside.amin((2, 3)) == 0).all() and (inside.amax((2, 3)) == 1).all()


def test_a_small_range_upon_a_large_mean_is_nearer_than_plain_float32():
    values = similarities(1, 2, 3, 3, mean=0.25, spread=1e-4)
    exact = heatmaps(values.double().cpu(), STRETCH, dtype=torch.float64)
    found = run("heatmap", values, STRETCH).cpu().double()
    assert (found - exact).abs().max() < 1e-6
    plain = np.abs(maps.heatmaps(values[0].cpu().numpy(), STRETCH) - exact[0].numpy()).max()
    assert plain > 1e-5


@pytest.mark.parametrize("order", ["picture", "grid", "softmax"])
@pytest.mark.parametrize("geometry", [CROP, STRETCH], ids=lambda each: each.fit)
def test_bytes_are_the_floats_rounded(geometry, order):
    values = similarities(1, 3, 3, 3)
    options = {"order": order, "logit_scale": 10.0}
    exact = run("heatmap", values, geometry, **options)
    assert torch.equal(run("heatmap", values, geometry, dtype=torch.uint8, **options), torch.round(255 * exact).to(torch.uint8))
    assert torch.equal(run("heatmap", values, geometry, dtype=torch.float16, **options), exact.half())


@pytest.mark.parametrize("picture", [(13, 11), (1, 1), (2, 25)])
@pytest.mark.parametrize("order", OPS["heatmap"].module.ORDERS)
def test_never_nan_and_flat_maps_are_cold(order, picture):
    geometry = fit(picture, 48, 16, "letterbox")
    values = torch.full((1, 5, 3, 3), 3e38)
    seen = (slice(None), slice(None), *geometry.seen((3, 3)))
    # flat ones, and ranges whose reciprocal would be infinite, next to padding far away
    scales = torch.tensor([0.0, 0.0, 1e-40, 1e-38, 1e-30])[None, :, None, None]
    values[seen] = scales * torch.randn(values[seen].shape, generator=GENERATOR)
    values[0, 1] = 0.237
    found = run("heatmap", values.to(DEVICE), geometry, order=order, logit_scale=100.0)
    assert torch.isfinite(found).all()
    if order in ("picture", "grid"):
        assert not found[0, :3].any() and found.min() >= 0 and found.max() <= 1
        assert order == "grid" or found[0, 4].max() == float(picture != (1, 1))
        reverse = run("heatmap", values.to(DEVICE), geometry, order=order, reverse=True)
        assert (reverse[0, :2] == 1).all() and torch.isfinite(reverse).all()


@pytest.mark.parametrize("order", ["grid", "picture"])
def test_rounding_noise_is_flat_too(order):
    values = torch.full((1, 1, 3, 3), 0.237)
    values[..., ::2, :] = values[0, 0, 0, 0].nextafter(torch.tensor(1.0))
    assert not run("heatmap", values.to(DEVICE), STRETCH, order=order).any()


def test_softmax_sums_to_one_where_the_model_looked_and_large_logits_do_not_overflow():
    values = similarities(1, 7, 3, 3, spread=10.0)
    found = run("heatmap", values, CROP, order="softmax", logit_scale=100.0)
    total = found.sum(1)[0].cpu()
    expected = torch.zeros_like(total)
    expected[CROP.covered()] = 1
    torch.testing.assert_close(total, expected, rtol=0, atol=1e-5)
    alone = run("heatmap", values[:, :1].contiguous(), CROP, order="softmax", logit_scale=100.0)
    assert torch.equal(alone, run("heatmap", values[:, :1].contiguous(), CROP))


# --- labels


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("texts", [1, 3, 300])
def test_labels_are_numpy_s(texts, name):
    # whole numbers, so that texts are often equal
    values = torch.randint(0, 4, (1, texts, 2, 2), generator=GENERATOR).float()
    geometry = fit((5, 11), 32, 16, name)
    height, width = geometry.grid(16)
    values = values.repeat(1, 1, 1, max(width // 2, 1))[..., :height, :width]
    for threshold in (None, 1.5) if texts < 300 else (1.5,):
        found = labels(values.to(DEVICE), geometry, threshold, fused=True).cpu()
        expected = literal_readouts.labels(values[0].double().numpy(), geometry, threshold)
        best = np.sort(maps.upsample(values[0].double().numpy(), geometry), axis=0)
        # where two different texts come within rounding, or the best and the threshold, either may win
        clear = np.ones(expected.shape, bool) if texts == 1 else (best[-1] - best[-2] > 1e-6) | (best[-1] == best[-2])
        clear &= np.abs(best[-1] - (threshold or -1)) > 1e-6
        np.testing.assert_array_equal(found[0].numpy()[clear], expected[clear])
        assert clear.mean() > 0.4, clear.mean()
        assert torch.equal(found == maps.BACKGROUND, torch.from_numpy(expected == maps.BACKGROUND)[None]) or threshold is not None


def test_of_equal_texts_the_first_wins():
    values = similarities(2, 6, 3, 3)
    values[:, 3:] = values[:, :3]
    assert set(run("label_map", values, STRETCH).unique().tolist()) == {0, 1, 2}


def test_labels_as_bytes():
    values = similarities(2, 5, 3, 3)
    whole, narrow = run("label_map", values, CROP, threshold=0.5), run("label_map", values, CROP, threshold=0.5, dtype=torch.uint8)
    assert torch.equal(whole.masked_fill(whole < 0, 255), narrow.int())
    assert (narrow == 255).any() and (narrow < 255).any()
    reasons = OPS["label_map"].module.why_not(torch.zeros(1, 256, 3, 3, device=DEVICE), *tables(CROP, (3, 3), DEVICE), dtype=torch.uint8)
    assert any("got 256" in reason for reason in reasons)


# --- cosines


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 300.0])
def test_cosines_do_not_depend_on_the_length_of_patches(magnitude):
    cosine = OPS["cosine"].module
    patches, texts = similarities(2, 20, 48), F.normalize(similarities(5, 48), dim=-1)
    with poisoned():
        found = cosine.cosine(patches * magnitude, texts)
    torch.testing.assert_close(found, F.cosine_similarity(texts[None, :, None], patches[:, None], dim=-1), rtol=0, atol=1e-6)
    assert found.dtype == torch.float32 and found.is_contiguous()


def test_a_zero_patch_has_no_cosine_in_any_dtype():
    cosine = OPS["cosine"].module
    for dtype in (torch.float32, torch.float16, *([torch.bfloat16] if GPU else [])):
        patches, texts = similarities(1, 3, 16).to(dtype), similarities(2, 16).to(dtype)
        patches[0, 1] = 0
        assert not cosine.cosine(patches, texts)[0, :, 1].any()
        assert not cosine.reference(patches, texts)[0, :, 1].any()


# --- refusals and builds


def test_why_not_names_what_is_wrong():
    rows, columns = tables(STRETCH, (3, 3), DEVICE)
    good = torch.zeros(1, 2, 3, 3, device=DEVICE)
    for values, options, word in [
        (good.half(), {}, "float16"),
        (good[..., :2], {}, "[3, 2]"),
        (good.transpose(2, 3), {}, "strides"),
        (good[0], {}, "[2, 3, 3]"),
        (good, {"order": "gird"}, "'gird'"),
        (good, {"order": "softmax"}, "logit_scale"),
        (good, {"order": "softmax", "logit_scale": 1.0, "reverse": True}, "reverse"),
        (good, {"order": "none", "dtype": torch.uint8}, "uint8"),
        (good, {"dtype": torch.int32}, "int32"),
    ]:
        reasons = OPS["heatmap"].module.why_not(values, rows, columns, **options)
        assert any(word in reason for reason in reasons), (word, reasons)
    cosine = OPS["cosine"].module
    patches = torch.zeros(2, 3, 16)
    for arguments, word in [
        ((patches.double(), patches[0].double()), "float64"),
        ((patches, patches[0].half()), "float16"),
        ((patches, torch.zeros(4, 15)), "15"),
        ((patches, torch.zeros(3, 4, 16)), "as many images"),
        ((patches[0], patches[0]), "[3, 16]"),
        ((patches.transpose(1, 2), torch.zeros(4, 3)), "stride"),
    ]:
        reasons = cosine.why_not(*arguments)
        assert any(word in reason for reason in reasons), (word, reasons)


def test_tables_of_another_device_are_copied_once():
    rows, columns = tables(STRETCH, (3, 3), torch.device("cpu"))
    meta = torch.device("meta")
    with recording():
        assert OPS["heatmap"].module.heatmap(torch.zeros(1, 1, 3, 3, device=meta), rows, columns).shape == (1, 1, 17, 29)
    assert rows.to(meta) is rows.to(meta) and rows.to(meta).bands.is_meta and rows.to(rows.lower.device) is rows


def test_fused_passes_on_why_not():
    with pytest.raises(FastlocError, match="float64"):
        heatmaps(torch.zeros(1, 1, 3, 3, dtype=torch.float64, device=DEVICE), STRETCH, fused=True)


@pytest.mark.parametrize("name", ["cosine", "heatmap", "label_map"])
def test_every_build_can_be_recorded(name):
    with recording() as builds:
        OPS[name].module.builds(64, torch.float16)
    assert builds and all(0 not in build.grid for build in builds)
    assert {key for build in builds for key in build.constants} >= ({"CHUNK"} if name == "cosine" else {"CROPPED", "COLUMNS"})


@pytest.mark.skipif(not GPU, reason="too slow for the interpreter")
def test_large_pictures():
    geometry = fit((1080, 1920), 448, 16, "aspect")
    values = similarities(2, 20, *geometry.grid(16))
    for order in "picture", "grid", "softmax":
        plain, fused = (heatmaps(values, geometry, order, 40.0, fused=each) for each in (False, True))
        torch.testing.assert_close(fused, plain, rtol=0, atol=1e-5)
    plain, fused = (labels(values, geometry, fused=each) for each in (False, True))
    assert (plain != fused).float().mean() < 1e-4
