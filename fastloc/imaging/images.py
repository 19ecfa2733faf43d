"""Loading of pictures from any source: one PIL picture, RGB, 8 bits, upright; or an ImageError that names the fault."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fastloc.errors import ImageError, warn
from fastloc.imaging import colour, picture_files, picture_formats, reduced_picture
from fastloc.imaging.picture_files import MAX_PIXELS
from fastloc.imaging.picture_formats import FORMATS
from fastloc.imaging.pixel_depth import to_uint8
from fastloc.imaging.reduced_picture import ReducedPicture
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["FORMATS", "MAX_PIXELS", "load"]

Pair = tuple[int, int]

# by number of channels
_MODES = {3: "RGB", 4: "RGBA"}
# rows that are converted at a time, so that the intermediates of large pictures stay small
_ROWS = 64
# TIFF's tags, and the value of PhotometricInterpretation for which 0 is white
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def load(
    source: object, name: str | None = None, *, bgr: bool = False, max_pixels: int = MAX_PIXELS, white: int | None = None,
    profile: bool = True, enough: Callable[[Pair], Pair] | None = None,
) -> Image.Image:  # fmt: skip
    """A new RGB picture of 8 bits a channel, in sRGB, from:

      str or path     a raster file (see `FORMATS`; HEIC with the extra "heif"), or an http(s) address; of an animation the first frame
      bytes           the content of such a file: bytes, bytearray, memoryview, or an open binary file
      PIL.Image       any mode
      numpy array     [H, W] or [H, W, 1 | 3 | 4]; uint8, bool, other integers, or float within [0, 1]
      torch tensor    [H, W], [1 | 3 | 4, H, W] or [H, W, 1 | 3 | 4], any device, the same dtypes and half and bfloat16

    The EXIF orientation is applied; transparency is laid over white; an embedded colour profile is applied (see `colour.to_srgb`); deeper
    pixels are scaled to 8 bits by the rules of `fastloc.imaging.pixel_depth`, with a FastlocWarning where white had to be assumed.

    Args:
        name: the name in error messages of a source that has no path of its own.
        bgr: the array's or tensor's channels are blue, green, red (and alpha), as OpenCV's are; greys stay.
        max_pixels: the most pixels of a decoded file; checked before any allocation. Arrays, tensors and PIL pictures are not limited.
        white: the value of white in an array of integers deeper than 8 bits; None: found by the rules of `pixel_depth`.
        profile: False leaves the embedded colour profile of a file out, as OpenCV and the evaluations of papers do.
        enough: gives the (height, width) that suffice of an upright picture of (height, width): a JPEG file of twice that or more is
            decoded at a reduced scale, and is a `reduced_picture.ReducedPicture`, which has the full pixels once they are asked for. What
            is wrong with the file is raised here in either case.

    Raises ImageError.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "array", bgr, white)
    if all(callable(getattr(source, method, None)) for method in ("detach", "cpu", "numpy")):
        return _from_tensor(source, name or "tensor", bgr)
    kind = type(source).__name__
    if bgr:
        raise ImageError(f"{name or 'picture'} must be an array or a tensor for bgr, got a {kind}, which names its channels itself")
    if isinstance(source, ReducedPicture) and enough is not None and source.suffices(enough(source.size[::-1])):
        return source
    if isinstance(source, Image.Image):
        return _to_rgb(source, name or "PIL picture", own=False)
    if isinstance(source, (str, os.PathLike)):
        with picture_files.opened(source) as (file, size):
            return _decode(file, os.fsdecode(source), size, max_pixels, profile, enough)
    if isinstance(source, (bytes, bytearray, memoryview)):
        size = memoryview(source).nbytes
        return _decode(io.BytesIO(source), name or f"picture of {size} bytes", size, max_pixels, profile, enough)
    if callable(getattr(source, "read", None)):
        content = picture_files.content_of(source, name or "open file")
        return _decode(io.BytesIO(content), name or f"picture of {len(content)} bytes", len(content), max_pixels, profile, enough)
    raise ImageError(f"{name or 'picture'} must be a path, bytes, a PIL picture, a numpy array or a torch tensor, got a {kind}")


