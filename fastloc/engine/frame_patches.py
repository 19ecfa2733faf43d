"""Camera frames -> the operand of the patch embedding, by the Triton kernel or in plain PyTorch: one result, to the bit.

Towers that begin with a convolution read the same bytes as normalised pixels, see `FramePixels`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastloc.errors import FastlocError
from fastloc.functional.frames.patches import frame_refusals, frame_tables, plain_patches
from fastloc.imaging.geometry import Geometry
from fastloc.kernels import device

__all__ = ["FramePixels", "patches_of"]

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


class FramePixels:
    """Makes normalised pixels of uint8 frames of one geometry, on their device.

    Args:
        geometry, mean, std, interpolation: see `frame_tables`.
        tile: (height, width) that divides the input, in which the frames are resized.
        dtype, device: of the pixels.
    """

    def __init__(
        self, geometry: Geometry, tile: Pair, mean: Sequence[float], std: Sequence[float], interpolation: str, dtype: torch.dtype,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.geometry, self.tile, self.mean, self.interpolation, self.dtype = geometry, tile, mean, interpolation, dtype
        # held, because a captured graph reads the tables
        self.tables = frame_tables(geometry, tile, mean, interpolation)
        # a frame's bytes stand in patches as (byte - 128) / 64; the convolutions read (byte / 255 - mean) / std
        middle, spread = (torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (tuple(mean), tuple(std)))
        self.factor, self.offset = (each.to(device, dtype) for each in (64 / (255 * spread), (128 / 255 - middle) / spread))

    def __call__(self, frames: Tensor, *, bgr: bool = False, fused: bool = False) -> Tensor:
        """Pixels [B, 3, h, w] of the geometry's input, normalised, of frames [B, H, W, 3]; arguments and errors as for `patches_of`."""
        patches = patches_of(frames, self.geometry, self.tile, self.mean, self.interpolation, self.dtype, bgr=bgr, fused=fused)
        h, w = self.geometry.grid(self.tile)
        cut = patches.reshape(len(frames), h, w, 3, *self.tile).permute(0, 3, 1, 4, 2, 5)
        return cut.reshape(len(frames), 3, *self.geometry.input) * self.factor + self.offset
