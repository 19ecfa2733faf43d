"""Readings of a result against plain statements on its heatmaps, and its files on the disk."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fastloc.errors import FastlocError, TextError
from fastloc.imaging import heatmaps, overlay
from fastloc.imaging.geometry import FITS, fit
from fastloc.results.result import Box, Point, Result

SIZE = (60, 100)
TEXTS = ("a cat", "a dog", "grass")


def blobs(grid, *places):
    """One map a place: a bump of height 1 at that (row, column) of the grid, with tails."""
    y, x = np.mgrid[: grid[0], : grid[1]]
    return np.stack([np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2) for row, column in places])


def make(similarity=None, size=SIZE, name="stretch", texts=TEXTS, **fields):
    geometry = fit(size, 64, 8, name)
    grid = geometry.grid(8)
    if similarity is None:
        similarity = blobs(grid, (1, 1), (4, grid[1] - 2), (grid[0] - 1, 0))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    fields = {"order": "picture", "method": "gem", "model": "tiny", "name": "yard.jpg", **fields}
    return Result(picture=picture, texts=texts, similarity=similarity, geometry=geometry, **fields)


# --- heatmaps, points, masks, boxes, labels


@pytest.mark.parametrize("order", heatmaps.ORDERS)
def test_heatmaps_are_the_maps(order):
    result = make(order=order, logit_scale=40.0)
    expected = heatmaps.heatmaps(result.similarity, result.geometry, order, 40.0)
    np.testing.assert_array_equal(result.heatmaps, expected)
    assert result.heatmaps.dtype == np.float32 and result.heatmaps is result.heatmaps
    with pytest.raises(ValueError, match="read-only"):
        result.heatmaps[:] = 0


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("size", [SIZE, (100, 60)])
def test_points_are_the_peaks(name, size):
    result = make(size=size, name=name)
    raw = heatmaps.upsample(result.similarity, result.geometry)
    for index, point in enumerate(result.points()):
        assert point.text == TEXTS[index]
        heat = result.heatmaps[index]
        assert heat[point.y, point.x] == heat.max() == point.value
        assert point.similarity == pytest.approx(raw[index, point.y, point.x], abs=1e-6)
        # nothing in it is numpy's
        assert (type(point.x), type(point.y), type(point.value), type(point.similarity)) == (int, int, float, float)


def test_a_peak_in_a_border_patch_is_its_middle():
    # the last row's first patch: rows 52.5 to 60 and columns 0 to 12.5, and flat beyond its centre at (56.25, 6.25)
    point = make().points()[2]
    assert 0 < point.x <= 6 and 56 <= point.y < 59


def test_threshold_drops_points():
    result = make(similarity=np.stack([np.zeros((8, 8)), blobs((8, 8), (3, 3))[0]]), texts=("nothing", "something"))
    assert [point.text for point in result.points()] == ["nothing", "something"]
    assert [point.text for point in result.points(0.5)] == ["something"]
    assert result.points()[0].value == 0 and not result.masks()[0].any()
    assert {box.text for box in result.boxes()} == {"something"}


def test_masks_are_thresholded_heatmaps():
    result = make()
    for threshold in (0.0, 0.3, 0.5, 1.0):
        np.testing.assert_array_equal(result.masks(threshold), result.heatmaps >= threshold)
    cropped = make(name="crop")
    rows, columns = cropped.geometry.covered()
    everything = cropped.masks(0.0)
    assert everything[:, rows, columns].all() and everything.sum() == 3 * (rows.stop - rows.start) * (columns.stop - columns.start)


def test_boxes_hold_their_regions():
    # two bumps of different height, both of one text
    similarity = blobs((8, 8), (1, 1))[0] * 0.9 + blobs((8, 8), (6, 6))[0]
    result = make(similarity=similarity[None], texts=("birds",))
    boxes = result.boxes(0.5)
    mask, peak = result.masks(0.5)[0], result.points()[0]
    assert len(boxes) == 2 and boxes[0].value == 1 and boxes[1].value == pytest.approx(0.9, abs=0.01)
    first, second = boxes
    assert first.x0 <= peak.x < first.x1 and first.y0 <= peak.y < first.y1
    assert (second.x1, second.y1) <= (first.x0, first.y0)
    covered = np.zeros_like(mask)
    for box in boxes:
        inside = mask[box.y0 : box.y1, box.x0 : box.x1]
        # tight: every side of the box touches the region
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
        covered[box.y0 : box.y1, box.x0 : box.x1] = True
    assert not (mask & ~covered).any()
    pixels = int(mask[second.y0 : second.y1, second.x0 : second.x1].sum())
    assert result.boxes(0.5, min_area=pixels) == boxes and result.boxes(0.5, min_area=pixels + 1) == [first]
    # the second region is smaller than 500 pixels; the one with the peak is kept however small
    assert result.boxes(0.5, min_area=500) == [first] == result.boxes(0.5, min_area=10**6)
    assert [box.text for box in make().boxes()] == list(TEXTS)


def test_boxes_and_points_are_left_out_by_score():
    result = make(scores=np.array([0.5, 0.4, 0.9]))
    assert {box.text for box in result.boxes(score=0.5)} == {TEXTS[0], TEXTS[2]} == {point.text for point in result.points(score=0.5)}
    assert result.boxes(0.9, score=0.95) == [] == result.points(score=0.95)
    assert result.points(2.0, score=0.0) == [] and result.boxes(score=0) == result.boxes()
    with pytest.raises(FastlocError, match="score must be a finite number, got nan"):
        result.boxes(score=float("nan"))
    with pytest.raises(FastlocError, match=r"score must be left out without scores, got 0\.5; the reason"):
        make(no_scores="the reason").boxes(score=0.5)


def test_labels():
    result = make()
    np.testing.assert_array_equal(result.labels(), heatmaps.upsample(result.similarity, result.geometry).argmax(0))
    some = result.labels(0.5)
    winner = np.take_along_axis(result.heatmaps, result.labels()[None], 0)[0]
    np.testing.assert_array_equal(some == -1, winner < 0.5)
    assert set(np.unique(some)) == {-1, 0, 1, 2}
    # reversed, the least similar text is the most likely
    reverse = make(reverse=True, order="grid")
    np.testing.assert_array_equal(reverse.labels(), heatmaps.upsample(-result.similarity, result.geometry).argmax(0))


# --- what cannot be


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"texts": ()}, TextError, "texts must be one or more"),
        ({"texts": ("a",)}, FastlocError, "T = 1"),
        ({"similarity": np.zeros((3, 64))}, FastlocError, r"\[3, 64\]"),
        ({"similarity": np.full((3, 8, 8), np.nan)}, FastlocError, "'gem' must be finite"),
        ({"scores": np.zeros(2)}, FastlocError, "scores must be"),
        ({"image_scores": np.zeros(2)}, FastlocError, "image_scores must be"),
        ({"scores": np.array([0.1, 0.2, 1.5])}, FastlocError, r"within \[0, 1\], got .*; cosines are image_scores"),
        ({"scores": np.array([0.1, 0.2, np.nan])}, FastlocError, r"within \[0, 1\]"),
        ({"geometry": fit((100, 60), 64, 8)}, FastlocError, "100 x 60"),
    ],
)
def test_refusals(change, error, words):
    fields = vars(make()) | change
    with pytest.raises(error, match=words):
        Result(**fields)


def test_bad_numbers():
    result = make()
    for call in (result.masks, result.points, result.boxes, result.labels):
        with pytest.raises(FastlocError, match="threshold"):
            call(float("nan"))
    with pytest.raises(FastlocError, match="min_area must be a finite number, got 'big'"):
        result.boxes(0.5, "big")
    for alpha in (0, -1, 1.1, float("nan")):
        with pytest.raises(FastlocError, match="alpha"):
            result.overlay(alpha)
    with pytest.raises(FastlocError, match="'trubo': did you mean 'turbo'"):
        result.overlay(colormap="trubo")


def test_short_repr_and_plain_dataclasses():
    result = make(texts=TEXTS)
    assert repr(result) == "Result('yard.jpg' 100 x 60, 'a cat', 'a dog', 'grass', gem on tiny)"
    assert len(repr(make(np.zeros((50, 8, 8)), texts=("text",) * 50))) < 120
    assert Point("a", 1, 2, 0.5, 0.2) == Point("a", 1, 2, 0.5, 0.2) != Box("a", 1, 2, 3, 4, 0.5)


# --- to the outside


def test_to_dict_is_json_and_complete():
    result = make(scores=np.array([0.1, 0.2, 0.3]), image_scores=np.array([-0.1, 0.2, 0.3]), texts=("a", "a", "b"))
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["picture"] == {"height": 60, "width": 100} and data["input"] == {"height": 64, "width": 64, "fit": "stretch"}
    assert data["method"] == "gem" and data["model"] == "tiny" and data["grid"] == {"height": 8, "width": 8}
    assert [each["text"] for each in data["texts"]] == ["a", "a", "b"]
    assert [round(each["score"], 3) for each in data["texts"]] == [0.1, 0.2, 0.3]
    assert [round(each["image_score"], 3) for each in data["texts"]] == [-0.1, 0.2, 0.3]
    assert data["min_score"] is None and data["no_scores"] is None
    # a text asked for twice keeps its own boxes
    assert sum(len(each["boxes"]) for each in data["texts"]) == len(result.boxes())
    for point, each in zip(result.points(), data["texts"], strict=True):
        assert each["peak"] == {"x": point.x, "y": point.y, "value": point.value, "similarity": point.similarity}


def test_npz(tmp_path):
    result = make(scores=np.zeros(3), image_scores=np.full(3, -0.5))
    path = result.to_npz(tmp_path / "maps.npz")
    with np.load(path) as back:
        np.testing.assert_array_equal(back["similarity"], result.similarity)
        np.testing.assert_array_equal(back["heatmaps"], result.heatmaps)
        assert (back["scores"] == 0).all() and (back["image_scores"] == -0.5).all()
        assert back["texts"].tolist() == list(TEXTS) and back["picture"].tolist() == [60, 100] and str(back["fit"]) == "stretch"
    with pytest.raises(FastlocError, match=r"\.npz"):
        result.to_npz(tmp_path / "maps.npy")
    assert os.listdir(tmp_path) == ["maps.npz"]


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "PNG"])
def test_save(tmp_path, extension):
    result = make()
    path = result.save(str(tmp_path / f"where.{extension}"))
    assert Image.open(path).size == result.overlay().size
    # again over the old one, and nothing is left beside it
    result.save(path)
    assert os.listdir(tmp_path) == [path.name]


def test_save_refuses_and_leaves_nothing(tmp_path, monkeypatch):
    result = make()
    for name, word in [("where.xyz", "'.xyz'"), ("where", "no extension"), ("gone/where.png", "does not exist")]:
        with pytest.raises(FastlocError, match=word):
            result.save(tmp_path / name)
    old = tmp_path / "where.png"
    old.write_bytes(b"old")

    def fail(self, file, *args, **kwargs):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(FastlocError, match="disk full"):
        result.save(old)
    assert os.listdir(tmp_path) == ["where.png"] and old.read_bytes() == b"old"


def test_these_rooms_are_light():
    imaging = ("geometry", "images", "heatmaps", "overlay", "preprocess")
    modules = ("errors", "results.result", *(f"imaging.{name}" for name in imaging))
    code = "import sys; " + "; ".join(f"import fastloc.{name}" for name in modules)
    code += "; print([heavy for heavy in ('torch', 'scipy', 'cmap', 'onnxruntime') if heavy in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- the sheet


def test_heat_is_drawn_where_it_is_and_cold_parts_show_the_picture():
    grey = Image.new("RGB", (400, 400), (128, 128, 128))
    heat = np.zeros((1, 400, 400), np.float32)
    heat[0, 100:200, 200:300] = 1
    sheet = np.asarray(overlay.render(grey, ["x"], heat, [None], alpha=0.5), int)
    layout = overlay._layout(grey.size, 2)
    (left, top), (width, height) = layout.corner(1), layout.tile
    tile = sheet[top + overlay.CAPTION :, left:][:height, :width]
    assert tile.shape == (400, 400, 3)
    turbo_end = np.array([122, 4, 3])
    assert np.abs(tile[150, 250] - (turbo_end + 128) / 2).max() <= 1
    cold = np.ones((400, 400), bool)
    cold[99:201, 199:301] = False
    assert (tile[cold] == 128).all()


def test_the_ring_is_at_the_peak():
    black = Image.new("RGB", (640, 480))
    heat = np.zeros((1, 480, 640), np.float32)
    bare, ringed = (np.asarray(overlay.render(black, ["x"], heat, [peak]), int) for peak in (None, (500, 90)))
    layout = overlay._layout(black.size, 2)
    left, top = layout.corner(1)
    y, x, _ = np.argwhere(np.abs(ringed - bare) > 60).mean(0) - (top + overlay.CAPTION, left, 0)
    assert (x, y) == pytest.approx((500, 90), abs=1)


@pytest.mark.parametrize("text", ["", "a\nb\tc\x00", "日本語のプロンプト" * 99, "зелёный дом", "🙂 مرحبا", "word " * 10_000, "\ud800"])
def test_no_prompt_breaks_the_layout(text):
    plain = make(texts=("a", "b", "c")).overlay()
    odd = make(texts=(text, "b", "c")).overlay()
    assert odd.size == plain.size
    # the neighbours' captions and all the tiles are untouched
    layout = overlay._layout((100, 60), 4)
    difference = np.abs(np.asarray(odd, int) - np.asarray(plain, int)).sum(2)
    left, top = layout.corner(1)
    difference[top : top + overlay.CAPTION, left : left + layout.cell[0]] = 0
    assert not difference.any()


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 2), (30, 40), (480, 640), (1500, 2000)])
@pytest.mark.parametrize("count", [1, 2, 4, 8, 30, 200])
def test_layout_is_tidy(size, count):
    layout = overlay._layout(size[::-1], count)
    assert layout.columns * layout.rows >= count > layout.columns * (layout.rows - 1)
    assert layout.sheet[0] * layout.sheet[1] < 70e6
    if count <= 8:
        assert overlay.SMALLEST <= max(layout.tile) <= overlay.LARGEST
    last = layout.corner(count - 1)
    assert last[0] + layout.cell[0] <= layout.sheet[0] and last[1] + layout.cell[1] <= layout.sheet[1] - overlay.FOOT


def test_a_map_of_rounding_noise_is_flat_and_reports_it() -> None:
    similarity = np.full((3, 4, 5), 0.25, np.float32)
    similarity[1] += np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32) * np.float32(1e-8)
    similarity[1, 0, 0] = np.nextafter(np.float32(0.25), np.float32(1))
    similarity[2, 1, 2] = 0.26
    picture, geometry = Image.new("RGB", (50, 40)), fit((40, 50), (40, 50), 10)
    result = Result(picture=picture, texts=("a", "b", "c"), similarity=similarity, geometry=geometry, order="picture")
    assert result.flat == (True, True, False) and not result.heatmaps[:2].any()
    assert [each["flat"] for each in result.to_dict()["texts"]] == [True, True, False]
    assert [each["boxes"] for each in result.to_dict()["texts"]][:2] == [[], []]
