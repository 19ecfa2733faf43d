"""Refinement by the picture's colours, against the official module's steps on whole arrays in float64."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fastloc.cli import main
from fastloc.errors import FastlocError
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import FITS, fit
from fastloc.imaging.pamr import Refinement, refine
from fastloc.results.result import Result

SMALL = Refinement(3, (2, 5))


def literal(masks, picture, iterations, dilations):
    """`PAMR.forward` (models/mods/pamr.py) for maps of the picture's size: [T, H, W] and uint8 [H, W, 3], float64."""
    x = torch.from_numpy(picture.copy()).double().permute(2, 0, 1)[None] / 255
    mask = torch.from_numpy(np.array(masks)).double()[None]
    height, width = x.shape[-2:]

    def places(values, keep_middle):
        found = []
        for dilation in dilations:
            padded = F.pad(values, [dilation] * 4, mode="replicate")
            for down in range(3):
                for across in range(3):
                    if keep_middle or (down, across) != (1, 1):
                        found.append(padded[..., down * dilation :, across * dilation :][..., :height, :width])
        return torch.stack(found, 2)

    deviation = places(x, True).std(2, keepdim=True)
    affinity = -(x[:, :, None] - places(x, False)).abs() / (1e-8 + 0.1 * deviation)
    weights = affinity.mean(1, keepdim=True).softmax(2)
    for _ in range(iterations):
        mask = (places(mask, False) * weights).sum(2)
    return mask[0].numpy()


