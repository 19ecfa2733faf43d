"""Painting of heat over frames: the mixture against its exact statement, and the parts that are looked at against all of the heat."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc.imaging.geometry import FITS, fit
from fastloc.results.result import Result
from fastloc.video.output.heat_rendering import heat_of
from fastloc.video.output.painting import MOST, least_of, paint, paints
from fastloc.video.output.warm_parts import parts_of, warm_parts


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
    assert np.array_equal(paint(pixels, parts_of(heats), table), colours[heats.argmax(axis=0)])
    assert np.array_equal(pixels, before)
    # a part in the middle, of some texts: what is around it stays
    rows, columns = slice(size[0] // 3, size[0] // 3 + 1), slice(size[1] // 3, size[1] // 3 + max(size[1] // 2, 1))
    expected, texts = pixels.copy(), [1, 3]
    expected[rows, columns] = colours[texts][heats[texts][:, rows, columns].argmax(axis=0)]
    pixels.flags.writeable = False
    assert np.array_equal(paint(pixels, [(rows, columns, texts, heats[texts][:, rows, columns])], table), expected)


def test_texts_without_a_colour_of_their_own() -> None:
    heats = np.zeros((MOST + 2, 1, 2), np.uint8)
    heats[0, 0, 0] = heats[MOST + 1, 0, 1] = 9
    colours = np.arange(3 * MOST).reshape(MOST, 3).astype(np.uint8)
    painted = paint(np.zeros((1, 2, 3), np.uint8), parts_of(heats), paints(np.repeat(colours, 256, axis=0), [255] * 256))
    assert np.array_equal(painted[0], colours[[0, MOST - 1]])


LIMITS = np.array([[0.1, 0.2], [-1.0, 1.0], [0.1, 0.1]])


@pytest.mark.parametrize("how", FITS)
@pytest.mark.parametrize(
    "fields",
    [{}, {"order": "grid"}, {"reverse": True}, {"limits": LIMITS}, {"limits": LIMITS, "reverse": True},
     {"order": "softmax", "logit_scale": 30.0}, {"order": "none"}],
    ids=str,
)  # fmt: skip
def test_parts_hold_all_that_is_warm(how: str, fields: dict[str, Any]) -> None:
    """Each pixel and text from the least step on, within a step of the full heat, of grids of one cell and more; no pixel twice."""
    for seed, (size, cells) in enumerate([((45, 81), 8), ((33, 17), 2), ((7, 9), 1)]):
        geometry = fit(size, 8 * cells, 8, how)
        similarity = (np.random.default_rng(seed).uniform(size=(3, *geometry.grid(8))) ** 3).astype(np.float32)
        made = {"order": "picture", **fields}
        found = Result(picture=Image.new("RGB", size[::-1]), texts=["a", "b", "c"], similarity=similarity, geometry=geometry, **made)
        full = heat_of(found, size)
        for least in (1, 77, 255):
            mine, seen = np.zeros_like(full), np.zeros(size, int)
            for rows, columns, texts, heats in warm_parts(found, size, least):
                mine[texts, rows, columns] = heats
                seen[rows, columns] += 1
                assert texts == sorted(texts)
            warm = np.maximum(full, mine) >= least
            off = np.abs(full.astype(int) - mine)[warm & (full != least)].max(initial=0)
            assert seen.max(initial=0) <= 1 and off <= 1, (how, size, least, off)


def test_parts_leave_out_what_is_cold() -> None:
    """A warm cell of one text: one part around it, of that text."""
    similarity = np.zeros((3, 8, 8), np.float32)
    similarity[1, 2, 5] = 1
    found = Result(
        picture=Image.new("RGB", (160, 80)), texts=["a", "b", "c"], similarity=similarity, geometry=fit((80, 160), 64, 8), order="picture"
    )
    parts = [(rows, columns, texts) for rows, columns, texts, _ in warm_parts(found, (80, 160), 128)]
    assert parts == [(slice(15, 25), slice(90, 130), [1]), (slice(25, 35), slice(90, 130), [1])]


def test_the_least_step_that_shows() -> None:
    black = np.zeros((256, 3), np.uint8)
    assert least_of(paints(black, [0] * 30 + [1] * 226)) == 30
    assert least_of(paints(black, [0] * 256)) == least_of(paints(black, [9] * 256)) == 1
