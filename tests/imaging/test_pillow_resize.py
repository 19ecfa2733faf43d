"""A numpy resize built on the taps gives Pillow's own bytes, for every interpolation and size."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.imaging.pillow_resize import PRECISION_BITS, taps, vertical_first
from fastloc.imaging.preprocess import INTERPOLATIONS

Bytes = NDArray[np.uint8]

# (H, W) of the picture and of the result: down, up, both, one pixel, prime sides, a side that stays, either axis first
SIZES = (
    ((97, 131), (32, 32)), ((30, 20), (97, 131)), ((101, 37), (53, 89)), ((1, 1), (7, 5)), ((1, 50), (16, 16)), ((50, 1), (16, 16)),
    ((64, 64), (1, 1)), ((2, 3), (3, 2)), ((48, 80), (48, 31)), ((48, 80), (29, 80)), ((48, 80), (48, 80)), ((3, 700), (64, 64)),
    ((224, 300), (448, 448)), ((480, 640), (224, 299)), ((640, 480), (224, 224)), ((640, 480), (224, 272)), ((640, 480), (224, 273)),
    ((1000, 9), (50, 40)), ((901, 9), (50, 3)),
)


def resized(pixels: Bytes, size: tuple[int, int], interpolation: str) -> Bytes:
    """uint8 [H, W, 3] -> uint8 [*size, 3], in integers."""
    for axis in (0, 1) if vertical_first((pixels.shape[0], pixels.shape[1]), size) else (1, 0):
        part = taps(pixels.shape[axis], size[axis], interpolation)
        lines = np.moveaxis(pixels, axis, 0).astype(np.int32)
        total = np.full((size[axis], *lines.shape[1:]), 1 << (PRECISION_BITS - 1), np.int32)
        for k in range(part.weights.shape[1]):
            total += lines[part.start + k] * part.weights[:, k, None, None]
        pixels = np.moveaxis(np.clip(total >> PRECISION_BITS, 0, 255).astype(np.uint8), 0, axis)
    return pixels


def picture(size: tuple[int, int], seed: int, *, harsh: bool) -> Bytes:
    """Noise; a harsh one is black and white only, so that overshoots are clipped."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return np.where(noise < 128, 0, 255).astype(np.uint8) if harsh else noise


def check(before: tuple[int, int], after: tuple[int, int], interpolation: str, *, harsh: bool) -> None:
    pixels = picture(before, sum(before) + sum(after), harsh=harsh)
    expected = np.asarray(Image.fromarray(pixels).resize(after[::-1], INTERPOLATIONS[interpolation]))
    found = resized(pixels, after, interpolation)
    wrong = np.count_nonzero(found != expected)
    assert wrong == 0, f"{before} to {after}, {interpolation}: {wrong} of {expected.size} bytes differ"


@pytest.mark.parametrize("harsh", [False, True], ids=["noise", "harsh"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_bytes_are_pillows(interpolation: str, harsh: bool) -> None:
    for before, after in SIZES:
        check(before, after, interpolation, harsh=harsh)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_video_frame(interpolation: str) -> None:
    check((1080, 1920), (448, 448), interpolation, harsh=False)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_small_size(interpolation: str) -> None:
    for before in range(1, 24):
        for after in range(1, 24):
            check((before, after), (after, before), interpolation, harsh=True)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_random_sizes(interpolation: str) -> None:
    sides = np.random.default_rng(7).integers(1, 400, (60, 4))
    for a, b, c, d in sides.tolist():
        check((a, b), (c, d), interpolation, harsh=False)


@pytest.mark.parametrize(
    ("before", "after", "versions"),
    [
        ((1080, 1920), (448, 448), ""),
        ((1920, 1080), (448, 448), "13"),
        ((640, 480), (224, 272), ""),
        ((640, 480), (224, 273), "13"),
        ((1000, 9), (50, 40), "12.2 13"),
        ((1000, 9), (2000, 40), ""),
    ],
)
def test_the_first_pass(before: tuple[int, int], after: tuple[int, int], versions: str) -> None:
    since = {"10.3.0": "", "12.1.1": "", "12.2.0": "12.2", "12.10.0": "12.2", "13.0.0": "13", "13.1.0.dev0": "13"}
    for version, rule in since.items():
        assert vertical_first(before, after, version) == bool(rule and rule in versions), version


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_taps_stay_inside(interpolation: str) -> None:
    for size_in, size_out in ((1, 9), (2, 9), (5, 3), (100, 7), (7, 100), (1920, 448), (33, 33)):
        part = taps(size_in, size_out, interpolation)
        assert part.start.shape == (size_out,) and part.start.dtype == part.weights.dtype == np.int32
        assert part.start.min() >= 0 and part.start.max() + part.weights.shape[1] <= size_in, f"{size_in} to {size_out}"
        # each weight is rounded by at most a half
        assert np.abs(part.weights.sum(1) - (1 << PRECISION_BITS)).max() <= part.weights.shape[1] / 2


def test_refusals() -> None:
    with pytest.raises(FastlocError, match=r"unknown interpolation 'bicubik': did you mean 'bicubic'\?"):
        taps(4, 5, "bicubik")
    for sizes in ((0, 5), (5, 0), (-1, 5)):
        with pytest.raises(FastlocError, match="sizes of a resize must be positive"):
            taps(*sizes, "bicubic")
