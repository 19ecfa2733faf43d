"""ConvNeXt as functions of its tensors."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.convnext import Block, Stage, Trunk
from fastloc.functional.hierarchical.layers import convolved, linear, normalised, normalised_map


def stages(trunk: Trunk, pixels: Tensor) -> list[Tensor]:
    """The output of every stage, [B, C_i, h_i, w_i] from pixels [B, 3, H, W] of the trunk's dtype; h_i = H / 4, H / 8, ..."""
    return list(_stages(trunk, pixels))


def last(trunk: Trunk, pixels: Tensor) -> Tensor:
    """The output of the last stage, [B, C, H / 32, W / 32]; no other is kept."""
    x = pixels
    for each in _stages(trunk, pixels):
        x = each
    return x


def _stages(trunk: Trunk, pixels: Tensor) -> Iterator[Tensor]:
    x = normalised_map(convolved(pixels, trunk.stem), trunk.stem_norm)
    for stage in trunk.stages:
        x = _stage(x, stage)
        yield x


def _stage(x: Tensor, stage: Stage) -> Tensor:
    if stage.norm is not None and stage.reduce is not None:
        x = convolved(normalised_map(x, stage.norm), stage.reduce)
    for block in stage.blocks:
        x = _block(x, block)
    return x


def _block(x: Tensor, block: Block) -> Tensor:
    y = normalised(convolved(x, block.depthwise).permute(0, 2, 3, 1), block.norm)
    y = linear(F.gelu(linear(y, block.fc1)), block.fc2) * block.gamma
    return x + y.permute(0, 3, 1, 2)
