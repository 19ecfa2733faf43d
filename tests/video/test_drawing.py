"""Drawing on frames: the cheap heat against `Result.heatmaps`, and each style."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import FITS, fit
from fastloc.results.result import Result
from fastloc.video.output import annotations
from fastloc.video.output.drawing import STYLES, Drawer, hue
from fastloc.video.output.heat_rendering import heat_of, reduced
from fastloc.video.output.peaks import peaks_of

HIGH, WIDE = 90, 160


def result(texts: int = 3, seed: int = 0, size: tuple[int, int] = (HIGH, WIDE), how: str = "stretch", **fields: Any) -> Result:
    """Random similarities on a coarse grid."""
    geometry = fit(size, 64, 8, how)
    grid = geometry.grid(8)
    similarity = np.random.default_rng(seed).uniform(-0.2, 0.4, (texts, *grid)).astype(np.float32)
    names = [f"text {index}" for index in range(texts)]
    picture = Image.new("RGB", size[::-1])
    return Result(**{"picture": picture, "texts": names, "similarity": similarity, "geometry": geometry, "order": "picture", **fields})


def frame(size: tuple[int, int] = (HIGH, WIDE)) -> Any:
    return np.full((*size, 3), (60, 90, 120), np.uint8)


READOUTS: dict[str, dict[str, Any]] = {
    "picture": {},
    "grid": {"order": "grid"},
    "reverse": {"reverse": True},
    "reverse grid": {"order": "grid", "reverse": True},
    "one text of a softmax": {"texts": 1, "order": "softmax", "logit_scale": 30.0},
    "limits": {"limits": np.array([[0.0, 0.2], [-1.0, 1.0], [0.1, 0.1]])},
    "limits, reverse": {"limits": np.array([[0.0, 0.2], [-1.0, 1.0], [0.1, 0.1]]), "reverse": True},
    "constant": {"similarity": np.full((3, 8, 8), 0.3, np.float32), "how": "stretch"},
}


@pytest.mark.parametrize(("name", "how"), [each for each in itertools.product(READOUTS, FITS) if each != ("constant", "aspect")])
def test_heat_is_the_results_heatmap(name: str, how: str) -> None:
    """At the picture's size within one step of 255, for every read-out that stretches and every fit."""
    found = result(**({"how": how} | READOUTS[name]))
    steps = np.stack(list(heat_of(found, (HIGH, WIDE))))
    off = np.abs(steps / 255 - found.heatmaps).max()
    assert steps.dtype == np.uint8 and off <= 1 / 255, f"{name}, {how}: off by {off * 255:.2f} steps"


