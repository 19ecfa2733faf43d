"""The tensors of a ConvNeXt, and their names in timm's state dicts.

Liu et al., "A ConvNet for the 2020s" (CVPR 2022), as timm's `convnext.py` builds it for open_clip: LayerNorm, linear MLPs and layer scale.
"""

import re
from dataclasses import dataclass

from torch import Tensor

from fastloc.checkpoints.hierarchical.parts import Conv, LayerNorm, Linear, take_layer_norm, take_linear
from fastloc.checkpoints.hierarchical.take import Take

# side of a block's depthwise kernel, of the stem's patches and of the patches between stages
_KERNEL, _STEM, _STEP = 7, 4, 2
# the MLP's hidden width over the block's
_EXPANSION = 4


@dataclass(frozen=True)
class Arch:
    """A ConvNeXt's shape: the blocks and the channels of each stage, and the eps of every LayerNorm."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    eps: float = 1e-6

    @property
    def channels(self) -> int:
        """Channels of the last stage."""
        return self.widths[-1]

    @property
    def stages(self) -> int:
        return len(self.depths)

    @property
    def stride(self) -> int:
        """Side of a cell of the last stage, in pixels of the input."""
        return _STEM << (self.stages - 1)


@dataclass(frozen=True)
class Block:
    """x + gamma * fc2(GELU(fc1(norm(depthwise(x)))))."""

    depthwise: Conv
    norm: LayerNorm
    fc1: Linear
    fc2: Linear
    gamma: Tensor  # [C]


@dataclass(frozen=True)
class Stage:
    """Patches of 2x2 cells made one (LayerNorm and convolution; neither in the first stage), and blocks."""

    norm: LayerNorm | None
    reduce: Conv | None
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Trunk:
    """A ConvNeXt without its head."""

    stem: Conv
    stem_norm: LayerNorm
    stages: tuple[Stage, ...]


_ARCHITECTURES = {
    "tiny": Arch((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": Arch((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": Arch((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": Arch((3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": Arch((3, 3, 27, 3), (256, 512, 1024, 2048)),
    "xxlarge": Arch((3, 4, 30, 3), (384, 768, 1536, 3072), eps=1e-5),
}


def architecture(name: str) -> Arch | None:
    """The shape that timm's name means, or None if it names no ConvNeXt of CLIP's."""
    found = re.fullmatch(r"convnext_(\w+)", name)
    return _ARCHITECTURES.get(found[1]) if found else None


def trunk(arch: Arch, take: Take) -> Trunk:
    """Read a ConvNeXt. Raises ModelError for a tensor that is missing or has another shape."""
    stages = tuple(_stage(arch, take, i) for i in range(arch.stages))
    stem = _patches(take, "stem.0", 3, arch.widths[0], _STEM)
    return Trunk(stem, take_layer_norm(take, "stem.1", arch.widths[0], arch.eps), stages)


def folded(trunk: Trunk) -> Trunk:
    """The same trunk: a ConvNeXt has no BatchNorm and no branches."""
    return trunk


def _stage(arch: Arch, take: Take, i: int) -> Stage:
    name, width = f"stages.{i}", arch.widths[i]
    blocks = tuple(_block(take, f"{name}.blocks.{j}", width, arch.eps) for j in range(arch.depths[i]))
    if i == 0:
        return Stage(None, None, blocks)
    before = arch.widths[i - 1]
    norm = take_layer_norm(take, f"{name}.downsample.0", before, arch.eps)
    return Stage(norm, _patches(take, f"{name}.downsample.1", before, width, _STEP), blocks)


def _patches(take: Take, name: str, inner: int, outer: int, side: int) -> Conv:
    return Conv(take(f"{name}.weight", (outer, inner, side, side)), take(f"{name}.bias", (outer,)), stride=side)


def _block(take: Take, name: str, width: int, eps: float) -> Block:
    kernel = take(f"{name}.conv_dw.weight", (width, 1, _KERNEL, _KERNEL))
    hidden = _EXPANSION * width
    return Block(
        Conv(kernel, take(f"{name}.conv_dw.bias", (width,)), groups=width, padding=_KERNEL // 2),
        take_layer_norm(take, f"{name}.norm", width, eps),
        take_linear(take, f"{name}.mlp.fc1", width, hidden),
        take_linear(take, f"{name}.mlp.fc2", hidden, width),
        take(f"{name}.gamma", (width,)),
    )
