"""Camera frames -> the operand of the patch embedding, by the Triton kernel or in plain PyTorch: one result, to the bit."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastloc.errors import FastlocError
from fastloc.functional.frame_patches import frame_refusals, frame_tables, plain_patches
from fastloc.imaging.geometry import Geometry
from fastloc.kernels import device

__all__ = ["patches_of"]

Pair = tuple[int, int]


def patches_of(
    frames: Tensor, geometry: Geometry, patch: Pair, mean: Sequence[float], interpolation: str, dtype: torch.dtype,
    *, bgr: bool = False, fused: bool = False,
) -> Tensor:  # fmt: skip
    """The operand of the patch embedding's GEMM, with the bytes that Pillow's resize gives.

    Args:
        frames: [B, H, W, 3] uint8, of any strides; H and W are the geometry's picture.
        geometry, patch, mean, interpolation: see `frame_tables`.
        dtype: of the result; any floating dtype.
        bgr: True if the frames' channels are blue, green, red, as OpenCV's are.
        fused: run the Triton kernel `frame_patches` rather than plain PyTorch. The result is the same to the bit.

    Returns: [B, P, 3 * ph * pw], patches row by row over the grid, each in the order of `patch_w.flatten(1)`: channel (red first), row,
        column. The values are (byte - 128) / 64; where the geometry pads, the mean colour.

    Raises:
        FastlocError: frames of another shape or dtype; the errors of `frame_tables`; with `fused`, every reason why the kernel cannot run.
    """
    tables = frame_tables(geometry, patch, mean, interpolation)
    reasons = frame_refusals(frames, tables)
    if fused and not reasons:
        reasons = device.why_not(frames.device)
        if not reasons:
            from fastloc.kernels.frame_patches import frame_patches, why_not

            reasons = why_not(frames, tables, dtype, bgr=bgr)
            if not reasons:
                return frame_patches(frames, tables, dtype, bgr=bgr)
    if reasons:
        raise FastlocError("; ".join(reasons))
    return plain_patches(frames, tables, dtype, bgr=bgr)
