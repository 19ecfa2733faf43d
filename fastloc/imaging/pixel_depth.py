"""Conversion of pixel values of any type to 8 bits: the type decides the value of white, and for deep integers their largest value.

uint8       255 is white
bool        True is white
float       1 is white. A resize overshoots: values up to `OVERSHOOT` outside [0, 1] are clipped, with a warning beyond `ROUNDING`
integers    of more than 8 bits: the white that the file declares; else 65535, or, where no value exceeds 255, 1023, 4095 or 16383, that
            number, with a warning: cameras, scanners and int casts keep 8 to 14 bits in 16 or 32
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import ImageError, warn

__all__ = ["DEPTHS", "StreamDepth", "to_uint8"]

# bits that deep integers are kept in
DEPTHS = (8, 10, 12, 14, 16)
ROUNDING, OVERSHOOT = 1e-3, 0.25
# rows that are converted at a time: a deep picture's intermediates stay small
ROWS = 256


class StreamDepth:
    """The white of a stream's deep integers: that of the brightest frame so far, so that a dark frame among bright ones stays dark."""

    def __init__(self) -> None:
        self.white: int | None = None

    def of(self, array: NDArray[Any], name: str) -> int | None:
        """The white of this frame's values; None for a dtype that needs none. Warns as `to_uint8` does when it changes."""
        if array.dtype.itemsize < 2 or not np.issubdtype(array.dtype, np.integer) or not array.size:
            return None
        if self.white is None or int(array.max()) > self.white:
            self.white = _white(int(array.min()), int(array.max()), name)
        return self.white


def to_uint8(array: NDArray[Any], name: str, *, white: int | None = None, inverted: bool = False) -> NDArray[np.uint8]:
    """The values as uint8, of the same shape; `name` is the picture's in messages.

    Args:
        white: the value of white that integers of more than 8 bits are declared to have; None: found by the rules above.
        inverted: 0 is white, as in a TIFF of PhotometricInterpretation 0.

    Raises ImageError for other dtypes, for NaN and infinite values, and for values out of range.
    """
    # to the machine's byte order, or big-endian uint16 would not be uint16 below
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.uint8:
        _note_mask(array, name)
        return 255 - array if inverted else array
    if array.dtype == np.bool_:
        return np.where(array != inverted, np.uint8(255), np.uint8(0))
    low, high = array.min(), array.max()
    if np.issubdtype(array.dtype, np.integer):
        most = white if white is not None else _white(int(low), int(high), name)
        if int(high) > most or int(low) < 0:
            raise ImageError(f"{name}: its integers must lie within 0 and {most}, got {low} to {high}")
        return _in_rows(array, lambda rows: _integers(rows, most, inverted))
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"{name}: dtype must be an integer's, bool or a float's within [0, 1], got {array.dtype}")
    _check_floats(float(low), float(high), name)
    return _in_rows(array, lambda rows: _floats(rows, inverted))


def _in_rows(array: NDArray[Any], convert: Any) -> NDArray[np.uint8]:
    made = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), ROWS):
        made[start : start + ROWS] = convert(array[start : start + ROWS])
    return made


def _integers(values: NDArray[Any], white: int, inverted: bool) -> NDArray[Any]:
    wide = values.astype(np.uint32)
    if inverted:
        wide = white - wide
    # of 65535, 257 steps are one of 255: the same as dividing by 257, rounded
    rounded: NDArray[Any] = (wide * 255 + white // 2) // white
    return rounded


def _floats(values: NDArray[Any], inverted: bool) -> NDArray[Any]:
    # in half precision 255 steps would be rounded twice
    scaled = np.multiply(np.clip(values, 0, 1), 255, dtype=np.promote_types(values.dtype, np.float32))
    rounded: NDArray[Any] = np.rint(255 - scaled if inverted else scaled)
    return rounded


def _white(low: int, high: int, name: str) -> int:
    """The smallest common white that no value exceeds."""
    bits = next((each for each in DEPTHS if high < 1 << each), None)
    if bits is None or low < 0:
        raise ImageError(f"{name}: its integers must lie within 16 bits, 0 to 65535, got {low} to {high}")
    white = (1 << bits) - 1
    if bits != DEPTHS[-1] and high:
        warn(f"{name}: no value exceeds {high}: read as {bits} bits in a wider type, white is {white}; scale to 65535 to say otherwise",
             stacklevel=2)  # fmt: skip
    return white


def _check_floats(low: float, high: float, name: str) -> None:
    # one NaN anywhere makes both ends NaN
    if not np.isfinite([low, high]).all():
        raise ImageError(f"{name}: holds NaN or infinite values")
    beyond = max(-low, high - 1)
    if beyond > OVERSHOOT:
        raise ImageError(f"{name}: floats must lie within [0, 1], got {low:.4g} to {high:.4g}; divide by 255, or undo a normalisation")
    if beyond > ROUNDING:
        warn(f"{name}: floats run from {low:.4g} to {high:.4g}: clipped to [0, 1]", stacklevel=2)


def _note_mask(array: NDArray[np.uint8], name: str) -> None:
    # few pixels are looked at first: a picture costs nothing, and a mask of 0 and 1 is found out by its own values
    if array[::16, ::16].max() <= 1 and array.max() == 1:
        warn(f"{name}: no value exceeds 1 of 255, so it is black; a mask of 0 and 1 is bool", stacklevel=2)
