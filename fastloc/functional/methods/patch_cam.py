"""Grad-CAM++ and LayerCAM on the patches that the last block of a transformer projects."""

from torch import Tensor

from fastloc.functional import vjp
from fastloc.functional.block_trace import BlockTrace, at_attention, through_attention
from fastloc.functional.methods.cam import WEIGHINGS
from fastloc.functional.target import Target

__all__ = ["patch_cam"]


def patch_cam(cam: str, trace: BlockTrace, target: Target, rows: slice, texts: slice, most: int | None = None) -> Tensor:
    """The maps of some texts, [B, t, P], not negative, by the gradient at every patch of y, the input of the block's projections.

    Args:
        cam: "grad-cam++" or "layer-cam", see `fastloc.functional.methods.cam`.
        trace, target: of the last block. rows: the tokens that the score reads.
        most: see `fastloc.functional.slices.parts`.
    """
    prefix = trace.spec.prefix
    # the weighings read maps [B, C, h, w]; a row of patches is one of a single column
    patches = vjp.upcast(trace.y[:, prefix:]).transpose(1, 2)[..., None]
    at_y, _ = through_attention(trace, rows, at_attention(trace, target.gradient(texts), rows), most=most)
    gradient = at_y[:, :, prefix:].permute(1, 0, 3, 2)[..., None]
    factor = target.strength[:, texts].transpose(0, 1)[:, :, None, None]
    # Grad-CAM++ alone depends on the score's scale
    scaled = cam == "grad-cam++"
    found = WEIGHINGS[cam](patches, gradient * factor[..., None] if scaled else gradient)
    return (found if scaled else found * factor)[..., 0].transpose(0, 1)
