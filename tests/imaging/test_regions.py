"""Connected regions without scipy: number, order, boxes, areas and largest heat are those of scipy's labelling."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from fastloc.imaging.readouts.regions import Regions, of_runs
from fastloc.imaging.readouts.runs import Runs


def spiral(side: int) -> NDArray[np.bool_]:
    """One region that is as long as it can be, a wall of one pixel between its turns."""
    mask, y, x, down, right = np.zeros((side, side), np.bool_), 0, 0, 0, 1
    mask[0, 0] = True
    for length in (side - 1, *(each for each in range(side - 1, 0, -2) for _ in range(2))):
        for _ in range(length):
            y, x = y + down, x + right
            mask[y, x] = True
        down, right = right, -down
    return mask


def regions(mask: NDArray[np.bool_], heat: NDArray[np.float32], down: bool = False) -> Regions:
    """The regions of the runs of a mask's rows or columns."""
    if not down:
        return of_runs(Runs.of(mask, heat))
    rows = Runs.of(mask.T, heat.T)
    return of_runs(Runs(mask.shape, True, rows.line, rows.start, rows.end, rows.largest))


def noise(share: float, shape: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = np.random.default_rng(seed).random(shape) < share
    mask[shape[0] // 2, shape[1] // 2] = True
    return mask


def comb(side: int) -> NDArray[np.bool_]:
    """Teeth that only the last row joins."""
    mask = np.zeros((side, side), np.bool_)
    mask[:, ::2] = mask[-1] = True
    return mask


MASKS = {
    "one pixel": np.ones((1, 1), np.bool_),
    "a row": noise(0.5, (1, 50), 1),
    "a column": noise(0.5, (50, 1), 2),
    "full": np.ones((7, 5), np.bool_),
    "corners": np.eye(9, dtype=np.bool_) | np.eye(9, dtype=np.bool_)[::-1],
    "chessboard": np.indices((20, 31)).sum(0) % 2 == 0,
    "apart": np.kron(np.ones((6, 8), np.bool_), np.array([[True, False], [False, False]])),
    "spiral": spiral(41),
    "spiral the other way": spiral(41)[::-1, ::-1],
    "comb": comb(31),
    "comb upside down": comb(31)[::-1],
    "ends of rows": np.tile([True, False, False, True], (9, 1)),
    **{f"noise {share}": noise(share, (60, 80), index) for index, share in enumerate((0.02, 0.1, 0.2, 0.3, 0.38, 0.42, 0.5, 0.7, 0.95))},
}


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_regions_are_scipy_s(name: str, down: bool):
    mask = MASKS[name]
    heat = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    found = regions(mask, heat, down)
    assert len(found.boxes) == len(found.area) == len(found.value) == count
    slices = ndimage.find_objects(labels)
    assert found.boxes.tolist() == [[x.start, y.start, x.stop, y.stop] for y, x in slices]
    numbers = range(1, count + 1)
    assert found.area.tolist() == [int((labels == number).sum()) for number in numbers]
    assert found.value.tolist() == [float(heat[labels == number].max()) for number in numbers]
    for number in {1, count // 2 + 1, count}:
        np.testing.assert_array_equal(found.mask(number - 1), labels == number)
    for y, x in zip(*np.nonzero(mask), strict=True):
        assert found.at(int(x), int(y)) == labels[y, x] - 1


def test_runs_of_nothing_and_their_columns():
    nothing = Runs.of(np.zeros((3, 4), np.bool_), np.ones((3, 4), np.float32))
    assert len(nothing.line) == len(nothing.start) == len(nothing.end) == len(nothing.largest) == 0 and nothing.largest.dtype == np.float32
    made = np.zeros((3, 4), np.bool_)
    nothing.columns().fill(made)
    assert not made.any()
    corner = Runs.of(np.eye(3, 4, dtype=np.bool_), np.ones((3, 4), np.float32))
    assert not corner.down and corner.columns().down and corner.columns().columns().line.tolist() == [0, 1, 2]


@pytest.mark.parametrize("down", [False, True])
def test_the_middle_of_runs(down: bool):
    """Of row 2, columns 1 to 4, and row 4, column 6, the mean is (2.4, 3.2), and the pixel nearest to it (2, 3)."""
    mask = np.zeros((7, 9), np.bool_)
    mask[2, 1:5] = mask[4, 6] = True
    runs = Runs.of(mask.T if down else mask, np.ones(mask.T.shape if down else mask.shape, np.float32))
    if down:
        runs = Runs(mask.shape, True, runs.line, runs.start, runs.end, runs.largest)
    assert runs.middle() == runs.middle((0, 0)) == runs.middle((2, 1)) == (2, 3)


def test_of_two_pixels_as_near_the_middle_is_the_first():
    """And where they are counted from is no part of it."""
    pair = Runs.of(np.array([[True, True], [True, True]]), np.ones((2, 2), np.float32))
    assert pair.middle() == pair.columns().middle() == (0, 0)
    moved = Runs((9, 9), False, pair.line + 3, pair.start + 5, pair.end + 5, pair.largest)
    assert moved.middle((3, 5)) == moved.middle((1, 2)) == moved.middle() == (3, 5)


def test_large_and_wide_masks_are_counted_right():
    mask = noise(0.4, (700, 900), 7)
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    found = regions(mask, mask.astype(np.float32))
    assert found.area.tolist() == np.bincount(labels.ravel())[1:].tolist()
    assert count > 100 and found.value.tolist() == [1.0] * count
