"""Pixels of the picture to pixels of the input and back, and the numbers the model takes in, against torch and torchvision."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from fastloc.errors import FastlocError, ImageError
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import FITS, MAX_INPUT, MAX_PATCHES, SHORT_SIDE, VARYING, Geometry, both_sides, fit, size_text
from fastloc.imaging.preprocess import INTERPOLATIONS, prepare
from repo import REPO

RNG = np.random.default_rng(0)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# wide, tall, square, tiny, odd, very long
PICTURES = [(120, 250), (251, 97), (64, 64), (1, 1), (3, 2), (33, 1000)]


def noise(size):
    return Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8))


# --- sizes


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", FITS)
def test_input_is_whole_patches_and_the_way_back_is_exact(picture, name):
    # a square of 64 pixels has 4 rows of 8 patches
    geometry = fit(picture, (64, 64), (16, 8), name)
    height, width = geometry.grid((16, 8))
    assert geometry.input == (height * 16, width * 8)
    if name not in VARYING:
        assert geometry.input == (64, 64)
    points = RNG.uniform(-5, 300, (4, 7, 2))
    np.testing.assert_allclose(geometry.to_picture(geometry.to_input(points)), points, rtol=0, atol=1e-9)
    # the picture's corners land on the resized picture's corners
    corners = geometry.to_input([(0, 0), picture[::-1]]) + geometry.corner[::-1]
    np.testing.assert_allclose(corners, [(0, 0), geometry.resized[::-1]])


def test_each_fit_by_hand():
    assert fit((100, 200), 64, 16, "stretch") == Geometry((100, 200), (64, 64), "stretch", (64, 64), (0, 0))
    assert fit((100, 200), 64, 16, "aspect") == Geometry((100, 200), (64, 128), "aspect", (64, 128), (0, 0))
    # 64 * 190 / 100 = 121.6 pixels are 7.6 patches
    assert fit((190, 100), 64, 16, "aspect").input == (128, 64)
    # one patch, and 1.4 of them
    assert fit((70, 50), 16, 16, "aspect").input == (16, 16)
    assert fit((100, 200), 64, 16, "crop") == Geometry((100, 200), (64, 64), "crop", (64, 128), (0, 32))
    assert fit((100, 200), 64, 16, "letterbox") == Geometry((100, 200), (64, 64), "letterbox", (32, 64), (-16, 0))
    assert fit((200, 100), (32, 64), 16, "letterbox").resized == (32, 16)
    assert fit((200, 100), (32, 64), 16, "crop").resized == (128, 64)
    assert fit((75, 100), 640, 16, "own-up") == Geometry((75, 100), (80, 112), "own-up", (80, 112), (0, 0))
    # 100 pixels are 6.25 patches
    assert fit((75, 100), 640, 16, "own") == Geometry((75, 100), (80, 96), "own", (80, 96), (0, 0))


def test_a_picture_keeps_its_own_size():
    for side in range(1, 200):
        # as its authors round: numpy's ceil, and int(x + 0.5), for any picture that is not too large
        up, nearest = (fit((side, 333), 448, 16, name).input for name in ("own-up", "own"))
        assert up == (int(np.ceil(side / 16) * 16), 336)
        assert nearest == (max(int(side / 16 + 0.5), 1) * 16, 336)
    # what is whole patches stays, and a larger one is brought to the size first
    assert fit((480, 640), 1024, 16, "own").input == fit((480, 640), 1024, 16, "own-up").input == (480, 640)
    assert fit((1280, 1920), 640, 16, "own").input == (640, 960)
    assert fit((1000, 700), 640, 16, "own-up").input == (928, 640)
    # a long one is no larger than it is
    assert fit((10, 2000), 448, 16, "own").input == (16, 2000)


def test_naflex_is_the_size_rule_of_transformers():
    with np.load(REPO / "tests" / "goldens" / "transformers_siglip2.npz") as stored:
        rows = stored["sizes"].tolist()
    assert len(rows) == 600
    for height, width, patch, most, *expected in rows:
        # the count is that of an input of so many patches, of any shape
        size = (patch, most * patch)
        made = fit((height, width), size, patch, "naflex")
        assert list(made.input) == expected == list(made.resized) and made.corner == (0, 0), (height, width, patch, most)
        assert made.grid(patch)[0] * made.grid(patch)[1] <= most


def test_naflex_by_hand():
    # 256 patches, 16 x 16 of a square, and of 2:1 at most 11 x 22
    assert fit((500, 500), 256, 16, "naflex").grid(16) == (16, 16)
    assert fit((100, 200), 256, 16, "naflex").grid(16) == (11, 22)
    assert fit((100, 200), (128, 512), 16, "naflex").grid(16) == (11, 22)
    # no larger than a hundred times, and never without a patch
    assert fit((1, 1), 256, 16, "naflex").grid(16) == (7, 7)
    assert fit((1, 9000), 256, 16, "naflex").grid(16) == (1, 256)
    # the search begins at a millionth, 100 of these pixels, whatever the count; 2 x 2 are within it
    assert fit((10**8, 10**8), (16, 25600), 16, "naflex").grid(16) == (7, 7)
    assert fit((500_000, 500_000), 32, 16, "naflex").grid(16) == (2, 2)
    # an input that it made is one that it makes again
    assert fit((100, 200), fit((100, 200), 256, 16, "naflex").input, 16, "naflex").grid(16) == (11, 22)


def test_covered_and_seen_by_hand():
    whole = slice(0, 100), slice(0, 200)
    for name in FITS:
        expected = (slice(0, 100), slice(50, 150)) if name == "crop" else whole
        assert fit((100, 200), 64, 16, name).covered() == expected
    assert fit((100, 200), 64, 16, "letterbox").seen((4, 4)) == (slice(1, 3), slice(0, 4))
    assert fit((100, 200), 64, 16, "crop").seen((4, 4)) == (slice(0, 4), slice(0, 4))


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("size", [64, (16, 64), (64, 16)])
def test_rows_sum_to_one_where_covered_and_to_zero_elsewhere(picture, name, size):
    if name in SHORT_SIDE and size != 64:
        pytest.skip("one size, for the short side")
    if name in ("aspect", "crop") and max(picture) > 32 * min(picture):
        pytest.skip("too long, tested below")
    geometry = fit(picture, size, 8, name)
    grid = geometry.grid(8)
    for matrix, inside, seen in zip(geometry.resampling(grid), geometry.covered(), geometry.seen(grid), strict=True):
        expected = np.zeros(len(matrix))
        expected[inside] = 1
        np.testing.assert_allclose(matrix.sum(1), expected, atol=1e-12)
        assert matrix.min() >= 0 and expected.any()
        # a letterbox's padding has no weight
        outside = np.delete(matrix, np.arange(matrix.shape[1])[seen], axis=1)
        assert not outside.any()


@pytest.mark.parametrize(
    ("name", "picture", "size", "patch", "words"),
    [
        ("strech", (9, 9), 64, 16, ["unknown fit 'strech'", "'stretch'", "letterbox"]),
        ("stretch", (9, 9), 65, 16, ["65 x 65", "64 or 80"]),
        ("stretch", (9, 9), (64, 7), 16, ["7", "use 16"]),
        ("aspect", (9, 9), 100, 16, ["96 or 112"]),
        ("aspect", (9, 9), (64, 32), 16, ["one number"]),
        ("own", (9, 9), (64, 32), 16, ["one number for fit 'own'"]),
        ("stretch", (9, 9), 0, 16, ["size must be positive", "got 0"]),
        ("stretch", (9, 9), -16, 16, ["-16"]),
        ("stretch", (9, 9), 64.0, 16, ["64.0", "whole number"]),
        ("stretch", (9, 9), "64", 16, ["'64'"]),
        ("stretch", (9, 9), (64, 64, 64), 16, ["(64, 64, 64)"]),
        ("stretch", (9, 0), 64, 16, ["picture size"]),
        ("stretch", (9, 9), 64, 0, ["patch must be positive", "got 0"]),
        ("crop", (1, 99), 64, 16, ["1 x 99", "32:1", "letterbox"]),
        ("aspect", (99, 1), 64, 16, ["99 x 1"]),
    ],
)
def test_refusals(name, picture, size, patch, words):
    with pytest.raises(FastlocError) as caught:
        fit(picture, size, patch, name)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_numpy_sizes_are_sizes_and_bad_points_are_not():
    geometry = fit((np.int64(9), np.int64(8)), np.int32(32), (np.int8(16), 16))
    assert geometry == fit((9, 8), 32, 16)
    with pytest.raises(FastlocError, match=r"\[3\]"):
        geometry.to_input([1, 2, 3])
    with pytest.raises(FastlocError, match="does not divide"):
        geometry.grid(5)


# --- resampling, against torch


@pytest.mark.parametrize("picture", [(448, 448), (120, 250), (5, 3), (7, 40), (1, 1), (14, 14)])
@pytest.mark.parametrize("grid", [(14, 14), (4, 9), (1, 1), (1, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stretch_is_interpolate(picture, grid, dtype):
    geometry = fit(picture, (grid[0] * 16, grid[1] * 16), 16, "stretch")
    values = RNG.standard_normal((3, *grid)).astype(dtype)
    ours = heatmaps.upsample(values, geometry)
    # in float64: torch's own float32 positions are off by more than the 1e-6 asked for here
    theirs = torch.nn.functional.interpolate(torch.from_numpy(values.astype(np.float64))[None], size=picture, mode="bilinear")[0].numpy()
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("picture", [(100, 200), (211, 90)])
def test_crop_is_interpolate_to_the_resized_crop(picture):
    # a picture of the resized size needs no scaling, so its crop is interpolate's own output
    resized = fit(picture, 64, 16, "crop").resized
    geometry = fit(resized, 64, 16, "crop")
    values = RNG.standard_normal((1, 4, 4))
    theirs = torch.nn.functional.interpolate(torch.from_numpy(values)[None], size=(64, 64), mode="bilinear")[0].numpy()
    ours = heatmaps.upsample(values, geometry)
    np.testing.assert_allclose(ours[(slice(None), *geometry.covered())], theirs, atol=1e-12)
    assert np.count_nonzero(ours) == 64 * 64


# --- preprocessing, against torchvision


def torchvision(picture, resize, crop=None):
    steps = [transforms.Resize(resize, InterpolationMode.BICUBIC), *([transforms.CenterCrop(crop)] if crop else [])]
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])(picture).numpy()


@pytest.mark.parametrize("size", [(120, 250), (97, 251), (251, 97), (32, 32), (500, 301), (5, 3), (63, 65)])
def test_prepare_is_torchvision(size):
    picture = noise(size)
    stretched = prepare(picture, fit(size, 64, 16, "stretch"), MEAN, STD)
    cropped = prepare(picture, fit(size, 64, 16, "crop"), MEAN, STD)
    assert stretched.dtype == np.float32 and stretched.flags.c_contiguous
    np.testing.assert_allclose(stretched, torchvision(picture, (64, 64)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(cropped, torchvision(picture, 64, 64), rtol=0, atol=1e-6)


def test_letterbox_pads_with_the_mean_colour():
    picture = noise((100, 200))
    prepared = prepare(picture, fit((100, 200), 64, 16, "letterbox"), MEAN, STD)
    np.testing.assert_allclose(prepared[:, 16:48], torchvision(picture, (32, 64)), rtol=0, atol=1e-6)
    assert not prepared[:, :16].any() and not prepared[:, 48:].any()


def test_aspect_is_a_plain_resize():
    picture = noise((100, 190))
    np.testing.assert_allclose(prepare(picture, fit((100, 190), 64, 16, "aspect"), MEAN, STD), torchvision(picture, (64, 128)), atol=1e-6)


def test_prepare_refuses():
    picture, geometry = noise((20, 30)), fit((20, 30), 32, 16)
    for arguments, word in [
        ((picture.convert("L"), geometry, MEAN, STD), "'L'"),
        ((picture, fit((30, 20), 32, 16), MEAN, STD), "20 x 30"),
        ((picture, geometry, MEAN[:2], STD), "mean"),
        ((picture, geometry, MEAN, (0.2, 0, 0.2)), "positive"),
        ((picture, geometry, MEAN, STD, "bicubci"), "'bicubic'"),
    ]:
        with pytest.raises(FastlocError, match=word):
            prepare(*arguments)
    for name in INTERPOLATIONS:
        assert prepare(picture, geometry, MEAN, STD, name).shape == (3, 32, 32)


# --- the whole way there and back


@pytest.mark.parametrize("size", [(150, 260), (260, 150)])
@pytest.mark.parametrize("mark", [(0.5, 0.5), (0.4, 0.6), (0.62, 0.41), (0.1, 0.9), (0.9, 0.1)])
@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("order", ["grid", "picture"])
def test_a_bright_mark_is_found_where_it_is(size, mark, name, order):
    (height, width), (y, x) = size, (round(mark[0] * size[0]), round(mark[1] * size[1]))
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[max(y - 9, 0) : y + 10, max(x - 9, 0) : x + 10] = 255
    geometry = fit(size, 128, 8, name)
    rows, columns = geometry.covered()
    if not (rows.start <= y < rows.stop and columns.start <= x < columns.stop):
        pytest.skip("the crop hides this mark")
    prepared = prepare(Image.fromarray(pixels), geometry, MEAN, STD)
    h, w = geometry.grid(8)
    # what a perfect model would say: how bright each patch is
    similarity = prepared.mean(0).reshape(h, 8, w, 8).mean((1, 3))[None]
    heat = heatmaps.heatmaps(similarity, geometry, order)[0]
    assert heat.shape == size
    found = np.argwhere(heat == heat.max()).mean(0)
    # within one patch, in pixels of the picture
    patch = 8 / np.array(geometry.scale)
    assert (np.abs(found - (y, x)) <= patch).all(), (found, (y, x), patch)
    # the warm region's centre of mass is the mark's, much closer than a patch (half-padded patches of a letterbox are lukewarm)
    warm = np.where(heat > 0.5, heat, 0)
    centre = np.array([(warm.sum(1) * np.arange(height)).sum(), (warm.sum(0) * np.arange(width)).sum()]) / warm.sum()
    if min(mark) > 0.2 and max(mark) < 0.8:
        assert (np.abs(centre - (y, x)) < 0.15 * patch + 0.5).all(), (centre, (y, x))


# --- the limits, at the limits


def test_the_largest_input_is_allowed_and_one_patch_more_is_not():
    side = 16 << 9
    assert side * side == MAX_INPUT and (side // 16) ** 2 == MAX_PATCHES
    assert fit((9, 9), side, 16).input == (side, side)
    for size in ((side + 16, side), (side, side + 16)):
        with pytest.raises(FastlocError, match=r"at most 67,108,864 pixels and 262,144 patches, got size 8\d\d\d x 8\d\d\d"):
            fit((9, 9), size, 16)
    # fewer pixels, more patches
    with pytest.raises(FastlocError, match=r"with 262,656 patches of 8 x 8"):
        fit((9, 9), (513 * 8, 512 * 8), 8)
    # a classifier's cells are pixels, which only the input bounds
    assert fit((9, 9), side, 1).grid(1) == (side, side)
    with pytest.raises(FastlocError, match="at most 67,108,864 pixels"):
        fit((9, 9), (side + 1, side), 1)
    # of two pixels a cell, it is patches again
    with pytest.raises(FastlocError, match="with 524,288 patches of 1 x 2"):
        fit((9, 9), 1024, (1, 2))


@pytest.mark.parametrize("name", ["aspect", "crop"])
def test_the_longest_picture_is_allowed_and_a_longer_one_is_not(name):
    for picture in ((1, 32), (32, 1), (3, 96)):
        assert fit(picture, 32, 16, name).picture == picture
    for picture in ((1, 33), (33, 1), (3, 97)):
        with pytest.raises(ImageError, match=rf"too long for fit '{name}' \(at most 32:1\)"):
            fit(picture, 32, 16, name)


def test_points_by_hand():
    # 64 x 128 of 100 x 200, from column 32 on
    geometry = fit((100, 200), 64, 16, "crop")
    assert geometry.scale == (0.64, 0.64)
    np.testing.assert_allclose(geometry.to_input([(50, 0), (150, 100)]), [(0, 0), (64, 64)], atol=1e-12)
    np.testing.assert_allclose(geometry.to_picture([[(0, 0)], [(64, 32)]]), [[(50, 0)], [(150, 50)]], atol=1e-12)
    # two scales, one a side
    wide = fit((10, 40), (32, 64), 16)
    assert wide.scale == (3.2, 1.6)
    np.testing.assert_allclose(wide.to_input((10, 5)), (16, 16), atol=1e-12)


def test_the_grid_has_a_count_for_each_side():
    geometry = fit((9, 9), (32, 96), (16, 8))
    assert geometry.grid((16, 8)) == (2, 12) and geometry.grid(32) == (1, 3)
    for patch in ((16, 20), (20, 8), (64, 8)):
        with pytest.raises(FastlocError, match="does not divide the model's input of 32 x 96 pixels"):
            geometry.grid(patch)


def test_a_letterbox_in_every_direction():
    for picture, size, resized, corner in [
        ((200, 100), 64, (64, 32), (0, -16)), ((100, 300), 64, (21, 64), (-21, 0)), ((1000, 1), (64, 32), (64, 1), (0, -15)),
        ((50, 50), (32, 96), (32, 32), (0, -32)), ((7, 7), 32, (32, 32), (0, 0)),
    ]:  # fmt: skip
        geometry = fit(picture, size, 16, "letterbox")
        assert (geometry.resized, geometry.corner) == (resized, corner), picture
        rows, columns = geometry.seen(geometry.grid(16))
        assert rows.stop > rows.start and columns.stop > columns.start


def test_what_a_crop_covers_and_a_letterbox_sees_at_the_ends():
    # the pixel whose centre lies on the input's border is outside at the end and inside at the beginning
    assert fit((4, 8), 4, 1, "crop").covered() == (slice(0, 4), slice(2, 6))
    assert fit((8, 4), 4, 1, "crop").covered() == (slice(2, 6), slice(0, 4))
    # far fewer pixels than patches: one at least
    assert fit((1, 3), 96, 16, "crop").covered() == (slice(0, 1), slice(1, 2))
    assert fit((1, 100), 64, 16, "letterbox").seen((4, 4)) == (slice(1, 2), slice(0, 4))
    assert fit((100, 1), 64, 16, "letterbox").seen((64, 64)) == (slice(0, 64), slice(31, 32))


def test_steps_are_what_resampling_multiplies():
    geometry = fit((30, 50), (32, 48), 16, "stretch")
    assert [len(each) for each in geometry.steps((2, 3))] == [1, 1]
    for through in (False, True):
        made = []
        for axis, steps in enumerate(geometry.steps((2, 3), through)):
            assert len(steps) == (2 if through else 1)
            matrix = steps[-1].matrix() if not through else steps[-1].matrix() @ steps[0].matrix()
            made.append(matrix)
            assert matrix.shape == ((30, 50)[axis], (2, 3)[axis])
        for matrix, expected in zip(made, geometry.resampling((2, 3), through), strict=True):
            np.testing.assert_allclose(matrix, expected, atol=1e-12)


def test_through_the_input_is_two_interpolations():
    geometry = fit((30, 50), (32, 48), 16, "stretch")
    rows, columns = geometry.resampling((2, 3), through_input=True)
    values = RNG.standard_normal((2, 3))
    tensor = torch.from_numpy(values)[None, None]
    for size in ((32, 48), (30, 50)):
        tensor = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear")
    np.testing.assert_allclose(rows @ values @ columns.T, tensor[0, 0].numpy(), atol=1e-12)


def test_sizes_in_words_and_as_pairs():
    assert [size_text(each) for each in (None, 32, (32, 48))] == ["", "32", "32 x 48"]
    assert both_sides(32) == (32, 32) and both_sides([32, 48]) == (32, 48)
    for size, rest in ((65, "instead of 65 use 64 or 80"), ((64, 79), "instead of 79 use 64 or 80"), (15, "instead of 15 use 16")):
        with pytest.raises(FastlocError, match=rf"{rest}$"):
            fit((9, 9), size, 16)