def _decode(
    file: Any, name: str, size: int | None, max_pixels: int, profile: bool, enough: Callable[[Pair], Pair] | None = None
) -> Image.Image:
    if size == 0:
        raise ImageError(f"{name}: is empty (0 bytes)")
    try:
        with picture_formats.identified(file, name) as picture:
            _check_size(picture.size, name, max_pixels)
            if enough is not None and picture.format == "JPEG" and (reduced := _reduced(file, picture, name, profile, enough)):
                return reduced
            deep = _deep_channels(picture)
            if not profile:
                picture.info.pop("icc_profile", None)
            rgb = _to_rgb(picture, name, own=True)
            if deep:
                _note_dark(rgb, name)
            return rgb
    except UnidentifiedImageError:
        raise ImageError(f"{name}: is not a picture, or is damaged; formats that are read: {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ImageError(f"{name}: has more than {limit} pixels, Pillow's own limit (twice PIL.Image.MAX_IMAGE_PIXELS)") from None
    except ImageError:
        raise
    # decoders raise whatever they like on a corrupt file: OSError, SyntaxError, struct.error, IndexError ...
    except Exception as error:
        pass_on(error)
        raise ImageError(f"{name}: cannot be decoded ({error})") from error


def _reduced(file: Any, picture: Any, name: str, profile: bool, enough: Callable[[Pair], Pair]) -> ReducedPicture | None:
    """The JPEG at a reduced scale; None where that is not small enough to be worth it."""
    turn, (width, height) = reduced_picture.orientation(picture), picture.size
    upright = (width, height) if turn < 5 else (height, width)
    step = reduced_picture.divisor(picture, enough(upright[::-1]))
    if step == 1:
        return None
    at = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(at)
    # Pillow divides by the size that is asked for, and rounds down
    picture.draft(None, (width // step, height // step))
    if not profile:
        picture.info.pop("icc_profile", None)
    small = _to_rgb(picture, name, own=True)
    return ReducedPicture(small, upright, step, turn, lambda: load(content, name, max_pixels=width * height, profile=profile))


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: must have at most max_pixels = {max_pixels:,} pixels, got {width} x {height} = {width * height:,}; "
            "raise max_pixels where you trust it, or scale it down"
        )


def _to_rgb(picture: Image.Image, name: str, *, own: bool) -> Image.Image:
    """A new RGB picture. own: no caller holds this picture, so that it may be rotated in place."""
    if 0 in picture.size:
        raise ImageError(f"{name}: has no pixels ({picture.height} x {picture.width})")
    try:
        # Pillow decodes late: a truncated file is found out here, and raises rather than coming back half grey
        picture.load()
        upright = _upright(picture, own)
        if upright.mode.startswith("I") or upright.mode == "F":
            return _deep_grey(upright, name, _declared_white(picture), _white_is_zero(picture))
        if upright.has_transparency_data:
            return _in_strips(_usable(upright, "RGBA", name), lambda strip: _over_white(colour.to_srgb(strip.convert("RGBA"), name)))
        if upright.mode in ("P", "PA", "1", "HSV", "YCbCr", "RGBX"):
            upright = _with_profile(upright.convert("RGB"), picture)
        if not colour.is_srgb(upright):
            return _in_strips(_usable(upright, upright.mode, name), lambda strip: colour.to_srgb(strip, name).convert("RGB"))
        # a copy even where it is RGB already, so that the result never shares pixels with the source
        return upright.convert("RGB") if own or upright is picture or upright.mode != "RGB" else upright
    except ImageError:
        raise
    except Exception as error:
        pass_on(error)
        raise ImageError(f"{name}: cannot be decoded ({error})") from error


def _upright(picture: Image.Image, own: bool) -> Image.Image:
    try:
        if own:
            ImageOps.exif_transpose(picture, in_place=True)
            return picture
        return ImageOps.exif_transpose(picture)
    # a malformed EXIF block says nothing about the pixels, which are fine
    except Exception as error:
        pass_on(error)
        return picture


def _usable(picture: Image.Image, mode: str, name: str) -> Image.Image:
    """The picture, or a copy without its profile where that cannot be used for a mode: its strips would warn of it each."""
    if colour.is_usable(picture, mode, name):
        return picture
    plain = picture.copy()
    plain.info.pop("icc_profile")
    return plain


def _with_profile(picture: Image.Image, source: Image.Image) -> Image.Image:
    if "icc_profile" in source.info:
        picture.info["icc_profile"] = source.info["icc_profile"]
    return picture


def _in_strips(picture: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert rows at a time; of a large picture only the source and the result are in memory as a whole."""
    if picture.height <= _ROWS:
        return convert(picture)
    made = Image.new("RGB", picture.size)
    for top in range(0, picture.height, _ROWS):
        made.paste(convert(picture.crop((0, top, picture.width, min(top + _ROWS, picture.height)))), (0, top))
    return made


def _deep_grey(picture: Image.Image, name: str, white: int | None, inverted: bool) -> Image.Image:
    """Modes I;16*, I and F: Pillow's own conversion clips them at 255."""
    grey = Image.fromarray(to_uint8(np.asarray(picture), name, white=white, inverted=inverted))
    if "icc_profile" in picture.info:
        return _in_strips(_usable(_with_profile(grey, picture), "L", name), lambda strip: colour.to_srgb(strip, name).convert("RGB"))
    return grey.convert("RGB")


def _tag(picture: Image.Image, number: int) -> Any:
    """A TIFF's tag; None for other pictures."""
    return getattr(picture, "tag_v2", {}).get(number)


def _declared_white(picture: Image.Image) -> int | None:
    """The white that a TIFF of 12 bits a pixel declares; None where the type has more room than the values may need."""
    bits = _tag(picture, _BITS)
    count = bits[0] if isinstance(bits, tuple) and bits else bits
    return (1 << count) - 1 if isinstance(count, int) and 8 < count < 16 else None


def _white_is_zero(picture: Image.Image) -> bool:
    """True for the deep greys that Pillow reads without inverting; it inverts those of 8 bits itself."""
    return bool(_tag(picture, _PHOTOMETRIC) == _WHITE_IS_ZERO)


def _deep_channels(picture: Image.Image) -> bool:
    """True for colour of 16 bits a channel, of which Pillow always keeps the upper 8, even where they are all 0."""
    raw = [part[3] for part in getattr(picture, "tile", []) if len(part) > 3]
    names = [each[0] if isinstance(each, tuple) and each else each for each in raw]
    return any(isinstance(each, str) and ";16" in each for each in names) and picture.mode in ("RGB", "RGBA", "LA", "L", "CMYK")


def _note_dark(picture: Image.Image, name: str) -> None:
    high = int(np.asarray(picture).max())
    if high < 64:
        warn(f"{name}: its 16-bit channels fill no more than 14 bits and the upper 8 of 16 are read, so it is dark; save it with 8 bits",
             stacklevel=2)  # fmt: skip


def _over_white(picture: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _from_tensor(tensor: Any, name: str, bgr: bool) -> Image.Image:
    # neither has values that could be copied; other libraries' tensors have neither attribute
    if getattr(tensor, "is_meta", False):
        raise ImageError(f"{name}: a tensor must have values, got device meta; load it to a device first")
    if str(getattr(tensor, "layout", "torch.strided")) != "torch.strided":
        raise ImageError(f"{name}: a tensor must be dense, got layout {tensor.layout}; to_dense() makes it so")
    values = tensor.detach().cpu()
    # numpy has no bfloat16 and no 8-bit floats
    if "float" in str(values.dtype) and "float64" not in str(values.dtype):
        values = values.float()
    try:
        array: NDArray[Any] = values.numpy()
    # quantised tensors, conjugate views and what else numpy has no word for
    except (TypeError, RuntimeError) as error:
        pass_on(error)
        raise ImageError(f"{name}: a tensor of {values.dtype} cannot be read as an array ({first_line(error)})") from None
    # channels first is what a tensor means where both readings are possible
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    return _from_array(array, name, bgr)


def _from_array(array: NDArray[Any], name: str, bgr: bool = False, white: int | None = None) -> Image.Image:
    _check_shape(array.shape, name)
    values = np.ascontiguousarray(to_uint8(array, name, white=white))
    if values.ndim == 2 or values.shape[2] == 1:
        return Image.fromarray(values.reshape(values.shape[:2])).convert("RGB")
    if bgr:
        # Pillow turns the channels around while it copies, several times faster than numpy
        mode = _MODES[values.shape[2]]
        picture = Image.frombytes(mode, (values.shape[1], values.shape[0]), values, "raw", "BGR" + mode[3:])
    else:
        picture = Image.fromarray(values)
    return _in_strips(picture, _over_white) if values.shape[2] == 4 else picture


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if 0 in shape:
        raise ImageError(f"{name}: has no pixels (shape {list(shape)})")
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)):
        return
    hint = ""
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        hint = "; its channels come first, np.moveaxis(x, 0, -1) puts them last"
    if len(shape) == 4:
        hint = "; this is a batch, give one picture of it"
    raise ImageError(f"{name}: its shape must be [H, W] or [H, W, 1, 3 or 4], got {list(shape)}{hint}")
