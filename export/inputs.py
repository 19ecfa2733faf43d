"""The picture input of a file, and its conversion to patches or normalised pixels in the graph."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
import torch.onnx
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional.frames.patches import AxisTables, FrameTables, folded_embedding, frame_tables, pixel_scale
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.patch_stem import embedded_planes, patch_tokens
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.pillow_resize import PRECISION_BITS

Pair = tuple[int, int]
# an input picture -> embedded patches [B, P, C] without position, and the grid
Embed = Callable[[Tensor], tuple[Tensor, Pair]]

# ONNX's names of the filters that its Resize offers with antialiasing
_MODES = {"bicubic": "cubic", "bilinear": "linear"}


class PictureSpec(Protocol):
    """The fields of a tower's spec that its pictures and their checks read; `patch` is one cell of the grid in pixels."""

    @property
    def patch(self) -> Pair: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def interpolation(self) -> str: ...


def embed_of(
    kind: str, weights: Weights, dtype: torch.dtype, geometry: Geometry | None, layout: str, bgr: bool, resize: str, ops: Ops = TORCH
) -> Embed:
    """The function that embeds the input picture; `weights` are in float32, `dtype` is the tower's."""
    tower = weights.to(dtype=dtype)
    if kind == "pixels":
        return lambda pixels: patch_tokens(tower, _ordered(pixels, "NCHW", bgr), ops)
    matrix, bias = (each.to(dtype) for each in folded_embedding(weights))
    planes_of = byte_planes(kind, weights.spec, geometry, layout, bgr, resize)

    def patches(picture: Tensor) -> tuple[Tensor, Pair]:
        return embedded_planes(tower, planes_of(picture).to(dtype), matrix, bias, ops)

    return patches


def normalised_pixels(
    kind: str, spec: PictureSpec, geometry: Geometry | None, layout: str, bgr: bool, resize: str
) -> Callable[[Tensor], Tensor]:
    """The function from the input picture to normalised pixels [B,3,H,W], float32, for towers without a patch embedding.

    Zeros around these pixels are the mean colour, so normalisation does not go into the first convolution, whose borders are padded.
    """
    if kind == "pixels":
        return lambda pixels: _ordered(pixels, "NCHW", bgr)
    planes_of = byte_planes(kind, spec, geometry, layout, bgr, resize)
    factor, offset = (each.float() for each in pixel_scale(spec.mean, spec.std))
    return lambda picture: planes_of(picture) * factor + offset


def byte_planes(
    kind: str, spec: PictureSpec, geometry: Geometry | None, layout: str, bgr: bool, resize: str
) -> Callable[[Tensor], Tensor]:
    """The function from the input picture, of kind "bytes" or "frames", to planes [B,3,H,W] of (byte - 128) / 64, float32."""
    if kind == "bytes":
        return lambda numbers: (_ordered(numbers, "NCHW", bgr) - 128) / 64
    assert geometry is not None
    resized = frame_resize(geometry, spec, resize)
    # TensorRT can only cast bytes; ONNX's Resize rounds to them
    width = torch.uint8 if resize == "onnx" else torch.float32
    return lambda frames: resized(_ordered(frames.to(width), layout, bgr))


def frame_resize(geometry: Geometry, spec: PictureSpec, how: str) -> Callable[[Tensor], Tensor]:
    """Camera frames, planes [B,3,H,W] of bytes, red first -> (byte - 128) / 64 at the encoder's input, within a step of Pillow's."""
    tables = frame_tables(geometry, spec.patch, spec.mean, spec.interpolation)
    inside = _by_onnx(geometry, tables, spec) if how == "onnx" else _by_products(tables)

    def resize(planes: Tensor) -> Tensor:
        return _padded((inside(planes) - 128) / 64, tables)

    return resize


def why_not_onnx_resize(spec: PictureSpec) -> list[str]:
    """The reasons why ONNX's Resize cannot reproduce Pillow's for this model."""
    if spec.interpolation in _MODES:
        return []
    return [f"resize must be 'matmul' for interpolation {spec.interpolation!r}, which ONNX's Resize does not antialias, got 'onnx'"]


def _ordered(picture: Tensor, layout: str, bgr: bool) -> Tensor:
    """The picture as planes [B,3,H,W], red first."""
    planes = picture.permute(0, 3, 1, 2) if layout == "NHWC" else picture
    return planes.flip(1) if bgr else planes


def _by_products(tables: FrameTables) -> Callable[[Tensor], Tensor]:
    """Pillow's two passes, each rounded to bytes, as products with constant matrices."""
    rows, columns = _matrix(tables.rows), _matrix(tables.columns)

    def inside(planes: Tensor) -> Tensor:
        across, down = tables.columns, tables.rows
        part = planes[:, :, down.first : down.first + down.count, across.first : across.first + across.count]
        if tables.vertical_first:
            return _rounded(_rounded(rows @ part) @ columns.T)
        return _rounded(rows @ _rounded(part @ columns.T))

    return inside


def _matrix(axis: AxisTables) -> Tensor:
    """One pass as a matrix [n, count], float32."""
    matrix = torch.zeros(len(axis.start), axis.count, dtype=torch.float64)
    for tap, weights in enumerate(axis.weights):
        matrix[torch.arange(len(axis.start)), axis.start.long() + tap] += weights.double() / (1 << PRECISION_BITS)
    return matrix.float()


def _rounded(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255)


def _by_onnx(geometry: Geometry, tables: FrameTables, spec: PictureSpec) -> Callable[[Tensor], Tensor]:
    """ONNX's Resize of the whole frame, and the part of it that lies within the input."""
    attributes: dict[str, Any] = {
        "mode": _MODES[spec.interpolation], "antialias": 1, "cubic_coeff_a": -0.5, "exclude_outside": 1,
        "coordinate_transformation_mode": "half_pixel", "axes": [2, 3],
    }  # fmt: skip
    top, left = (max(corner, 0) for corner in geometry.corner)
    size = torch.tensor(geometry.resized)

    def inside(planes: Tensor) -> Tensor:
        whole = planes
        if geometry.resized != geometry.picture:
            shape = (*planes.shape[:2], *geometry.resized)
            whole = torch.onnx.ops.symbolic("Resize", [planes, None, None, size], attributes, dtype=planes.dtype, shape=shape)
        return whole[:, :, top : top + len(tables.rows.start), left : left + len(tables.columns.start)].float()

    return inside


def _padded(planes: Tensor, tables: FrameTables) -> Tensor:
    """Planes padded with a letterbox's borders in the mean colour."""
    (height, width), (top, left) = tables.input, (tables.rows.offset, tables.columns.offset)
    n, m = len(tables.rows.start), len(tables.columns.start)
    if (n, m) == (height, width):
        return planes
    colour = tables.colour.float().view(1, 3, 1, 1)
    return F.pad(planes - colour, (left, width - m - left, top, height - n - top)) + colour
