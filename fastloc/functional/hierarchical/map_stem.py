"""A stem of overlapping convolutions: ViTamin's, at a sixteenth of the picture's sides (arXiv 2404.02132, section 3.3)."""

import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_weights import MapBlock, MapStem
from fastloc.functional.op_set import TORCH, Ops, normalised

__all__ = ["map_tokens"]


def map_tokens(maps: MapStem, planes: Tensor, kernel: Tensor, bias: Tensor | None, eps: float, ops: Ops = TORCH) -> Tensor:
    """Planes [B,3,H,W], H and W multiples of 16 -> tokens [B, H/16 * W/16, C].

    kernel: of the first convolution, [D, 3, 3, 3]; or [D, 4, 3, 3], where the fourth plane is of ones inside the picture and of zeros in
        its padding. That plane carries the constant part of a preprocessing which is folded into the kernel, so it is exact at the
        border, where a bias is not.
    eps: of all LayerNorms. ops: their form.
    """
    if kernel.shape[1] == planes.shape[1] + 1:
        planes = F.pad(planes, (0, 0, 0, 0, 0, 1), value=1.0)
    # maps are [B, h, w, channels] outside of convolutions
    x = _cells(F.conv2d(planes, kernel, bias, stride=2, padding=1))
    x = F.gelu(normalised(x, maps.norm_w, maps.norm_b, eps, ops))
    x = _cells(F.conv2d(_planes(x), maps.second_w, maps.second_b, padding=1))
    for block in maps.blocks:
        x = _block(block, x, eps, ops)
    x = normalised(x, maps.end_norm_w, maps.end_norm_b, eps, ops)
    return F.conv2d(_planes(x), maps.end_w, maps.end_b, stride=2, padding=1).flatten(2).transpose(1, 2)


def _block(block: MapBlock, x: Tensor, eps: float, ops: Ops) -> Tensor:
    """One inverted bottleneck: [B, h, w, D] -> [B, h, w, C], or half as many cells on each side."""
    y = normalised(x, block.norm_w, block.norm_b, eps, ops)
    y = _planes(F.gelu(F.linear(y, block.widen_w, block.widen_b)))
    stride = 2 if block.halves else 1
    y = F.gelu(_cells(F.conv2d(y, block.depth_w, block.depth_b, stride=stride, padding=1, groups=y.shape[1])))
    y = F.linear(y, block.narrow_w, block.narrow_b)
    if block.halves:
        # cells in the padding do not count in the mean
        x = _cells(F.avg_pool2d(_planes(x), 3, stride=2, padding=1, count_include_pad=False))
    if block.short_w is not None:
        x = F.linear(x, block.short_w, block.short_b)
    return x + y


def _planes(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _cells(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)
