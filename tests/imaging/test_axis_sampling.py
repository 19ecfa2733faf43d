"""The sampling tables of an axis: the same as its matrix, and a map's extremes where they are said to be."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from fastloc.imaging.axis_sampling import bilinear, sample
from fastloc.imaging.geometry import FITS, SHORT_SIDE, Geometry, fit

RNG = np.random.default_rng(0)


def geometries(count):
    """Random geometries with their grids: every fit, odd sizes, non-integer ratios, pictures smaller than the grid and far larger."""
    for index in range(count):
        name = list(FITS)[index % len(FITS)]
        patch = int(RNG.integers(1, 9))
        size = tuple(int(cells) * patch for cells in RNG.integers(1, 9, 2))
        picture = tuple(int(side) for side in RNG.integers(1, [9, 60, 160][index % 3], 2))
        if name in SHORT_SIDE:
            size = size[0], size[0]
        geometry = fit(picture, size, patch, name) if max(picture) <= 32 * min(picture) else fit(picture, size, patch)
        yield geometry, geometry.grid(patch)


def test_extremes_of_a_map_lie_on_the_small_lattice():
    shares = []
    for geometry, grid in geometries(600):
        values = RNG.standard_normal(grid)
        rows, columns = geometry.sampling(grid)
        covered = rows.matrix()[rows.inside] @ values @ columns.matrix()[columns.inside].T
        lattice = rows.matrix()[rows.extremes] @ values @ columns.matrix()[columns.extremes].T
        at = f"{geometry}, grid {grid}"
        # the two products may round differently
        np.testing.assert_allclose([lattice.min(), lattice.max()], [covered.min(), covered.max()], rtol=0, atol=1e-14, err_msg=at)
        assert len(rows.extremes) <= 2 * grid[0] and len(columns.extremes) <= 2 * grid[1], at
        shares.append(lattice.size / covered.size)
    assert min(shares) < 0.01 < max(shares)


@pytest.mark.parametrize("drop", ["first", "last"])
def test_no_end_of_a_cell_can_be_left_out(drop):
    # 4 cells on 31 pixels: leaving out a cell's first or last pixels misses the peak of some map
    rows, columns = fit((31, 31), 4, 1).sampling((4, 4))
    extremes = rows.extremes[1 if drop == "first" else 0 :: 2]
    assert len(extremes) < len(rows.extremes)
    missed = 0
    for _ in range(50):
        values = RNG.standard_normal((4, 4))
        covered = rows.matrix() @ values @ columns.matrix().T
        missed += covered[extremes].max() < covered.max() - 1e-9
    assert missed


def test_tables_say_what_the_matrices_say():
    for geometry, grid in geometries(60):
        values = RNG.standard_normal(max(grid))
        for axis, matrix, inside, seen, cells in zip(
            geometry.sampling(grid), geometry.resampling(grid), geometry.covered(), geometry.seen(grid), grid, strict=True
        ):
            assert (axis.cells, axis.inside, axis.seen) == (cells, inside, seen)
            assert axis.lower.dtype == np.int32 and axis.weight.dtype == np.float64 and axis.extremes.dtype == np.int32
            assert (np.diff(axis.lower) >= 0).all() and axis.weight.min() >= 0 and axis.weight.max() < 1
            mixed = (1 - axis.weight) * values[axis.lower] + axis.weight * values[axis.upper]
            np.testing.assert_allclose(matrix[inside] @ values[:cells], mixed[inside], rtol=0, atol=1e-14)
            assert not np.delete(matrix, np.arange(len(matrix))[inside], axis=0).any()
            # no cell of pure padding is ever read with weight
            assert axis.lower.min() >= seen.start and axis.upper[axis.weight > 0].max(initial=0) < seen.stop


@pytest.mark.parametrize("most", [1, 3, 8])
def test_bands_cover_every_pixel_and_stay_within_a_cell(most):
    for geometry, grid in geometries(60):
        for axis in geometry.sampling(grid):
            starts = axis.bands(most)
            assert starts[0] == 0 and starts[-1] == len(axis.lower) and starts.dtype == np.int32
            assert (np.diff(starts) >= 1).all() and (np.diff(starts) <= most).all()
            for first, stop in pairwise(starts):
                assert len(set(axis.lower[first:stop])) == 1


def test_an_axis_by_hand():
    axis = sample(np.array([-0.5, 0.0, 0.5, 1.25, 2.5]), 3, slice(1, 5), slice(0, 3))
    assert axis.lower.tolist() == [0, 0, 0, 1, 2] and axis.upper.tolist() == [1, 1, 1, 2, 2]
    assert axis.weight.tolist() == [0, 0, 0.5, 0.25, 0]
    assert axis.extremes.tolist() == [1, 2, 3, 4]
    assert axis.bands(2).tolist() == [0, 2, 3, 4, 5]
    assert axis.matrix().tolist() == [[0, 0, 0], [1, 0, 0], [0.5, 0.5, 0], [0, 0.75, 0.25], [0, 0, 1]]
    crop = Geometry((100, 200), (64, 64), "crop", (64, 128), (0, 32)).sampling((4, 4))[1]
    assert crop.inside == slice(50, 150) and crop.extremes[0] == 50 and crop.extremes[-1] == 149


def test_the_matrix_of_interpolate():
    for cells, pixels in ((1, 1), (1, 5), (3, 7), (5, 2), (4, 4)):
        expected = torch.nn.functional.interpolate(torch.eye(cells, dtype=torch.float64)[None], size=pixels, mode="linear")[0].T.numpy()
        np.testing.assert_allclose(bilinear(cells, pixels), expected, rtol=0, atol=1e-12)


def test_cells_that_are_not_seen_have_no_weight():
    axis = sample(np.array([-0.5, 0.4, 1.6, 2.5, 9.0]), 5, slice(0, 5), slice(1, 4))
    assert axis.lower.tolist() == [1, 1, 1, 2, 3]
    np.testing.assert_allclose(axis.weight, [0, 0, 0.6, 0.5, 0], atol=1e-12)
    assert axis.upper.tolist() == [2, 2, 2, 3, 4]
    np.testing.assert_allclose(axis.matrix().sum(0), [0, 2.4, 1.1, 1.5, 0], atol=1e-12)
