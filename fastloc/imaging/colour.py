"""Embedded colour profiles: conversion of a picture's colours to sRGB, the space that encoders are trained on."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from PIL import Image

from fastloc.errors import warn
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["is_srgb", "is_usable", "to_srgb"]

# what a profile may speak of, by the mode of the picture it lies in
_SPACES = {"RGB": "RGB", "RGBA": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "LAB"}
# values of the cube on which a profile is compared with sRGB, and levels it may differ by and still count as sRGB
_CUBE, _SAME = 9, 1


def is_srgb(picture: Image.Image) -> bool:
    """True where `to_srgb` would give the picture back: it has no profile, or one that is sRGB or of another kind than its pixels."""
    profile = picture.info.get("icc_profile")
    if not isinstance(profile, bytes):
        return picture.mode != "LAB"
    try:
        return _transform(profile, picture.mode) is None
    # `to_srgb` says what is wrong with it
    except Exception as error:
        pass_on(error)
        return False


def is_usable(picture: Image.Image, mode: str, name: str) -> bool:
    """False for a picture with a profile that cannot be used for its pixels brought to a mode, with the warning of `to_srgb`."""
    profile = picture.info.get("icc_profile")
    try:
        if isinstance(profile, bytes):
            _transform(profile, mode)
        return True
    except Exception as error:
        pass_on(error)
        _warn(name, error)
        return False


def to_srgb(picture: Image.Image, name: str) -> Image.Image:
    """The picture in sRGB, of mode RGB or RGBA, by its embedded profile (relative colorimetric, as LittleCMS does it); itself where it has
    none, or one that is sRGB. A profile that cannot be used is left out, with a warning: the pixels are read as sRGB."""
    profile = picture.info.get("icc_profile")
    if not isinstance(profile, bytes) and picture.mode != "LAB":
        return picture
    try:
        transform = _transform(profile or b"", picture.mode)
        if transform is None:
            return picture
        from PIL import ImageCms

        moved = ImageCms.applyTransform(picture, transform)
    # LittleCMS and Pillow raise their own errors for damaged profiles
    except Exception as error:
        pass_on(error)
        _warn(name, error)
        return picture
    assert moved is not None
    moved.info.pop("icc_profile", None)
    return moved


def _warn(name: str, error: Exception) -> None:
    warn(f"{name}: its colour profile cannot be used ({error}); read as sRGB", stacklevel=3)


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> Any:
    """LittleCMS's transform of pictures of a mode; None where there is nothing to do."""
    from PIL import ImageCms

    source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
    space = source.profile.xcolor_space.strip() if profile else "LAB"
    if space.upper() != _SPACES.get(mode):
        # a grey picture often carries the RGB profile of the colour one that it was made of
        return None
    target = "RGBA" if mode == "RGBA" else "RGB"
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    made = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, target, ImageCms.Intent.RELATIVE_COLORIMETRIC, flags)
    if mode in ("RGB", "RGBA") and _is_identity(made, mode):
        return None
    return made


def _is_identity(transform: Any, mode: str) -> bool:
    from PIL import ImageCms

    steps = np.linspace(0, 255, _CUBE).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(_CUBE, _CUBE * _CUBE, 3)
    before = Image.fromarray(cube).convert(mode)
    after = ImageCms.applyTransform(before, transform)
    difference = np.asarray(after).astype(int) - np.asarray(before).astype(int)
    return bool(np.abs(difference).max() <= _SAME)
