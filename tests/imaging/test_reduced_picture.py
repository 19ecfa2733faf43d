"""JPEG files at a reduced scale: places are exact for every orientation and every size, and the full picture comes when it is asked for."""

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc.errors import FastlocError, ImageError
from fastloc.imaging import images
from fastloc.imaging.geometry import fit
from fastloc.imaging.preprocess import prepare
from fastloc.imaging.reduced_picture import ReducedPicture, check_decode


def jpeg(size: tuple[int, int], orientation: int = 1) -> bytes:
    """Two soft ramps and a soft spot, so that a picture that is moved by a part of a pixel shows it."""
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    spot = np.exp(-(((y - 0.3 * size[0]) / 40) ** 2) - ((x - 0.7 * size[1]) / 40) ** 2)
    pixels = np.stack([255 * y / size[0], 255 * x / size[1], 255 * spot], -1).astype(np.uint8)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "JPEG", quality=98, subsampling=0, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(400, 560), (403, 557), (397, 563), (401, 568)])
def test_the_input_is_that_of_the_full_picture(size: tuple[int, int], orientation: int) -> None:
    """The ramps are off by a third of a level on average at most, where half of a reduced pixel is 0.7 of one or more."""
    content = jpeg(size, orientation)
    full = images.load(content)
    geometry = fit(full.size[::-1], 32, 8)
    for least in (64, 48, 190):
        reduced = images.load(content, enough=lambda _, least=least: (least, least))
        if least == 190:
            assert isinstance(reduced, ReducedPicture) and round(full.width / reduced.small.width) == 2
        assert isinstance(reduced, ReducedPicture) and reduced.size == full.size and reduced.mode == "RGB"
        one, other = (255 * prepare(each, geometry, (0, 0, 0), (1, 1, 1)) for each in (full, reduced))
        assert np.abs(one - other).max() <= 3.1 and np.abs((one - other)[:2].mean((1, 2))).max() <= 0.34, least
        assert np.array_equal(np.asarray(reduced), np.asarray(full)), "the full picture"


def test_what_is_not_reduced() -> None:
    content = jpeg((60, 80))
    assert type(images.load(content, enough=lambda _: (31, 41))) is Image.Image
    png = io.BytesIO()
    Image.new("RGB", (800, 600)).save(png, "PNG")
    assert not isinstance(images.load(png.getvalue(), enough=lambda _: (8, 8)), ReducedPicture)
    with pytest.raises(ImageError, match="cannot be decoded"):
        images.load(jpeg((600, 800))[:9000], enough=lambda _: (20, 20))
    with pytest.raises(FastlocError, match="decode"):
        check_decode("half")


def test_a_reduced_picture_is_loaded_again() -> None:
    """As it is where its pixels suffice, else at full size."""
    reduced = images.load(jpeg((400, 560)), enough=lambda _: (90, 90))
    assert isinstance(reduced, ReducedPicture) and images.load(reduced, enough=lambda _: reduced.small.size[::-1]) is reduced
    for enough in (lambda _: (1, reduced.small.width + 1), None):
        assert type(images.load(reduced, enough=enough)) is Image.Image


def test_a_reduced_picture_is_a_picture() -> None:
    content = jpeg((401, 303))
    wanted = np.asarray(images.load(content))

    def opened() -> Any:
        return images.load(content, enough=lambda _: (40, 30))

    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(opened()))), wanted)
    assert np.array_equal(np.asarray(copy.deepcopy(opened())), wanted)
    assert np.array_equal(np.asarray(opened().crop((5, 6, 70, 80))), wanted[6:80, 5:70])
    assert np.array_equal(np.asarray(opened().copy()), wanted) and opened().getpixel((3, 7)) == tuple(wanted[7, 3])
    resized = opened().resize((30, 40), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(resized), np.asarray(images.load(content).resize((30, 40), Image.Resampling.BILINEAR)))
