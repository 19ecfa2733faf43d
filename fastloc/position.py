"""Position embeddings at another grid than the trained one, in the ways the methods' authors do it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resized_position(position: Tensor, trained: tuple[int, int], grid: tuple[int, int], mode: str) -> Tensor:
    """Resize the patches' rows of `position` [1 + gh*gw, C] to `grid`; the class token's row is kept. -> [1 + h*w, C].

    mode: "bicubic-antialias" (GEM, LeGrad), "bicubic" (MaskCLIP), "bilinear" (CLIP Surgery), or "bicubic-scale", the SCLIP
    family's resize by the factor (h + 0.1) / gh, which samples at other places than a resize by size.
    """
    if grid == trained:
        return position
    # half precision has no antialiased resize on every device, and the table is tiny
    wide = position[1:].to(torch.promote_types(position.dtype, torch.float32))
    table = wide.T.reshape(1, -1, *trained)
    if mode == "bicubic-scale":
        factor = tuple((side + 0.1) / old for side, old in zip(grid, trained, strict=True))
        table = F.interpolate(table, scale_factor=factor, mode="bicubic", recompute_scale_factor=False)
    else:
        table = F.interpolate(table, size=grid, mode=mode.removesuffix("-antialias"), antialias=mode.endswith("antialias"))
    return torch.cat([position[:1], table[0].flatten(1).T.to(position.dtype)])
