"""A FastViT that a configuration describes field by field, in `"fastvit"` of its `vision_cfg`, for sizes that timm has no name for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastloc.checkpoints.hierarchical.fastvit import HEAD_WIDTH, Arch
from fastloc.errors import FastlocError
from fastloc.utils.schema import count

__all__ = ["FastVit", "arch_of"]

# largest sizes: of stages, of a stage's blocks and channels, and of an MLP's inner width over the block's
STAGES, LAYERS, WIDTH, RATIO = 6, 256, 1 << 14, 16
# the squeeze of the final convolution is an eighth of the last stage's channels, that of a step a quarter of its own
_SQUEEZE = 8


@dataclass
class FastVit:
    """The fields of a FastViT's `Arch` that a configuration may give, each with its range.

    The grid shrinks by 4 in the stem and by 2 before each stage but the first: two stages have cells of 8 x 8 pixels.
    """

    depths: list[int]
    dims: list[int]
    ratio: int = 3
    attending: int = 1
    excites: list[int] = field(default_factory=list)
    layer_norm: bool = False
    stem_scales: bool = True

    def __post_init__(self) -> None:
        stages = len(self.dims)
        count("stages of dims", stages, STAGES)
        if len(self.depths) != stages:
            raise FastlocError(f"depths must be one number for each of the {stages} dims, got {len(self.depths)}")
        count("ratio", self.ratio, RATIO)
        count("attending", self.attending, stages, 0)
        for depth in self.depths:
            count("depths", depth, LAYERS)
        for width in self.dims:
            count("dims", width, WIDTH, _SQUEEZE)
        for before, width in zip(self.dims, self.dims[1:], strict=False):
            if width % before:
                raise FastlocError(f"dims must each be a multiple of the one before, {before}, got {width}")
        for width in self.dims[stages - self.attending :]:
            if width % HEAD_WIDTH:
                raise FastlocError(f"dims of stages with attention must be multiples of {HEAD_WIDTH}, a head's channels, got {width}")
        for stage in self.excites:
            count("excites", stage, stages - 1)


def arch_of(fields: Mapping[str, Any]) -> Arch:
    """The architecture of a description that `FastVit` accepts; fields that it does not have are ignored.

    Raises:
        FastlocError: a field is out of its range.
    """
    given = FastVit(**{name: value for name, value in fields.items() if name in FastVit.__dataclass_fields__})
    return Arch(
        tuple(given.depths), tuple(given.dims), given.ratio, given.attending, tuple(given.excites), given.layer_norm, given.stem_scales
    )
