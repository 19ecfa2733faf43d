"""Swin Transformer (Liu et al., ICCV 2021) as open_clip takes it from timm: architectures by name, and tensors by timm's names."""

import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastloc.checkpoints.hierarchical.parts import Conv, LayerNorm, Linear, take_layer_norm, take_linear
from fastloc.checkpoints.hierarchical.take import Take

__all__ = ["NORM_EPS", "Arch", "Block", "Stage", "Trunk", "architecture", "bias_of", "folded", "trunk"]

NORM_EPS = 1e-5
# the side of a first cell in pixels, the MLP's inner width over the block's
_PATCH, _RATIO = 4, 4


@dataclass(frozen=True)
class Arch:
    """One size. `image` and `window` are sides, in pixels and in cells."""

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    heads: tuple[int, ...]
    window: int = 7
    image: int = 224

    @property
    def channels(self) -> int:
        """Of the last map."""
        return self.dims[-1]

    @property
    def stages(self) -> int:
        return len(self.dims)

    @property
    def stride(self) -> int:
        """Pixels per cell of the last map."""
        return _PATCH << (self.stages - 1)

    def side(self, stage: int) -> int:
        """The cells on a side of a stage's map at the trained size."""
        return self.image // (_PATCH << stage)


# (channels of the first stage, blocks of the stages, heads of the first stage)
_SIZES = {
    "tiny": (96, (2, 2, 6, 2), 3), "small": (96, (2, 2, 18, 2), 3), "base": (128, (2, 2, 18, 2), 4), "large": (192, (2, 2, 18, 2), 6),
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Attention within windows of N cells, then an MLP with GELU, each with a LayerNorm before it and a residual."""

    norm1: LayerNorm
    qkv: Linear  # [3 C, C], rows q then k then v
    table: Tensor  # [(2 w - 1)^2, H], the bias of each displacement (rows, columns) from -(w - 1) on
    out: Linear  # [C, C]
    norm2: LayerNorm
    inner: Linear  # [4 C, C]
    outer: Linear  # [C, 4 C]
    heads: int
    # cells on a window's side, and cells by which the windows are moved to the bottom and to the right
    window: int
    shift: int
    # [H, N, N], the table's entries for every pair of cells; made by `folded`
    bias: Tensor | None = None


@dataclass(frozen=True)
class Stage:
    """The step to a coarser grid and the blocks.

    In the first stage the step is a convolution, `patch`, and the norm stands behind it. In the others four cells side by side pass the
    norm and `merge` [2 C, 4 C], in the order top left, bottom left, top right, bottom right.
    """

    norm: LayerNorm
    patch: Conv | None
    merge: Linear | None
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Trunk:
    """The tensors of one tower without its last LayerNorm, which passes over every cell before the mean, and its head."""

    stages: tuple[Stage, ...]


def architecture(name: str) -> Arch | None:
    """The architecture of timm's name without prefix and tag, such as "swin_base_patch4_window7_224"; None for another family's."""
    found = re.fullmatch(r"swin_(tiny|small|base|large)_patch4_window(\d+)_(\d+)", name)
    if found is None or (found[2], found[3]) not in (("7", "224"), ("12", "384")):
        return None
    width, depths, heads = _SIZES[found[1]]
    dims, counts = (tuple(first << stage for stage in range(len(depths))) for first in (width, heads))
    return Arch(depths, dims, counts, int(found[2]), int(found[3]))


def trunk(arch: Arch, take: Take) -> Trunk:
    """Take the trunk's tensors. Raises ModelError for one that is missing or has another shape."""
    return Trunk(tuple(_stage(arch, take, i) for i in range(arch.stages)))


def folded(trunk: Trunk) -> Trunk:
    """The same trunk, each block with the bias of every pair of cells written out."""

    def block(each: Block) -> Block:
        return replace(each, bias=bias_of(each))

    return Trunk(tuple(replace(stage, blocks=tuple(block(each) for each in stage.blocks)) for stage in trunk.stages))


def bias_of(block: Block) -> Tensor:
    """The bias of every pair of a window's cells, [H, N, N]: the table's entry for the first cell's place minus the second's."""
    at = torch.arange(block.window, device=block.table.device)
    step = at[:, None] - at + block.window - 1
    # (row, column) of the first cell, then of the second
    index = step[:, None, :, None] * (2 * block.window - 1) + step[None, :, None, :]
    cells = block.window**2
    return block.table[index.reshape(-1)].reshape(cells, cells, block.heads).permute(2, 0, 1)


def _stage(arch: Arch, take: Take, index: int) -> Stage:
    width, name = arch.dims[index], f"layers.{index}"
    patch, merge = None, None
    if index == 0:
        kernel, bias = take("patch_embed.proj.weight", (width, 3, _PATCH, _PATCH)), take("patch_embed.proj.bias", (width,))
        patch = Conv(kernel, bias, stride=_PATCH)
        norm = take_layer_norm(take, "patch_embed.norm", width, NORM_EPS)
    else:
        before = 4 * arch.dims[index - 1]
        norm = take_layer_norm(take, f"{name}.downsample.norm", before, NORM_EPS)
        merge = take_linear(take, f"{name}.downsample.reduction", before, width, bias=False)
    return Stage(norm, patch, merge, tuple(_block(arch, take, index, i) for i in range(arch.depths[index])))


def _block(arch: Arch, take: Take, stage: int, index: int) -> Block:
    width, heads, side, name = arch.dims[stage], arch.heads[stage], arch.side(stage), f"layers.{stage}.blocks.{index}"
    # a map of one window at the trained size has nothing to move
    window, moves = min(arch.window, side), index % 2 == 1 and side > arch.window
    return Block(
        take_layer_norm(take, f"{name}.norm1", width, NORM_EPS),
        take_linear(take, f"{name}.attn.qkv", width, 3 * width),
        take(f"{name}.attn.relative_position_bias_table", ((2 * window - 1) ** 2, heads)),
        take_linear(take, f"{name}.attn.proj", width, width),
        take_layer_norm(take, f"{name}.norm2", width, NORM_EPS),
        take_linear(take, f"{name}.mlp.fc1", width, _RATIO * width),
        take_linear(take, f"{name}.mlp.fc2", _RATIO * width, width),
        heads, window, window // 2 if moves else 0,
    )  # fmt: skip
