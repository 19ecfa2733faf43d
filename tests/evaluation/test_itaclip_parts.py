"""ITACLIP's views of a window and its closing of labels, against torchvision and scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fastloc.evaluation.segmentation.closing import closed
from fastloc.evaluation.segmentation.views import joined, views
from towers import array


@pytest.mark.slow("torchvision takes a second to import")
def test_views_are_torchvisions() -> None:
    from torchvision import transforms

    windows = array("windows", 2, 3, 20, 33)
    made = views(windows)
    expected = [
        windows, transforms.Grayscale(3)(windows), transforms.GaussianBlur(11, 5)(windows),
        transforms.RandomVerticalFlip(1)(windows), transforms.RandomHorizontalFlip(1)(windows),
    ]  # fmt: skip
    for mine, theirs in zip(made, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_mirrored_grids_are_mirrored_back() -> None:
    """Mirror images give the window's own grid for a similarity that reads each place alone."""
    windows = array("windows", 1, 3, 16, 24)
    found = joined([each[:, :1] for each in views(windows)], 0.0)
    torch.testing.assert_close(found, windows[:, :1])
    upright = joined([each[:, :1] for each in views(windows)], 1.0)
    torch.testing.assert_close(upright, torch.stack(views(windows)[:3]).mean(0)[:, :1])


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_closing_is_scipys(side: int, dtype: type) -> None:
    chance = np.random.default_rng(side)
    for classes in (2, 5, 171):
        labels = chance.integers(0, classes, (23, 31)).astype(dtype)
        expected = ndimage.grey_closing(labels, (side, side))
        assert (expected != labels).any()
        found = closed(torch.from_numpy(labels), side).numpy()
        assert found.dtype == dtype and (found == expected).all()
