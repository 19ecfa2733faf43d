"""Pixels that do not fill their type: read by the rules of `pixel_depth`, never nearly black without a word."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from fastloc.errors import FastlocWarning
from fastloc.imaging import images

GREY = np.random.default_rng(0).integers(0, 256, (300, 20), np.uint8)
GREY[0, 0], GREY[0, 1] = 255, 0
COLOUR = np.random.default_rng(1).integers(0, 256, (300, 20, 3), np.uint8)
COLOUR[0, 0] = 255


def tiff(values: np.ndarray, photometric: int = 1, order: str = "<") -> bytes:
    """An uncompressed grey TIFF; photometric 0: 0 is white."""
    height, width = values.shape
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    kinds = {"u": 1, "i": 2, "f": 3}
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, values.itemsize * 8), (259, 3, 1), (262, 3, photometric), (273, 4, 8 + 2 + 120 + 4),
        (277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, kinds[values.dtype.kind]),
    ]  # fmt: skip
    out = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    for tag, kind, value in tags:
        out += struct.pack(f"{order}HHI", tag, kind, 1) + struct.pack(*((f"{order}HH", value, 0) if kind == 3 else (f"{order}I", value)))
    return out + bytes(4) + data


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def close(source: object, expected: np.ndarray, within: int = 1) -> None:
    loaded = np.asarray(images.load(source))
    expected = np.broadcast_to(expected[..., None], loaded.shape) if expected.ndim == 2 else expected
    assert np.abs(loaded.astype(int) - expected).max() <= within


ASSUMED = {
    "int32 TIFF of 0..255": (tiff(GREY.astype(np.int32)), GREY, "8 bits"),
    "int16 TIFF of 0..255": (tiff(GREY.astype(np.int16)), GREY, "8 bits"),
    "12 bits in a 16-bit TIFF": (tiff(GREY.astype(np.uint16) << 4), GREY, "12 bits"),
    "12 bits in a big-endian TIFF": (tiff(GREY.astype(np.uint16) << 4, order=">"), GREY, "12 bits"),
    "10 bits in a 16-bit PNG": (png(GREY.astype(np.uint16) << 2), GREY, "10 bits"),
    "14 bits in a 16-bit PNG": (png(GREY.astype(np.uint16) << 6), GREY, "14 bits"),
    "mode I of 0..255": (Image.fromarray(GREY).convert("I"), GREY, "8 bits"),
    "uint16 of 0..255": (COLOUR.astype(np.uint16), COLOUR, "8 bits"),
    "int64 of 0..255": (COLOUR.astype(np.int64), COLOUR, "8 bits"),
    "uint16 of 12 bits": (COLOUR.astype(np.uint16) << 4, COLOUR, "12 bits"),
    "min-is-white TIFF of 12 bits in 16": (tiff((255 - GREY).astype(np.uint16) << 4, 0), GREY, "12 bits"),
    "floats that overshoot": (np.clip(COLOUR / 255 * 1.2 - 0.1, None, None), None, "clipped"),
    "a mask of 0 and 1 as uint8": ((GREY > 99).astype(np.uint8), GREY * 0, "a mask of 0 and 1 is bool"),
}


@pytest.mark.parametrize("case", ASSUMED)
def test_what_is_assumed_is_reported(case: str) -> None:
    source, expected, words = ASSUMED[case]
    with pytest.warns(FastlocWarning, match=words):
        loaded = images.load(source)
    if expected is not None:
        close(loaded, expected)


CLEAR = {
    "16-bit TIFF": (tiff(GREY.astype(np.uint16) * 257), GREY),
    "16-bit big-endian TIFF": (tiff(GREY.astype(np.uint16) * 257, order=">"), GREY),
    "min-is-white TIFF of 8 bits": (tiff(255 - GREY, 0), GREY),
    "min-is-white TIFF of 16 bits": (tiff(65535 - GREY.astype(np.uint16) * 257, 0), GREY),
    "min-is-white TIFF of floats": (tiff((1 - GREY / 255).astype(np.float32), 0), GREY),
    "float TIFF": (tiff((GREY / 255).astype(np.float32)), GREY),
    "16-bit PNG": (png(GREY.astype(np.uint16) * 257), GREY),
    "int32 of 16 bits": (GREY.astype(np.int32) * 257, GREY),
    "all black in 16 bits": (np.zeros((4, 4), np.uint16), np.zeros((4, 4))),
    "floats to 1.0000001": (COLOUR / 255 * 1.0000001, COLOUR),
    "floats from -1e-8": (COLOUR / 255 - 1e-8, COLOUR),
    "half floats": ((COLOUR / 255).astype(np.float16), COLOUR),
}


@pytest.mark.parametrize("case", CLEAR)
def test_what_is_clear_needs_no_word(case: str) -> None:
    source, expected = CLEAR[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(source, expected)


@pytest.mark.parametrize(("maximum", "expected"), [(255, 255), (256, 64), (1023, 255), (1024, 64), (4095, 255), (16383, 255)])
def test_white_is_the_smallest_usual_one(maximum: int, expected: int) -> None:
    with pytest.warns(FastlocWarning, match=f"no value exceeds {maximum}"):
        assert np.asarray(images.load(np.array([[0, maximum]], np.uint16)))[0, 1, 0] == expected


@pytest.mark.parametrize(("bits", "dark"), [(4, True), (0, False)])
def test_colour_of_16_bits_that_ends_low_is_reported_as_dark(bits: int, dark: bool) -> None:
    deep = (COLOUR.astype(np.uint16) * 257) >> bits
    content = _rgb_tiff(deep)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images.load(content)
    messages = [str(each.message) for each in caught]
    assert len(messages) == dark and all("fill no more than 14 bits" in each for each in messages), messages


def _rgb_tiff(values: np.ndarray) -> bytes:
    height, width, _ = values.shape
    data = values.astype("<u2").tobytes()
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 134 + 12), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 140 + 12),
            (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1), (339, 3, 1, 1)]  # fmt: skip
    out = b"II" + struct.pack("<HIH", 42, 8, len(tags))
    for tag, kind, count, value in tags:
        single = kind == 3 and count == 1
        out += struct.pack("<HHI", tag, kind, count) + struct.pack(*(("<HH", value, 0) if single else ("<I", value)))
    out += bytes(4)
    return out + struct.pack("<HHH", 16, 16, 16) + data
