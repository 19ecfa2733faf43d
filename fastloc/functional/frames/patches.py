"""Camera frames -> the operand of the patch embedding, on any device, with Pillow's bytes.

A frame stays in 8 bits until it lies in patches: resize in integers (`pillow_taps`), crop or pad, cut into patches, and
(byte - 128) / 64, which is exact in every floating dtype. `preprocess.prepare` computes (byte / 255 - mean) / std in floats; here that
is folded into the patch embedding's matrix once: see `folded_embedding`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.errors import FastlocError
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.pillow_resize import PRECISION_BITS, taps, vertical_first

__all__ = ["AxisTables", "FrameTables", "folded_embedding", "frame_refusals", "frame_tables", "pixel_scale", "plain_patches"]

Pair = tuple[int, int]

# the most sums that `plain_patches` holds at once; frames beyond that run one after another
_SUMS = 1 << 24


@dataclass(frozen=True, eq=False)
class AxisTables:
    """One axis of the resize, cut to the model's input. It gives n pixels of K taps each."""

    first: int  # the first pixel of the frame that is read
    count: int  # the number of pixels read
    offset: int  # the first of the n pixels in the model's input
    start: Tensor  # [n] int32, the first tap of each, counted from `first`; start + K is at most count
    weights: Tensor  # [K, n] int32, 1 is 1 << PRECISION_BITS


@dataclass(frozen=True, eq=False)
class FrameTables:
    """The tables that turn frames of one size into patches. `frame_tables` makes them; sizes are (height, width)."""

    frame: Pair
    input: Pair
    patch: Pair
    rows: AxisTables
    columns: AxisTables
    vertical_first: bool  # True if columns are resized before rows, see `pillow_taps.vertical_first`
    padding: tuple[float, float, float]  # the mean colour in the patches' scale, red first
    colour: Tensor  # [3] float64, the padding on the tables' device
    _copies: dict[torch.device, "FrameTables"] = field(default_factory=dict, init=False, repr=False)

    @property
    def grid(self) -> Pair:
        return self.input[0] // self.patch[0], self.input[1] // self.patch[1]

    def to(self, device: torch.device) -> "FrameTables":
        """These tables on `device`, copied once. The copy lives as long as this object: keep it for a CUDA graph that reads the copy."""
        if self.rows.start.device == device:
            return self
        if device not in self._copies:
            rows, columns = (
                replace(axis, start=axis.start.to(device), weights=axis.weights.to(device)) for axis in (self.rows, self.columns)
            )
            self._copies[device] = replace(self, rows=rows, columns=columns, colour=self.colour.to(device))
        return self._copies[device]


def frame_tables(geometry: Geometry, patch: Pair, mean: Sequence[float], interpolation: str = "bicubic") -> FrameTables:
    """The tables, on the CPU, for frames of `geometry.picture`. Repeated calls return the same object.

    `mean` is the model's mean colour in [0, 1], red first. Raises FastlocError for an unknown interpolation, a patch that does not divide
    the geometry's input, and a mean that is not three finite numbers.
    """
    if len(mean) != 3 or not np.isfinite(mean).all():
        raise FastlocError(f"mean must be three finite numbers, one a channel, got {mean!r}")
    return _tables(geometry, patch, (float(mean[0]), float(mean[1]), float(mean[2])), interpolation)


def frame_refusals(frames: Tensor, tables: FrameTables) -> list[str]:
    """The reasons why these frames do not fit the tables; empty if they fit."""
    height, width = tables.frame
    if frames.ndim != 4 or list(frames.shape[1:]) != [height, width, 3]:
        return [f"frames must be [B, {height}, {width}, 3], the size that their tables were made for, got {list(frames.shape)}"]
    return [] if frames.dtype == torch.uint8 else [f"frames must be uint8, got {str(frames.dtype).removeprefix('torch.')}"]


