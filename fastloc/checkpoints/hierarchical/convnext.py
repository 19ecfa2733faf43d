"""ConvNeXt (Liu et al., CVPR 2022) as open_clip takes it from timm: architectures by name, and tensors by timm's names."""

from dataclasses import dataclass, replace

from torch import Tensor

from fastloc.checkpoints.hierarchical import tree
from fastloc.checkpoints.hierarchical.parts import Conv, LayerNorm, Linear, scaled, take_layer_norm, take_linear
from fastloc.checkpoints.hierarchical.take import Take

__all__ = ["Arch", "Block", "Stage", "Trunk", "architecture", "folded", "trunk"]

# the first convolution's step, and that of each later stage's
_STEM, _STEP = 4, 2
# sides of a depthwise kernel, and the MLP's inner width over the block's
_SIDE, _RATIO = 7, 4


@dataclass(frozen=True)
class Arch:
    """One size: blocks and channels of each stage, and the eps of every LayerNorm."""

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    norm_eps: float = 1e-6

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
        return int(_STEM * _STEP ** (self.stages - 1))


_SIZES = {
    "tiny": Arch((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": Arch((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": Arch((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": Arch((3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": Arch((3, 3, 27, 3), (256, 512, 1024, 2048)),
    "xxlarge": Arch((3, 4, 30, 3), (384, 768, 1536, 3072), norm_eps=1e-5),
}


@dataclass(frozen=True)
class Block:
    """x + scale * (MLP with GELU of the LayerNorm of a depthwise convolution of x)."""

    depthwise: Conv  # [C, 1, 7, 7]
    norm: LayerNorm
    inner: Linear  # [4 C, C]
    outer: Linear  # [C, 4 C]
    scale: Tensor | None  # [C]; in the outer layer once it is folded


@dataclass(frozen=True)
class Stage:
    """The step to a coarser grid, a convolution and a LayerNorm, and the blocks.

    The norm stands behind the convolution in the first stage, and before it in the others.
    """

    norm: LayerNorm
    step: Conv
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Trunk:
    """The tensors of one tower without its head."""

    stages: tuple[Stage, ...]


def folded(trunk: Trunk) -> Trunk:
    """The same trunk with the scales of its branches in the layers before them, computed in float64."""
    return tree.mapped(trunk, Block, lambda block: replace(block, outer=scaled(block.outer, block.scale), scale=None))


def architecture(name: str) -> Arch | None:
    """The architecture of timm's name without prefix and tag, such as "convnext_base"; None for another family's."""
    return _SIZES.get(name.removeprefix("convnext_")) if name.startswith("convnext_") else None


def trunk(arch: Arch, take: Take) -> Trunk:
    """Take the trunk's tensors. Raises ModelError for one that is missing or has another shape."""
    return Trunk(tuple(_stage(arch, take, i) for i in range(arch.stages)))


def _stage(arch: Arch, take: Take, index: int) -> Stage:
    width, name = arch.dims[index], f"stages.{index}"
    if index == 0:
        step = _conv(take, "stem.0", 3, width, _STEM)
        norm = take_layer_norm(take, "stem.1", width, arch.norm_eps)
    else:
        before = arch.dims[index - 1]
        norm = take_layer_norm(take, f"{name}.downsample.0", before, arch.norm_eps)
        step = _conv(take, f"{name}.downsample.1", before, width, _STEP)
    return Stage(norm, step, tuple(_block(take, f"{name}.blocks.{i}", width, arch.norm_eps) for i in range(arch.depths[index])))


def _conv(take: Take, name: str, inner: int, outer: int, step: int) -> Conv:
    """A convolution that steps by its own size."""
    return Conv(take(f"{name}.weight", (outer, inner, step, step)), take(f"{name}.bias", (outer,)), stride=step)


def _block(take: Take, name: str, width: int, eps: float) -> Block:
    kernel, bias = take(f"{name}.conv_dw.weight", (width, 1, _SIDE, _SIDE)), take(f"{name}.conv_dw.bias", (width,))
    return Block(
        Conv(kernel, bias, groups=width, padding=_SIDE // 2),
        take_layer_norm(take, f"{name}.norm", width, eps),
        take_linear(take, f"{name}.mlp.fc1", width, _RATIO * width),
        take_linear(take, f"{name}.mlp.fc2", _RATIO * width, width),
        take(f"{name}.gamma", (width,)),
    )
