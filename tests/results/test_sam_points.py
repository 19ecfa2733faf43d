"""Point prompts for SAM: cases worked out by hand, and CLIP Surgery's rule stated once more, line by line."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.imaging.geometry import FITS, fit
from fastloc.results.result import Result
from fastloc.results.sam_points import sam_points, together


def literal(similarity, shape, threshold, down_sample):
    """`similarity_map_to_points` in the official code's steps: a square map [N] over a picture of `shape`."""
    side = int(len(similarity) ** 0.5)
    small = side // down_sample
    grid = torch.nn.functional.interpolate(similarity.reshape(1, 1, side, side), (small, small), mode="bilinear")[0, 0].reshape(-1)
    grid = (grid - grid.min()) / (grid.max() - grid.min())
    rank = grid.sort(0)[1]
    count = min(int((grid >= threshold).sum()), len(grid) // 2)
    scale = float(shape[0]) / small, float(shape[1]) / small
    places = []
    for index in [*rank[-count:].tolist(), *rank[:count].tolist()]:
        x = min((index % small + 0.5) * scale[1], shape[1] - 1)
        y = min((index // small + 0.5) * scale[0], shape[0] - 1)
        places.append([int(x), int(y)])
    return np.array(places), np.array([1] * count + [0] * count)


def make(similarity, size=(64, 64), name="stretch", patch=8, texts=("cat",), **fields):
    grid = similarity.shape[1:]
    geometry = fit(size, (grid[0] * patch, grid[1] * patch), patch, name)
    picture = Image.new("RGB", size[::-1])
    return Result(picture=picture, texts=texts, similarity=similarity, geometry=geometry, order="picture", **fields)


@pytest.mark.parametrize("side", [6, 7, 14, 28])
@pytest.mark.parametrize("size", [(448, 448), (480, 640), (333, 50), (5, 3)])
@pytest.mark.parametrize(("threshold", "down_sample"), [(0.8, 2), (0.5, 1), (0.95, 3), (0.01, 2)])
def test_square_grids_follow_the_official_rule(side, size, threshold, down_sample):
    similarity = np.random.default_rng(side).normal(size=(side, side)).astype(np.float32)
    found = sam_points("cat", similarity, fit(size, side * 16, 16), threshold, down_sample)
    coordinates, labels = literal(torch.from_numpy(similarity.ravel()).double(), size, threshold, down_sample)
    np.testing.assert_array_equal(found.coordinates, coordinates, f"{side}, {size}")
    np.testing.assert_array_equal(found.labels, labels)
    assert found.coordinates.dtype == found.labels.dtype == np.int64


def test_by_hand():
    # 4 x 4 cells make 2 x 2 means: 0, 1 / 2, 10; only the last reaches 0.8
    similarity = np.kron(np.array([[0, 1], [2, 10]]), np.ones((2, 2))).astype(np.float32)[None]
    (found,) = make(similarity, (40, 80)).sam_points()
    # centres of the quarters of an 80 x 40 picture
    assert found.coordinates.tolist() == [[60, 30], [20, 10]] and found.labels.tolist() == [1, 0] and found.text == "cat"
    for given in ({}, {"threshold": 0.8}, {"down_sample": 2}):
        alone = sam_points("cat", similarity[0], fit((40, 80), 32, 8), **given)
        np.testing.assert_array_equal(alone.coordinates, found.coordinates)
    # a threshold of 1 is the highest itself
    assert make(similarity, (40, 80)).sam_points(1.0)[0].coordinates.tolist() == [[60, 30], [20, 10]]
    # half of all at most, from low to high
    (found,) = make(similarity, (40, 80)).sam_points(threshold=0.01)
    assert found.coordinates.tolist() == [[20, 30], [60, 30], [20, 10], [60, 10]] and found.labels.tolist() == [1, 1, 0, 0]
    # reversed, the least similar is where the text is
    (found,) = make(similarity, (40, 80), reverse=True).sam_points(0.9)
    assert found.coordinates.tolist() == [[60, 10], [20, 10], [60, 30], [20, 30]]


def test_a_grid_of_other_sides():
    # 2 x 6 cells make 1 x 3: 3, 0, 1 from left to right
    similarity = np.kron(np.array([[3, 0, 1]]), np.ones((2, 2))).astype(np.float32)[None]
    (found,) = make(similarity, (20, 90)).sam_points()
    assert found.coordinates.tolist() == [[15, 10], [45, 10]] and found.labels.tolist() == [1, 0]


def test_padding_takes_no_part():
    # a picture twice as wide as high lies in the middle four rows of eight; the padding's extremes are no points
    similarity = np.zeros((1, 8, 8), np.float32)
    similarity[0, :2], similarity[0, 6:] = 100, -100
    similarity[0, 2:4, 4:6], similarity[0, 4:6, :2] = 5, -5
    (found,) = make(similarity, (100, 200), "letterbox").sam_points()
    assert found.coordinates.tolist() == [[125, 25], [25, 75]] and found.labels.tolist() == [1, 0]


def test_a_crop_keeps_points_where_the_model_looked():
    similarity = np.zeros((1, 4, 4), np.float32)
    similarity[0, :2, :2], similarity[0, 2:, 2:] = 1, -1
    (found,) = make(similarity, (100, 200), "crop").sam_points()
    # the middle 100 columns were seen, from 50 on
    assert found.coordinates.tolist() == [[75, 25], [125, 75]]


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("size", [(37, 91), (91, 37), (3, 2)])
def test_points_lie_on_the_picture(name, size):
    geometry = fit(size, 48, 16, name)
    grid = geometry.grid(16)
    similarity = np.random.default_rng(0).normal(size=grid).astype(np.float32)
    found = sam_points("cat", similarity, geometry, 0.3, 1)
    x, y = found.coordinates.T
    if grid == (1, 1):
        assert not len(x), "one cell is neither the warmest nor the coldest"
        return
    assert len(x) and (x >= 0).all() and (x < size[1]).all() and (y >= 0).all() and (y < size[0]).all()
    # the best cell of those that hold some of the picture is the last positive
    rows, columns = geometry.seen(grid)
    top = np.unravel_index(similarity[rows, columns].argmax(), similarity[rows, columns].shape)
    centre = geometry.to_picture([[(columns.start + top[1] + 0.5) * 16, (rows.start + top[0] + 0.5) * 16]])[0]
    last = found.coordinates[found.labels == 1][-1]
    assert np.abs(last - np.clip(centre, 0, (size[1] - 1, size[0] - 1))).max() < max(16 / min(geometry.scale), 1)


def test_several_texts_as_one_object():
    # positives of each text's own map, negatives of the mean of the min-maxed maps, which come first
    left, right = np.zeros((2, 4, 4), np.float32)
    left[:2, :2], left[2:, 2:], right[:2, 2:], right[2:, 2:] = 1, -1, 100, -100
    found = together(("person", "bench"), np.stack([left, right]), fit((40, 80), 64, 16))
    assert found.text == "person+bench"
    # the mean map: 3/4, 3/4 / 1/2, 0: two reach 0.8 of its range, so two negatives
    assert found.coordinates.tolist() == [[60, 30], [20, 30], [20, 10], [60, 10]] and found.labels.tolist() == [0, 0, 1, 1]
    (same,) = make(np.stack([left, right]), (40, 80), patch=16, texts=("person", "bench")).sam_points(together=True)
    np.testing.assert_array_equal(same.coordinates, found.coordinates)


def test_nothing_to_point_at():
    for similarity in (np.ones((1, 8, 8)), np.random.default_rng(0).normal(size=(1, 1, 1))):
        (found,) = make(similarity.astype(np.float32)).sam_points()
        assert found.coordinates.shape == (0, 2) and found.labels.shape == (0,)


@pytest.mark.parametrize(
    ("name", "value"), [("threshold", 0), ("threshold", 1.5), ("threshold", np.nan), ("down_sample", 0), ("down_sample", 1.5)]
)
def test_wrong_values(name, value):
    with pytest.raises(FastlocError, match=name):
        make(np.ones((1, 8, 8), np.float32)).sam_points(**{name: value})
