"""Painting of heat over frames: the mixture against its exact statement, and the parts that are looked at against all of the heat."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc.imaging.geometry import FITS, fit
from fastloc.imaging.heatmaps import upsample
from fastloc.results.result import Result
from fastloc.video.output.heat_rendering import heat_of
from fastloc.video.output.painting import least_of, paint, paints
from fastloc.video.output.warm_parts import MOST, parts_of, warm_parts


def test_each_cover_over_each_byte() -> None:
    """Covers 0 … 255 of each colour's extremes and middle over each byte of a picture: within two levels of the exact mixture; 0 changes
    nothing and 255 leaves the colour alone."""
    heats = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 256, axis=1)[None]
    pixels = np.stack([np.tile(np.roll(np.arange(256, dtype=np.uint8), 85 * channel), (256, 1)) for channel in range(3)], axis=2)
    for colour in ((255, 0, 128), (0, 255, 1), (0, 0, 0), (255, 255, 255)):
        table = paints(np.tile(np.array(colour, np.uint8), (256, 1)), range(256))
        painted = paint(pixels, parts_of(heats), table)
        cover = np.arange(256, dtype=np.float64)[:, None, None] / 255
        exact = pixels * (1 - cover) + np.array(colour, np.float64) * cover
        assert np.abs(painted - exact).max() < 2, (colour, float(np.abs(painted - exact).max()))
        assert np.array_equal(painted[0], pixels[0]) and (painted[255] == colour).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 5), (7, 300)])
def test_the_highest_heat_of_the_first_text_is_painted(size: tuple[int, int]) -> None:
    """Over every pixel, the last column and row too, and over nothing else."""
    generator = np.random.default_rng(size[1])
    heats, pixels = (generator.integers(0, 8, (4, *size)) * 36).astype(np.uint8), generator.integers(0, 256, (*size, 3)).astype(np.uint8)
    colours = generator.integers(0, 256, (4, 3)).astype(np.uint8)
    table = paints(np.repeat(colours, 256, axis=0), [255] * 256)
    before = pixels.copy()
    expected = colours[heats.argmax(axis=0)]
    assert np.array_equal(paint(pixels, parts_of(heats), table), expected)
    assert np.array_equal(paint(pixels, parts_of(heats, 2), table), expected), "in two threads"
    assert np.array_equal(pixels, before)
    # a part in the middle: what is around it stays
    rows, columns = slice(size[0] // 3, size[0] // 3 + 1), slice(size[1] // 3, size[1] // 3 + max(size[1] // 2, 1))
    expected = pixels.copy()
    expected[rows, columns] = colours[3]
    pixels.flags.writeable = False
    places = np.full(expected[rows, columns].shape[:2], 3 * 256 + 9)
    assert np.array_equal(paint(pixels, [(slice(0, size[0]), [(rows, columns, places)])], table), expected)


def test_texts_without_a_colour_of_their_own() -> None:
    heats = np.zeros((MOST + 2, 1, 2), np.uint8)
    heats[0, 0, 0] = heats[MOST + 1, 0, 1] = 9
    colours = np.arange(3 * MOST).reshape(MOST, 3).astype(np.uint8)
    painted = paint(np.zeros((1, 2, 3), np.uint8), parts_of(heats), paints(np.repeat(colours, 256, axis=0), [255] * 256))
    assert np.array_equal(painted[0], colours[[0, MOST - 1]])


LIMITS = np.array([[0.1, 0.2], [-1.0, 1.0], [0.1, 0.1]])
READOUTS: list[dict[str, Any]] = [
    {}, {"order": "grid"}, {"reverse": True}, {"limits": LIMITS}, {"limits": LIMITS, "reverse": True},
    {"order": "softmax", "logit_scale": 30.0}, {"order": "none"},
]  # fmt: skip


def result_of(size: tuple[int, int], cells: int, how: str, seed: int = 0, texts: int = 3, **fields: Any) -> Result:
    """Random similarities, smooth ones where there are many cells."""
    geometry, random = fit(size, 8 * cells, 8, how), np.random.default_rng(seed)
    grid = geometry.grid(8)
    coarse = random.uniform(size=(texts, -(-grid[0] // 3), -(-grid[1] // 3))).repeat(3, 1).repeat(3, 2)[:, : grid[0], : grid[1]]
    similarity = ((coarse + random.uniform(size=(texts, *grid)) / 3) ** 3).astype(np.float32)
    return Result(
        picture=Image.new("RGB", size[::-1]), texts=[f"{text}" for text in range(texts)], similarity=similarity, geometry=geometry,
        **{"order": "picture", **fields},
    )  # fmt: skip


@pytest.mark.parametrize("how", FITS)
@pytest.mark.parametrize("fields", READOUTS, ids=str)
def test_parts_hold_all_that_is_warm(how: str, fields: dict[str, Any]) -> None:
    """Each pixel from the least step on has the strongest text and its heat, within a step of the full heats, of grids of one cell and
    more; no pixel is there twice, in one thread or several."""
    for seed, (size, cells) in enumerate([((45, 81), 8), ((33, 17), 2), ((7, 9), 1)]):
        found = result_of(size, cells, how, seed, **fields)
        full = heat_of(found, size).astype(int)
        for least, threads in ((1, 1), (77, 3), (255, 2)):
            streams = warm_parts(found, size, least, threads)
            assert [rows.start for rows, _ in streams][1:] == [rows.stop for rows, _ in streams][:-1] and len(streams) == threads
            assert streams[0][0].start == 0 and streams[-1][0].stop == size[0]
            mine, seen = np.zeros(size, int), np.zeros(size, int)
            for rows, columns, places in itertools.chain(*(parts for _, parts in streams)):
                mine[rows, columns] = places
                seen[rows, columns] += 1
            assert seen.max(initial=0) <= 1
            text, heat = mine >> 8, mine & 255
            # a step of rounding may decide whether a pixel shows
            shown = (full.max(0) > least) | (heat >= least)
            assert np.abs(heat - full.max(0))[shown].max(initial=0) <= 1, (how, size, least)
            # and which of two texts is the strongest
            own = np.take_along_axis(full, text[None], 0)[0]
            assert (full.max(0) - own)[shown].max(initial=0) <= 1, (how, size, least)


@pytest.mark.parametrize(("texts", "size"), [(1, (60, 90)), (2, (60, 90)), (5, (61, 93)), (300, (40, 50))])
@pytest.mark.parametrize("fields", [{}, {"limits": True}], ids=str)
def test_a_text_that_leads_a_cell_is_the_strongest_there(texts: int, size: tuple[int, int], fields: dict[str, Any]) -> None:
    """The bytes of all heats give the same text as those of the texts that compete, but for a step of rounding."""
    limits = np.tile([[0.1, 0.5]], (texts, 1)) if fields else None
    found = result_of(size, 9, "stretch", texts, texts, limits=limits)
    full = heat_of(found, size).astype(int)
    ((_, parts),) = warm_parts(found, size, 30)
    off = 0
    for rows, columns, places in parts:
        expected = np.stack([full[text, rows, columns] for text in range(texts)])
        strongest = np.minimum(expected.argmax(0), MOST - 1)
        wrong = (places >> 8 != strongest) & (expected.max(0) >= 30)
        # the two are a step apart in the full heats too, where the one or the other is the first
        for y, x in np.argwhere(wrong):
            mine = expected[min(places[y, x] >> 8, texts - 1), y, x] if texts <= MOST else expected[:, y, x].max()
            assert expected[:, y, x].max() - mine <= 1
        off += int(wrong.sum())
    assert off <= 0.002 * size[0] * size[1], off


def test_equal_texts_are_the_first_ones() -> None:
    """Three times the same map, and one that is cut off at the top as they are: everywhere the first."""
    size = (64, 96)
    once = result_of(size, 8, "stretch", 3, 1).similarity
    for limits in (None, np.array([[0.0, 0.2]] * 4)):
        similarity = np.concatenate([once, once, once, once if limits is None else once + 0.05])
        found = replace(result_of(size, 8, "stretch", 3, 4, limits=limits), similarity=similarity)
        # there each of them is cut off, whatever rounding does
        above = upsample(once, found.geometry)[0] > 0.201
        assert 0 < above.mean() < 1
        for rows, columns, places in warm_parts(found, size, 1)[0][1]:
            where = ... if limits is None else above[rows, columns]
            assert not (places >> 8)[where].any()


def literal(found: Result, pixels: Any, table: Any, cover: Any) -> tuple[Any, Any]:
    """The picture [H, W, 3] in float64: colours, [n, 3], over it, as opaque as `cover` [256] says of the first of the strongest heats; and
    where that is clear, whatever rounding does to the heats."""
    size = pixels.shape[:2]
    rows, columns = found.geometry.resampling(found.similarity.shape[1:])
    maps = np.stack([rows @ each @ columns.T for each in found.similarity.astype(np.float64)])
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    exact = 255 * (maps - low) / (high - low)
    steps = np.floor(exact + 0.5)
    ordered = np.sort(exact, axis=0)
    near = np.abs(exact.max(0) + 0.5 - np.rint(exact.max(0) + 0.5)) < 1e-3
    clear = ~near & ((ordered[-1] - ordered[-2] > 1 + 1e-3) if len(maps) > 1 else True)
    share = np.asarray(cover)[steps.max(0).astype(int)][..., None] / 255
    colour = table[steps.argmax(0)]
    assert maps.shape[1:] == size
    return pixels * (1 - share) + colour * share, clear


@pytest.mark.parametrize("threads", [1, 2])
def test_a_painted_frame_is_the_exact_mixture(threads: int) -> None:
    """Of four texts, within two levels of the float64 statement wherever that is clear, which is nearly everywhere."""
    size = (270, 480)
    found = result_of(size, 28, "stretch", 5, 4)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    colours = np.array([[255, 84, 48], [40, 140, 255], [64, 214, 96], [255, 200, 20]], np.uint8)
    cover = [0] * 70 + list(range(186))
    table = paints(np.repeat(colours, 256, axis=0), cover)
    painted = paint(pixels, warm_parts(found, size, least_of(table), threads), table)
    expected, clear = literal(found, pixels, colours.astype(float), cover)
    assert clear.mean() > 0.95
    assert np.abs(painted - expected)[clear].max() < 2


def parts_around(warm: Sequence[tuple[int, int, int]], size: tuple[int, int]) -> list[tuple[slice, slice, set[int]]]:
    """Rows, columns and texts of the parts of a picture with warm cells (text, row, column) of 8 x 8."""
    similarity = np.zeros((3, 8, 8), np.float32)
    for cell in warm:
        similarity[cell] = 1
    found = Result(
        picture=Image.new("RGB", size[::-1]), texts=["a", "b", "c"], similarity=similarity, geometry=fit(size, 64, 8, "stretch"),
        order="picture",
    )  # fmt: skip
    ((_, stream),) = warm_parts(found, size, 128)
    return [(rows, columns, set(np.unique(places >> 8).tolist())) for rows, columns, places in stream]


def test_parts_leave_out_what_is_cold() -> None:
    """A warm cell of one text: one part around it, of that text. Two of one row, or of rows one below the other, are one part with what
    lies between in a small picture; in a large one, where that costs more than a part, each row of each has its own."""
    assert parts_around([(1, 2, 5)], (80, 160)) == [(slice(15, 35), slice(90, 130), {1})]
    assert parts_around([(1, 2, 1), (2, 2, 5)], (80, 160)) == [(slice(15, 35), slice(0, 130), {1, 2})]
    assert parts_around([(1, 2, 1), (1, 4, 5)], (80, 160)) == [(slice(15, 55), slice(0, 130), {1})]
    assert parts_around([(1, 2, 1), (2, 2, 5)], (800, 1600)) == [
        (slice(150, 250), slice(0, 500), {1}), (slice(150, 250), slice(900, 1300), {2}),
        (slice(250, 350), slice(0, 500), {1}), (slice(250, 350), slice(900, 1300), {2}),
    ]  # fmt: skip
    assert parts_around([(1, 2, 1), (1, 4, 5)], (800, 1600)) == [
        (slice(150, 250), slice(0, 500), {1}), (slice(250, 350), slice(0, 500), {1}),
        (slice(350, 450), slice(900, 1300), {1}), (slice(450, 550), slice(900, 1300), {1}),
    ]  # fmt: skip


def test_the_least_step_that_shows() -> None:
    black = np.zeros((256, 3), np.uint8)
    assert least_of(paints(black, [0] * 30 + [1] * 226)) == 30
    assert least_of(paints(black, [0] * 256)) == least_of(paints(black, [9] * 256)) == 1