@pytest.mark.parametrize("name", [each for each in READOUTS if each != "constant"])
def test_heat_at_another_size(name: str) -> None:
    """Of a tile: what the full map shows at the pixels that the tile's lie on."""
    found = result(**READOUTS[name])
    steps = np.stack(list(heat_of(found, (HIGH // 3, WIDE // 3 + 1))))
    similarity, full = found.similarity, heatmaps.upsample(found.similarity, found.geometry)
    limits = found.limits
    if limits is None:
        ends = similarity if found.order == "grid" else full
        limits = np.stack([ends.min(axis=(1, 2)), ends.max(axis=(1, 2))], axis=1)
    geometry = replace(found.geometry, picture=(HIGH // 3, WIDE // 3 + 1))
    expected = heatmaps.heatmaps(similarity, geometry, "picture", None, found.reverse, limits)
    assert np.abs(steps / 255 - expected).max() <= 1 / 255, name


def test_competing_texts_are_made_small_and_enlarged() -> None:
    """A softmax is no stretch: on a large picture its map is within 0.06 of the full one, and within 0.002 on average,
    even where neighbouring patches have nothing in common."""
    found = result(size=(720, 1280), order="softmax", logit_scale=30.0)
    off = np.abs(np.stack(list(heat_of(found, (720, 1280)))) / 255 - found.heatmaps)
    assert off.max() <= 0.06 and off.mean() <= 0.002, (float(off.max()), float(off.mean()))
    raw = result(order="none")
    assert np.abs(np.stack(list(heat_of(raw, (HIGH, WIDE)))) / 255 - heatmaps.minmax(raw.heatmaps)).max() <= 1 / 255


@pytest.mark.parametrize("how", FITS)
@pytest.mark.parametrize("name", ["picture", "grid", "reverse", "reverse grid", "one text of a softmax", "wide limits"])
def test_peaks_are_the_results_points(name: str, how: str) -> None:
    """To the pixel, also at the border, where a map is flat."""
    fields = READOUTS.get(name, {"limits": np.array([[-1.0, 1.0]] * 3)})
    for seed in range(20):
        found = result(size=(90, 141), how=how, seed=seed, **fields)
        for full, near in zip(found.points(), peaks_of(found), strict=True):
            assert (near.text, near.x, near.y) == (full.text, full.x, full.y), f"{name}, {how}, {seed}"
            assert near.value == pytest.approx(full.value, abs=1e-5) and near.similarity == pytest.approx(full.similarity, abs=1e-5)


def test_peaks_of_maps_that_are_cut_off() -> None:
    """The middle of what is at the limit, as seen from further away."""
    similarity = _blobs(2)
    found = result(2, size=(360, 640), similarity=similarity, limits=np.array([[0.0, 0.5], [0.0, 0.5]]))
    for full, near in zip(found.points(), peaks_of(found), strict=True):
        assert full.value == near.value == 1 and abs(full.x - near.x) <= 2 and abs(full.y - near.y) <= 2, (full, near)


def _blobs(texts: int) -> Any:
    """One warm place each."""
    y, x = np.mgrid[:8, :8]
    return np.stack([np.exp(-((y - 3) ** 2 + (x - 2 - 2 * index) ** 2) / 4) for index in range(texts)]).astype(np.float32)


@pytest.mark.parametrize("order", ["picture", "grid"])
def test_boxes_from_further_away(order: str) -> None:
    """Off by one small pixel at most."""
    found = result(2, size=(360, 640), similarity=_blobs(2), order=order)
    full, near = found.boxes(), reduced(found, 160).boxes()
    assert len(full) == len(near) == 2
    for one, other in zip(full, near, strict=True):
        sides = zip((one.x0, one.y0, one.x1, one.y1), (other.x0, other.y0, other.x1, other.y1), strict=True)
        assert all(abs(4 * there - here) <= 4 for here, there in sides), (one, other)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("texts", [1, 3])
def test_each_style_draws(style: str, texts: int) -> None:
    """On a copy, the same bytes each time, on frames of any size."""
    for size in ((HIGH, WIDE), (33, 17), (1, 1)):
        pixels, found = frame(size), result(texts, size=size)
        drawer = Drawer(style)
        first, again = drawer(pixels, found), drawer(pixels, found)
        assert first.dtype == np.uint8 and first.ndim == 3 and np.array_equal(first, again)
        assert np.array_equal(pixels, frame(size)), "the frame itself is left as it was"
        assert np.array_equal(first, Drawer(style)(pixels, found)), "and by another drawer"
        assert first.shape == pixels.shape or style == "tiles"
        if size[0] > 1:
            assert not np.array_equal(first, pixels), (style, size)


def test_threads_draw_the_same() -> None:
    found, pixels = result(4, size=(1024, 1024)), frame((1024, 1024))
    alone = Drawer(threads=1)(pixels, found)
    for threads in (2, 3):
        assert np.array_equal(Drawer(threads=threads)(pixels, found), alone), threads
    with pytest.raises(FastlocError, match="threads must be 1 or more, got 0"):
        Drawer(threads=0)


def test_the_strongest_text_colours_a_pixel() -> None:
    """Two texts, a half each: full heat has the text's own colour at the opacity, cold regions are the picture's."""
    similarity = np.zeros((2, 8, 8), np.float32)
    similarity[0, :, :2], similarity[1, :, 6:] = 1, 1
    drawn = Drawer("heat", opacity=0.5)(frame(), result(2, similarity=similarity))
    for index, column in enumerate((1, WIDE - 2)):
        expected = (np.array(hue(index)) + frame()[0, 0]) / 2
        assert np.abs(drawn[HIGH - 2, column] - expected).max() <= 1.5, (index, drawn[HIGH - 2, column])
    assert np.array_equal(drawn[HIGH - 2, WIDE // 2], frame()[0, 0])


def test_one_text_has_the_colour_map() -> None:
    similarity = np.zeros((1, 8, 8), np.float32)
    similarity[0, :, :2] = 1
    drawn = Drawer("heat", opacity=1.0, colormap="gray")(frame(), result(1, similarity=similarity))
    assert np.abs(drawn[HIGH - 2, 1].astype(int) - 255).max() <= 1 and np.array_equal(drawn[HIGH - 2, -2], frame()[0, 0])


def test_a_map_that_limits_keep_cold_shows_nothing() -> None:
    """No heat, no ring, no box: the legend alone, or nothing at all."""
    cold = result(2, limits=np.array([[5.0, 6.0], [5.0, 6.0]]))
    legend = np.any(Drawer("heat")(frame(), cold) != frame(), axis=-1)
    assert legend.any() and not legend[:, WIDE // 2 :].any() and not legend[HIGH // 2 :].any()
    for style in ("boxes", "points"):
        assert np.array_equal(Drawer(style)(frame(), cold), frame()), style


def test_a_ring_is_at_the_peak() -> None:
    found = result(1)
    point = found.points()[0]
    drawn, without = Drawer("points")(frame(), found), frame()
    centre = drawn[max(point.y - 4, 0) : point.y + 5, max(point.x - 4, 0) : point.x + 5]
    assert np.any(drawn != without) and centre.max() == 255 and point.value == 1


def test_a_box_is_where_the_result_has_it() -> None:
    similarity = np.zeros((1, 8, 8), np.float32)
    similarity[0, 3:5, 2:6] = 1
    found = result(1, similarity=similarity)
    box, drawn = found.boxes()[0], Drawer("boxes")(frame(), result(1, similarity=similarity))
    assert len(found.boxes()) == 1
    for y, x in ((box.y0, box.x0), (box.y1 - 1, box.x1 - 1), (box.y0, box.x1 - 1), (box.y1 - 1, box.x0)):
        assert tuple(drawn[y, x]) == hue(0), (y, x, drawn[y, x])
    within = (slice(box.y0 + 5, box.y1 - 5), slice(box.x0 + 5, box.x1 - 5))
    assert np.array_equal(drawn[within], frame()[within])


@pytest.mark.parametrize(
    ("size", "texts", "grid"), [((720, 1280), 1, (1, 2)), ((720, 1280), 3, (2, 2)), ((1280, 720), 2, (1, 3)), ((48, 64), 3, (2, 2))]
)
def test_sheets(size: tuple[int, int], texts: int, grid: tuple[int, int]) -> None:
    """Side by side, no wider than a screen or than the frame, the frame's own shape in each tile, the picture first."""
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    sheet = Drawer("tiles")(pixels, result(texts, size=size))
    height, width = (round((side + 4) / count) - 4 for side, count in zip(sheet.shape, grid, strict=False))
    assert abs(width / height - size[1] / size[0]) < 0.02 and max(sheet.shape) <= 1920 + 8, sheet.shape
    if (height, width) == size:
        assert np.array_equal(sheet[:height, :width], pixels)


def test_many_and_long_texts() -> None:
    """More texts than colours in a byte, and letters for twice the frame."""
    drawn = Drawer("heat")(frame(), result(300))
    assert drawn.shape == frame().shape
    words = replace(result(1), texts=("a sentence that is far too long for a chip " * 5,))
    for style in STYLES:
        assert Drawer(style)(frame(), words).size
    assert annotations.chip("x" * 999, "0.50", (1, 2, 3), 12, 100).width <= 100 and annotations.chip("漢字", "", None, 20, 200).width > 20
    assert len({hue(index) for index in range(40)}) == 40


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(FastlocError, match="unknown style 'heart': did you mean 'heat'"):
        Drawer("heart")
    with pytest.raises(FastlocError, match="unknown colour map 'turbot'"):
        Drawer(colormap="turbot")
    for name in ("opacity", "threshold"):
        for value in (0.0, 1.1, float("nan")):
            with pytest.raises(FastlocError, match=f"{name} must be above 0 and at most 1, got {value!r}"):
                Drawer(**{name: value})