def plain_patches(frames: Tensor, tables: FrameTables, dtype: torch.dtype, *, bgr: bool = False) -> Tensor:
    """The patch embedding's operand [B, P, 3 * ph * pw] of frames that fit the tables: see `fastloc.engine.frame_patches.patches_of`."""
    tables = tables.to(frames.device)
    rows, columns, (h, w), (ph, pw) = tables.rows, tables.columns, tables.grid, tables.patch
    part = frames[:, rows.first : rows.first + rows.count, columns.first : columns.first + columns.count]
    patches = torch.empty(len(frames), h * w, 3 * ph * pw, dtype=dtype, device=frames.device)
    # through float32, the dtype in which a kernel receives it
    colour = tables.colour.to(torch.promote_types(dtype, torch.float32)).to(dtype)
    at_once = max(_SUMS // (3 * max(rows.count * len(columns.start), columns.count * len(rows.start))), 1)
    for begin in range(0, len(frames), at_once):
        window = part[begin : begin + at_once]
        for axis, of in ((1, rows), (2, columns)) if tables.vertical_first else ((2, columns), (1, rows)):
            window = _resized(window, of, axis)
        if bgr:
            window = window.flip(3)
        pixels = colour.repeat(len(window), *tables.input, 1)
        pixels[:, rows.offset :, columns.offset :][:, : window.shape[1], : window.shape[2]] = (window.to(dtype) - 128) / 64
        cut = pixels.view(-1, h, ph, w, pw, 3).permute(0, 1, 3, 5, 2, 4)
        patches[begin : begin + at_once].view(-1, h, w, 3, ph, pw).copy_(cut)
    return patches


def folded_embedding(weights: Weights) -> tuple[Tensor, Tensor]:
    """The matrix [C, 3 * kh * kw] and bias [C] of the patch embedding's first convolution, with preprocessing folded in, at least float32.

    `embedded_rows(weights, patches, grid, matrix, bias)` on these patches p is the embedding of the normalised pixels. A byte is
    64 p + 128, so

        (byte / 255 - mean) / std = p * 64 / (255 std) + (128 / 255 - mean) / std

    and the first factor goes into the matrix, the rest, summed over the patch, into the bias. Of a convolution with padding it goes into
    a fourth plane of the matrix, [C, 4 * kh * kw], because in the padding the normalised pixels are zero; see
    `fastloc.functional.hierarchical.map_stem.map_tokens`.
    """
    kernel = weights.patch_w.double()
    factor, offset = (each.to(kernel.device) for each in pixel_scale(weights.spec.mean, weights.spec.std))
    matrix, rest = kernel * factor, (kernel * offset).sum(1, keepdim=True)
    bias = torch.zeros_like(kernel[:, 0, 0, 0]) if weights.patch_b is None else weights.patch_b.double()
    if weights.maps is not None:
        matrix = torch.cat([matrix, rest], 1)
    else:
        bias = bias + rest.flatten(1).sum(1)
    matrix = matrix.flatten(1)
    dtype = torch.promote_types(weights.dtype, torch.float32)
    return matrix.to(dtype), bias.to(dtype)


def pixel_scale(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The (factor, offset), float64 [3, 1, 1], that make normalised pixels of (byte - 128) / 64, red first; see `folded_embedding`."""
    centre, width = (torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (tuple(mean), tuple(std)))
    return 64 / (255 * width), (128 / 255 - centre) / width


@lru_cache(maxsize=64)
def _tables(geometry: Geometry, patch: Pair, mean: tuple[float, float, float], interpolation: str) -> FrameTables:
    geometry.grid(patch)
    red, green, blue = ((255 * each - 128) / 64 for each in mean)
    rows, columns = (_axis(geometry, axis, interpolation) for axis in (0, 1))
    order = vertical_first(geometry.picture, geometry.resized)
    colour = torch.tensor((red, green, blue), dtype=torch.float64)
    return FrameTables(geometry.picture, geometry.input, patch, rows, columns, order, (red, green, blue), colour)


def _axis(geometry: Geometry, axis: int, interpolation: str) -> AxisTables:
    whole = taps(geometry.picture[axis], geometry.resized[axis], interpolation)
    corner = geometry.corner[axis]
    inside = slice(max(corner, 0), min(corner + geometry.input[axis], geometry.resized[axis]))
    start, weights = whole.start[inside], whole.weights[inside].T.copy()
    first = int(start[0])
    return AxisTables(
        first=first,
        count=int(start[-1]) - first + len(weights),
        offset=max(-corner, 0),
        start=torch.from_numpy(start - first),
        weights=torch.from_numpy(weights),
    )


def _resized(pixels: Tensor, axis: AxisTables, dim: int) -> Tensor:
    """One pass: uint8 to uint8, `dim` from count to n. int32 sums, as in Pillow."""
    # gathering whole lines is several times faster than gathering single pixels
    lines = pixels.movedim(dim, 0).contiguous()
    total = torch.full((len(axis.start), *lines.shape[1:]), 1 << (PRECISION_BITS - 1), dtype=torch.int32, device=pixels.device)
    for k, weights in enumerate(axis.weights):
        total.addcmul_(lines.index_select(0, axis.start + k).to(torch.int32), weights.view(-1, 1, 1, 1))
    return (total >> PRECISION_BITS).clamp_(0, 255).to(torch.uint8).movedim(0, dim)
