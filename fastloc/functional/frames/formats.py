"""Frames on a device: tensors shared without a copy, and decoders' NV12 as RGB."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from fastloc.errors import FastlocError, ImageError, unknown
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["MATRICES", "MOST", "check_values", "nv12_to_rgb", "shared"]

# of normalised pixels: those of bytes lie within 3 of 0, and beyond this half precision may overflow
MOST = 1000.0


@dataclass(frozen=True)
class Matrix:
    """Weights of red and blue in the luma, ITU-R BT.601, BT.709 and BT.2020."""

    red: float
    blue: float


MATRICES = {"bt601": Matrix(0.299, 0.114), "bt709": Matrix(0.2126, 0.0722), "bt2020": Matrix(0.2627, 0.0593)}


def shared(frames: Any) -> Tensor:
    """A tensor on the memory of anything with `__dlpack__` (cupy, jax, numpy, a decoder's surface), on its device; a tensor as it is.

    Raises ImageError for an object without `__dlpack__`, or with a form that PyTorch cannot hold.
    """
    if isinstance(frames, Tensor):
        return frames
    kind = type(frames).__name__
    if not hasattr(frames, "__dlpack__"):
        raise ImageError(f"frames must be a torch tensor, or another array with __dlpack__, got a {kind}")
    try:
        tensor: Tensor = from_dlpack(frames)
        return tensor
    except Exception as error:
        pass_on(error)
        hint = "a view that runs backwards must be copied, and for blue first there is bgr=True"
        raise ImageError(f"frames, a {kind}, cannot be shared with PyTorch ({error}); {hint}") from error


def check_values(pixels: Tensor) -> None:
    """Raise ImageError for normalised pixels [B, ...] that are not finite or beyond `MOST`, with the picture's number.

    Bytes are always finite. Pixels on a device are not read, which would wait for it: a Result refuses what comes of them.
    """
    if pixels.device.type != "cpu" or not pixels.is_floating_point():
        return
    for i, picture in enumerate(pixels.detach() if pixels.ndim else ()):
        if not picture.numel():
            continue
        low, high = (float(each) for each in picture.aminmax())
        # NaN is within nothing
        if not -MOST <= low <= high <= MOST:
            raise ImageError(
                f"pixels of picture {i} must be finite and within {MOST:g} of 0, got {low:g} to {high:g}; normalise them by "
                "(x / 255 - mean) / std"
            )


def nv12_to_rgb(
    surface: Any, height: int | None = None, width: int | None = None, *, matrix: str = "bt709", full_range: bool = False
) -> Tensor:
    """A decoder's NV12 as RGB on the same device: uint8 [H, W, 3], or [B, H, W, 3].

    Args:
        surface: uint8 [rows * 3 / 2, pitch] or [B, rows * 3 / 2, pitch], luma above, blue and red in turn below, each for 2 x 2 pixels: a
            tensor, or anything with `__dlpack__`.
        height, width: the picture's size, where rows and pitch are larger; each is even or the surface's own.
        matrix: a row of `MATRICES`: bt709 for video in HD, bt601 for smaller, bt2020 for UHD.
        full_range: luma from 0 to 255 rather than from 16 to 235.

    Raises:
        ImageError: the surface has another shape or dtype. FastlocError: an unknown matrix, a picture that is larger than the surface.
    """
    planes = shared(surface)
    if planes.dtype != torch.uint8 or planes.ndim not in (2, 3) or planes.shape[-2] % 3 or planes.shape[-1] % 2 or not planes.numel():
        raise ImageError(f"an NV12 surface must be uint8 [rows * 3 / 2, pitch], got {planes.dtype} {list(planes.shape)}")
    if matrix not in MATRICES:
        raise FastlocError(unknown("matrix", matrix, MATRICES))
    rows, pitch = planes.shape[-2] * 2 // 3, planes.shape[-1]
    shown_height, shown_width = height or rows, width or pitch
    if not (0 < shown_height <= rows and 0 < shown_width <= pitch):
        raise FastlocError(f"the picture must lie in its surface of {rows} x {pitch}, got {shown_height} x {shown_width}")
    luma = planes[..., :shown_height, :shown_width].float()
    chroma = planes[..., rows : rows + (shown_height + 1) // 2, : shown_width + shown_width % 2].float() - 128
    blue, red = (_doubled(chroma[..., i::2])[..., :shown_height, :shown_width] for i in (0, 1))
    return _rgb(luma, blue, red, MATRICES[matrix], full_range)


def _doubled(plane: Tensor) -> Tensor:
    return plane.repeat_interleave(2, -2).repeat_interleave(2, -1)


def _rgb(luma: Tensor, blue: Tensor, red: Tensor, matrix: Matrix, full_range: bool) -> Tensor:
    """RGB from Y in its range and Cb and Cr around 0: H.273, equations 38 to 43 solved for red, green and blue."""
    if full_range:
        y, low = luma, 255.0
    else:
        y, low = (luma - 16) * (255 / 219), 224.0
    # the change of blue and red for one step of Cb and Cr
    to_blue, to_red = (2 * (1 - each) * 255 / low for each in (matrix.blue, matrix.red))
    green = 1 - matrix.red - matrix.blue
    r, b = y + to_red * red, y + to_blue * blue
    g = (y - matrix.red * r - matrix.blue * b) / green
    return torch.stack((r, g, b), -1).round_().clamp_(0, 255).to(torch.uint8)
