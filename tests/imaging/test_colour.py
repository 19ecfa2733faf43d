"""Embedded colour profiles: pictures of wider spaces come out as the same colours in sRGB, and what is sRGB stays byte for byte."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms

import icc
from fastloc.errors import FastlocWarning
from fastloc.imaging import images

# within sRGB, so that nothing is clipped
COLOURS = np.random.default_rng(0).integers(80, 160, (700, 20, 3), np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_adobe_rgb_comes_out_as_srgb(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    loaded = images.load(encoded(Image.fromarray(COLOURS), kind, icc_profile=icc.ADOBE_RGB, **options))
    assert np.abs(np.asarray(loaded) - icc.adobe_to_srgb(COLOURS)).max() <= 2
    # and not what the pixels are without their profile
    assert np.abs(np.asarray(loaded).astype(int) - COLOURS).mean() > 3
    assert "icc_profile" not in loaded.info


def test_a_picture_of_yours_keeps_its_pixels_and_its_profile() -> None:
    picture = Image.fromarray(COLOURS)
    picture.info["icc_profile"] = icc.PROPHOTO
    loaded = images.load(picture)
    assert picture.info["icc_profile"] == icc.PROPHOTO and (np.asarray(picture) == COLOURS).all()
    assert not (np.asarray(loaded) == COLOURS).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_profile_can_be_left_out(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(COLOURS), kind, icc_profile=icc.ADOBE_RGB, **options)
    assert (np.asarray(images.load(content, profile=False)) == COLOURS).all()


def test_srgb_stays_byte_for_byte() -> None:
    loaded = images.load(encoded(Image.fromarray(COLOURS), "PNG", icc_profile=SRGB))
    assert (np.asarray(loaded) == COLOURS).all()


def test_alpha_stays_and_colours_move() -> None:
    alpha = np.full((*COLOURS.shape[:2], 1), 255, np.uint8)
    alpha[:, :10] = 0
    content = encoded(Image.fromarray(np.concatenate([COLOURS, alpha], 2)), "PNG", icc_profile=icc.ADOBE_RGB)
    loaded = np.asarray(images.load(content))
    assert (loaded[:, :10] == 255).all()
    assert np.abs(loaded[:, 10:] - icc.adobe_to_srgb(COLOURS[:, 10:])).max() <= 2


def test_palettes_have_profiles_too() -> None:
    palette = Image.fromarray(COLOURS).quantize(16)
    expected = icc.adobe_to_srgb(np.asarray(palette.convert("RGB")))
    loaded = images.load(encoded(palette, "PNG", icc_profile=icc.ADOBE_RGB))
    assert np.abs(np.asarray(loaded) - expected).max() <= 2


@pytest.mark.parametrize("deep", [False, True])
def test_greys_have_a_gamma(deep: bool) -> None:
    values = np.arange(256, dtype=np.uint8)[None]
    source = Image.fromarray(values.astype(np.uint16) * 257 if deep else values)
    loaded = np.asarray(images.load(encoded(source, "PNG", icc_profile=icc.grey(1.8))))
    linear = (values / 255) ** 1.8
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(loaded[..., 1] - expected).max() <= 2


def test_a_grey_picture_with_a_colour_profile_stays() -> None:
    grey = COLOURS[..., 0]
    loaded = images.load(encoded(Image.fromarray(grey), "PNG", icc_profile=icc.ADOBE_RGB))
    assert (np.asarray(loaded)[..., 0] == grey).all()


def test_lab_is_a_space_of_its_own() -> None:
    srgb, space = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(COLOURS), srgb, space, outputMode="LAB")
    assert np.abs(np.asarray(images.load(lab)).astype(int) - COLOURS).max() <= 4


@pytest.mark.parametrize("profile", [b"not a profile", icc.ADOBE_RGB[:200], icc.ADOBE_RGB[:-40] + bytes(40)])
def test_a_damaged_profile_is_left_out_and_reported(profile: bytes) -> None:
    picture = Image.fromarray(COLOURS)
    picture.info["icc_profile"] = profile
    with pytest.warns(FastlocWarning, match="colour profile cannot be used"):
        loaded = images.load(picture)
    assert (np.asarray(loaded) == COLOURS).all() and picture.info["icc_profile"] == profile


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_a_damaged_profile_of_a_high_picture_is_reported_once(mode: str) -> None:
    picture = Image.new(mode, (2, 3 * images._ROWS))
    picture.info["icc_profile"] = b"not a profile"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images.load(picture)
    assert sum("colour profile cannot be used" in str(each.message) for each in caught) == 1