def scene(size, texts=2, seed=0, dtype=np.float64):
    """Flat colours with noise and a disc, and maps of noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    disc = (y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2 < (min(size) / 3) ** 2
    picture = np.where(disc[..., None], (200, 40, 30), (30, 60, 120)) + random.integers(0, 12, (*size, 3))
    return random.normal(size=(texts, *size)).astype(dtype), picture.astype(np.uint8), disc


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (3, 17), (1, 1), (33, 7)])
@pytest.mark.parametrize("how", [Refinement(), SMALL, Refinement(1, (1,)), Refinement(4, (40,))])
def test_the_official_steps(size, how):
    masks, picture, _ = scene(size)
    expected = literal(masks, picture, how.iterations, how.dilations)
    assert np.abs(refine(masks, picture, how) - expected).max() < 1e-10 * np.abs(expected).max()
    single = refine(masks.astype(np.float32), picture, how)
    assert single.dtype == np.float32 and np.abs(single - expected).max() < 2e-6 * np.abs(expected).max()


def test_a_picture_of_one_colour_averages_the_neighbours():
    masks = np.zeros((1, 9, 9))
    masks[0, 4, 4] = 8
    found = refine(masks, np.full((9, 9, 3), 77, np.uint8), Refinement(1, (2,)))
    expected = np.zeros((9, 9))
    expected[2:7:2, 2:7:2] = 1
    # a pixel is no neighbour of its own
    expected[4, 4] = 0
    np.testing.assert_allclose(found[0], expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_budget_changes_no_number(dtype):
    masks, picture, _ = scene((70, 50), dtype=dtype)
    expected = refine(masks, picture, Refinement(3, (2, 5)))
    before = masks.copy()
    # one row at a time and nothing kept; several rows and some strips kept
    for budget in (1, 300_000, 700_000):
        np.testing.assert_array_equal(refine(masks, picture, Refinement(3, (2, 5), budget)), expected, f"budget {budget}")
    np.testing.assert_array_equal(masks, before)


def test_memory_stays_within_the_budget():
    masks, picture, _ = scene((300, 400), texts=3, dtype=np.float32)
    for budget in (1 << 20, 4 << 20):
        tracemalloc.start()
        refine(masks, picture, Refinement(2, (8, 16), budget))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # all weights would be 7.3 MiB; two arrays of the maps' size besides
        assert peak < budget + 2 * masks.nbytes + (1 << 18), f"{peak / 2**20:.1f} MiB of {budget >> 20}"


def make(name="stretch", size=(60, 100), order="picture", **fields):
    geometry = fit(size, 64, 8, name)
    grid = geometry.grid(8)
    similarity = np.random.default_rng(1).normal(size=(3, *grid)).astype(np.float32)
    picture = Image.fromarray(scene(size)[1])
    return Result(picture=picture, texts=("a", "b", "c"), similarity=similarity, geometry=geometry, order=order, logit_scale=9.0, **fields)


@pytest.mark.parametrize("order", heatmaps.ORDERS)
@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_result_refines_before_it_reads_out(order, name, reverse):
    if reverse and order not in ("grid", "picture"):
        return
    plain = make(name, order=order, reverse=reverse)
    result = plain.refined(iterations=2, dilations=(1, 3))
    rows, columns = plain.geometry.covered()
    inside = (slice(None), rows, columns)
    picture = np.ascontiguousarray(np.asarray(plain.picture)[rows, columns])
    raw = literal(heatmaps.upsample(plain.similarity.astype(np.float64), plain.geometry, order)[inside], picture, 2, (1, 3))
    expected = np.zeros_like(plain.heatmaps)
    if order == "grid":
        expected[inside] = literal(plain.heatmaps[inside].astype(np.float64), picture, 2, (1, 3))
    elif order == "picture":
        expected[inside] = 1 - heatmaps.minmax(raw) if reverse else heatmaps.minmax(raw)
    elif order in heatmaps.COMPETING:
        expected[inside] = heatmaps.softmax(raw, 9.0)
    else:
        expected[inside] = raw
    np.testing.assert_allclose(result.heatmaps, expected, atol=1e-5)
    labels = result.labels()
    np.testing.assert_array_equal(labels[rows, columns], (raw.argmin(0) if reverse else raw.argmax(0)))
    assert (labels == -1).sum() == labels.size - labels[rows, columns].size
    assert result.heatmaps.dtype == np.float32 and not result.heatmaps.flags.writeable


def test_what_is_read_off_follows():
    plain = make()
    result = plain.refined(iterations=2, dilations=(1, 3))
    assert result.similarity is plain.similarity and plain.refinement is None
    for point, heat in zip(result.points(), result.heatmaps, strict=True):
        assert heat[point.y, point.x] == heat.max() == point.value
    np.testing.assert_array_equal(result.masks(0.5), result.heatmaps >= 0.5)
    assert result.to_dict()["refinement"] == {"method": "pamr", "iterations": 2, "dilations": (1, 3), "budget": result.refinement.budget}
    assert plain.to_dict()["refinement"] is None
    assert np.asarray(result.overlay()).tobytes() != np.asarray(plain.overlay()).tobytes()


def test_a_map_without_contrast_stays_empty():
    for order in ("grid", "picture"):
        result = make(order=order)
        flat = Result(**{**vars(result), "similarity": np.ones_like(result.similarity)}).refined(iterations=2, dilations=(1,))
        assert not flat.heatmaps.any(), order


def test_edges_are_followed():
    """A map that spills over an object's edge is drawn back to it."""
    masks, picture, disc = scene((80, 80), texts=1, dtype=np.float32)
    y, x = np.mgrid[:80, :80]
    masks[0] = np.exp(-((y - 40) ** 2 + (x - 34) ** 2) / 500)
    found = refine(masks, picture, Refinement(10, (2, 4)))[0]

    def iou(heat):
        top = heat >= np.sort(heat.ravel())[-disc.sum()]
        return (top & disc).sum() / (top | disc).sum()

    assert iou(found) > iou(masks[0]) + 0.1, (iou(masks[0]), iou(found))


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"iterations": 1.5}, {"dilations": ()}, {"dilations": (0, 8)}, {"budget": 0}])
def test_wrong_values(wrong):
    with pytest.raises(FastlocError, match=next(iter(wrong))):
        make().refined(**wrong)


def test_wrong_arrays():
    masks, picture, _ = scene((8, 9))
    for wrong in ((masks[0], picture), (masks, picture[:-1]), (masks, picture / 255), (masks.astype(np.int32), picture)):
        with pytest.raises(FastlocError, match="maps"):
            refine(*wrong)


def test_the_command_line_refines(tmp_path: Path, capsys):
    picture = tmp_path / "scene.png"
    Image.fromarray(scene((48, 64))[1]).save(picture)
    found = []
    for more in ([], ["--refine", "pamr"]):
        assert main(["locate", str(picture), "-t", "cat", "dog", "--size", "64", "--method", "itsm", "--json", *more]) == 0
        found.append(json.loads(capsys.readouterr().out)["pictures"][0])
    assert found[0]["refinement"] is None and found[1]["refinement"]["iterations"] == 10
    assert found[0]["texts"][0]["peak"] != found[1]["texts"][0]["peak"]
    with pytest.raises(SystemExit):
        main(["locate", str(picture), "-t", "cat", "--refine", "crf"])
