"""Anything that holds a picture -> one PIL picture, RGB, 8 bits, upright; or an ImageError that says what is wrong with it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fastloc.errors import ImageError

__all__ = ["load"]

# 65535 / 257 is exactly 255, so full white stays full white
SIXTEEN_TO_EIGHT = 257
# by number of channels
_MODES = {3: "RGB", 4: "RGBA"}


def load(source: object, name: str | None = None, *, bgr: bool = False) -> Image.Image:
    """A new RGB picture of 8 bits a channel from:

      str or path     a file in any format Pillow reads; of an animation the first frame
      bytes           the content of such a file
      PIL.Image       any mode
      numpy array     [H, W] or [H, W, 1 | 3 | 4]; uint8, bool, uint16 (65535 is white) or float within [0, 1]
      torch tensor    [H, W], [1 | 3 | 4, H, W] or [H, W, 1 | 3 | 4], any device, the same dtypes and half and bfloat16

    The EXIF orientation is applied; transparency is laid over white; 16-bit greys are scaled to 8 bits, never clipped. `name` is what error
    messages call the source where it has no path of its own. `bgr`: the array's or tensor's channels are blue, green, red (and alpha), as
    OpenCV's are; greys stay. Raises ImageError.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "array", bgr)
    if all(callable(getattr(source, method, None)) for method in ("detach", "cpu", "numpy")):
        return _from_tensor(source, name or "tensor", bgr)
    kind = type(source).__name__
    if bgr:
        raise ImageError(f"{name or 'picture'} is a {kind}, which says itself what its channels are: bgr is for arrays and tensors")
    if isinstance(source, (str, os.PathLike)):
        return _from_file(source)
    if isinstance(source, Image.Image):
        return _to_rgb(source, name or "PIL picture")
    if isinstance(source, (bytes, bytearray)):
        return _decode(io.BytesIO(source), name or f"picture of {len(source)} bytes", len(source))
    raise ImageError(f"{name or 'picture'} is a {kind}: expected a path, bytes, a PIL picture, a numpy array or a torch tensor")


def _from_file(source: str | os.PathLike[str]) -> Image.Image:
    try:
        path = Path(source)
        # opened here, not by Pillow, so that the operating system's reasons keep their own words
        if path.is_dir():
            raise ImageError(f"{path}: is a folder, not a picture")
        with path.open("rb") as file:
            return _decode(file, str(path), path.stat().st_size)
    except FileNotFoundError:
        hint = ": fetch it first, only local files are read" if "://" in str(source) else ""
        raise ImageError(f"{source}: no such file{hint}") from None
    except PermissionError:
        raise ImageError(f"{source}: no permission to read it") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{source!r}: cannot be opened ({error})") from None


def _decode(file: Any, name: str, size: int) -> Image.Image:
    if size == 0:
        raise ImageError(f"{name}: is empty (0 bytes)")
    try:
        with Image.open(file) as picture:
            return _to_rgb(picture, name)
    except UnidentifiedImageError:
        raise ImageError(f"{name}: is not a picture in a format Pillow {PIL.__version__} reads") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ImageError(f"{name}: has more than {limit} pixels, the limit (twice PIL.Image.MAX_IMAGE_PIXELS)") from None
    except ImageError:
        raise
    # decoders raise whatever they like on a corrupt file: OSError, SyntaxError, struct.error, IndexError ...
    except Exception as error:
        raise ImageError(f"{name}: cannot be decoded ({error})") from error


def _to_rgb(picture: Image.Image, name: str) -> Image.Image:
    if 0 in picture.size:
        raise ImageError(f"{name}: has no pixels ({picture.height} x {picture.width})")
    try:
        # Pillow decodes late: a truncated file is found out here, and raises rather than coming back half grey
        picture.load()
        upright = _upright(picture)
        if upright.mode.startswith("I") or upright.mode == "F":
            return _deep_grey(upright, name)
        if upright.has_transparency_data:
            return _over_white(upright.convert("RGBA"))
        # a copy even where it is RGB already, so that the result never shares pixels with the source
        return upright.convert("RGB")
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name}: cannot be decoded ({error})") from error


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    # a malformed EXIF block says nothing about the pixels, which are fine
    except Exception:
        return picture


def _deep_grey(picture: Image.Image, name: str) -> Image.Image:
    """Modes I;16*, I and F: Pillow's own conversion clips them at 255."""
    values = np.asarray(picture)
    if picture.mode == "F":
        return _from_array(values, name)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{name}: its integers run from {values.min()} to {values.max()}, expected 16 bits, 0 to 65535")
    return _from_array(values.astype(np.uint16), name)


def _over_white(picture: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _from_tensor(tensor: Any, name: str, bgr: bool) -> Image.Image:
    values = tensor.detach().cpu()
    # numpy has no bfloat16 and no 8-bit floats
    if "float" in str(values.dtype) and "float64" not in str(values.dtype):
        values = values.float()
    array: NDArray[Any] = values.numpy()
    # channels first is what a tensor means where both readings are possible
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    return _from_array(array, name, bgr)


def _from_array(array: NDArray[Any], name: str, bgr: bool = False) -> Image.Image:
    _check_shape(array.shape, name)
    values = np.ascontiguousarray(_to_uint8(array, name))
    if values.ndim == 2 or values.shape[2] == 1:
        return Image.fromarray(values.reshape(values.shape[:2])).convert("RGB")
    if bgr:
        # Pillow turns the channels around while it copies, several times faster than numpy
        mode = _MODES[values.shape[2]]
        picture = Image.frombytes(mode, (values.shape[1], values.shape[0]), values, "raw", "BGR" + mode[3:])
    else:
        picture = Image.fromarray(values)
    return _over_white(picture) if values.shape[2] == 4 else picture


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if 0 in shape:
        raise ImageError(f"{name}: has no pixels (shape {list(shape)})")
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)):
        return
    hint = ""
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        hint = "; its channels come first, np.moveaxis(x, 0, -1) puts them last"
    if len(shape) == 4:
        hint = "; for several pictures pass a list"
    raise ImageError(f"{name}: shape {list(shape)} is not a picture, expected [H, W] or [H, W, 1, 3 or 4]{hint}")


def _to_uint8(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    # to the machine's byte order, or big-endian uint16 would not be uint16 below
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return np.where(array, np.uint8(255), np.uint8(0))
    if array.dtype == np.uint16:
        widened: NDArray[np.uint32] = array.astype(np.uint32) + SIXTEEN_TO_EIGHT // 2
        return (widened // SIXTEEN_TO_EIGHT).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"{name}: dtype {array.dtype} is not a picture's, expected uint8, uint16, bool or float within [0, 1]")
    low, high = float(array.min()), float(array.max())
    # one NaN anywhere makes both ends NaN
    if not np.isfinite([low, high]).all():
        raise ImageError(f"{name}: holds NaN or infinite values")
    if low < 0 or high > 1:
        raise ImageError(f"{name}: floats run from {low:.4g} to {high:.4g}, expected [0, 1]; divide by 255, or undo a normalisation")
    # in half precision 255 steps would be rounded twice
    scaled = np.multiply(array, 255, dtype=np.promote_types(array.dtype, np.float32))
    rounded: NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return rounded
