"""The tensors of a FastViT-MCI, the image tower of MobileCLIP's S models, and their names in timm's state dicts.

Vasu et al., "FastViT" (ICCV 2023) and "MobileCLIP" (CVPR 2024), as timm's `fastvit.py` builds them. Branches that exist for training alone
are parts of their own here; `fastloc.checkpoints.hierarchical.fastvit_folding` merges them.
"""

import re
from dataclasses import dataclass

from torch import Tensor

from fastloc.checkpoints.hierarchical.branches import Branches, shaped, take_branches
from fastloc.checkpoints.hierarchical.parts import BatchNorm, Conv, LayerNorm, Linear, take_batch_norm, take_layer_norm, take_linear
from fastloc.checkpoints.hierarchical.take import Take

# sides of kernels: of the patches between stages and of the branch beside them, of an MLP's depthwise and of positions, of the mixer
_LARGE, _SMALL, _WIDE, _MIXER = 7, 3, 7, 3
# channels of the last map over those of the last stage
_FINAL = 2
# channels over a squeeze-excite's inner ones: between stages, and at the end
_SQUEEZE, _FINAL_SQUEEZE = 4, 16
# the inner channels of a squeeze-excite between stages are multiples of it
_MULTIPLE = 8


@dataclass(frozen=True)
class Arch:
    """A FastViT's shape.

    depths, widths: blocks and channels of each stage; attention: the number of last stages that attend, of heads of 32 channels; mlp: the
    MLP's hidden width over the block's; squeeze: the stages whose step before has a squeeze-excite; layer_norm: attention's norm is a
    LayerNorm and not a BatchNorm; stem_scale: the stem's convolutions have a branch of 1x1.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    attention: int = 1
    mlp: int = 3
    squeeze: tuple[int, ...] = (2, 3)
    layer_norm: bool = False
    stem_scale: bool = True

    @property
    def channels(self) -> int:
        """Channels of the last map."""
        return _FINAL * self.widths[-1]

    @property
    def stages(self) -> int:
        """The number of maps: one a stage, and the last one, of the same grid as the last stage's."""
        return len(self.depths) + 1

    @property
    def stride(self) -> int:
        """Side of a cell of the last map, in pixels of the input."""
        return 4 << (len(self.depths) - 1)


@dataclass(frozen=True)
class SqueezeExcite:
    """Every channel times sigmoid(fc2(relu(fc1(mean over the map))))."""

    fc1: Conv
    fc2: Conv


@dataclass(frozen=True)
class Mlp:
    """A depthwise convolution, then fc2(GELU(fc1(.))), then times `gamma` [C], None once it is part of fc2."""

    depthwise: Conv
    fc1: Conv
    fc2: Conv
    gamma: Tensor | None


@dataclass(frozen=True)
class MixerBlock:
    """x + gamma * (mixer(x) - norm(x)), then x + mlp(x). Without `norm`: mixer(x), then x + mlp(x)."""

    mixer: Branches
    norm: BatchNorm | None
    gamma: Tensor | None  # [C]
    mlp: Mlp


@dataclass(frozen=True)
class AttentionBlock:
    """x + gamma * proj(attention(qkv(norm(x)))), then x + mlp(x). Rows of `qkv` are q, k, v. Without `norm` and `gamma` both are merged."""

    norm: BatchNorm | LayerNorm | None
    qkv: Linear
    proj: Linear
    gamma: Tensor | None  # [C]
    mlp: Mlp


@dataclass(frozen=True)
class Step:
    """The halving of the grid before a stage: a large depthwise convolution, squeeze-excite, GELU, a 1x1 convolution, GELU."""

    large: Branches
    squeeze: SqueezeExcite | None
    pointwise: Branches


@dataclass(frozen=True)
class Stage:
    """A stage: the step before it, the position's convolution before attention, and blocks of one kind."""

    step: Step | None
    position: Branches | None
    blocks: tuple[MixerBlock | AttentionBlock, ...]


@dataclass(frozen=True)
class Trunk:
    """A FastViT up to its last map: three convolutions with GELU, stages, a convolution to twice the channels, squeeze-excite, GELU."""

    stem: tuple[Branches, ...]
    stages: tuple[Stage, ...]
    final: Branches
    final_squeeze: SqueezeExcite


_ARCHITECTURES = {
    "0": Arch((2, 6, 10, 2), (64, 128, 256, 512)),
    "1": Arch((4, 12, 20, 4), (64, 128, 256, 512)),
    "2": Arch((4, 12, 24, 4), (80, 160, 320, 640)),
    "3": Arch((2, 12, 24, 4, 2), (96, 192, 384, 768, 1536), 2, 4, (), True, False),
    "4": Arch((2, 12, 24, 4, 4), (128, 256, 512, 1024, 2048), 2, 4, (), True, False),
}
_LAYER_NORM_EPS = 1e-5


def architecture(name: str) -> Arch | None:
    """The shape that timm's name means, or None if it names no FastViT-MCI."""
    found = re.fullmatch(r"fastvit_mci(\d)", name)
    return _ARCHITECTURES.get(found[1]) if found else None


def trunk(arch: Arch, take: Take) -> Trunk:
    """Read a FastViT, with the branches of training or with the convolutions that a file already holds in their place.

    Raises ModelError for a tensor that is missing or has another shape.
    """
    width, last = arch.widths[0], arch.widths[-1]
    scale = {"conv_scale": 1} if arch.stem_scale else {}
    stem = (
        take_branches(take, "stem.0", shaped(width, 3, 3, stride=2), {"conv_kxk.0": 3} | scale),
        take_branches(take, "stem.1", shaped(width, width, 3, stride=2, groups=width), {"conv_kxk.0": 3} | scale),
        take_branches(take, "stem.2", shaped(width, width, 1), {"conv_kxk.0": 1}, identity=True),
    )
    final = take_branches(take, "final_conv", shaped(arch.channels, last, 3, groups=last), {"conv_kxk.0": 3, "conv_scale": 1})
    squeeze = _squeeze(take, "final_conv.se", arch.channels, arch.channels // _FINAL_SQUEEZE)
    return Trunk(stem, tuple(_stage(arch, take, i) for i in range(len(arch.depths))), final, squeeze)


def _stage(arch: Arch, take: Take, i: int) -> Stage:
    name, width = f"stages.{i}", arch.widths[i]
    attends = i >= len(arch.depths) - arch.attention
    step = _step(take, f"{name}.downsample.proj", arch.widths[i - 1], width, i in arch.squeeze) if i else None
    read = _attention_block if attends else _mixer_block
    blocks = tuple(read(arch, take, f"{name}.blocks.{j}", width) for j in range(arch.depths[i]))
    return Stage(step, _position(take, f"{name}.pos_emb", width) if attends else None, blocks)


def _step(take: Take, name: str, before: int, width: int, squeeze: bool) -> Step:
    plain = shaped(width, before, _LARGE, stride=2, groups=before)
    inner = max(_MULTIPLE, (width // _SQUEEZE + _MULTIPLE // 2) // _MULTIPLE * _MULTIPLE)
    return Step(
        take_branches(take, f"{name}.0", plain, {"large_conv": _LARGE, "small_conv": _SMALL}),
        _squeeze(take, f"{name}.0.se", width, inner) if squeeze else None,
        take_branches(take, f"{name}.1", shaped(width, width, 1), {"conv_kxk.0": 1}, identity=True),
    )


def _position(take: Take, name: str, width: int) -> Branches:
    if take.has(f"{name}.reparam_conv.weight"):
        return take_branches(take, name, shaped(width, width, _WIDE, groups=width), {})
    kernel, bias = take(f"{name}.pos_enc.weight", (width, 1, _WIDE, _WIDE)), take(f"{name}.pos_enc.bias", (width,))
    return Branches((Conv(kernel, bias, None, 1, width, _WIDE // 2),), skip=True)


def _mixer_block(arch: Arch, take: Take, name: str, width: int) -> MixerBlock:
    mixer, plain = f"{name}.token_mixer", shaped(width, width, _MIXER, groups=width)
    mlp = _mlp(take, f"{name}.mlp", width, arch.mlp, f"{name}.layer_scale.gamma")
    if take.has(f"{mixer}.reparam_conv.weight"):
        return MixerBlock(take_branches(take, mixer, plain, {}), None, None, mlp)
    branches = take_branches(take, f"{mixer}.mixer", plain, {"conv_kxk.0": _MIXER, "conv_scale": 1}, identity=True)
    norm = take_batch_norm(take, f"{mixer}.norm.identity", width)
    return MixerBlock(branches, norm, _gamma(take, f"{mixer}.layer_scale.gamma", width), mlp)


def _attention_block(arch: Arch, take: Take, name: str, width: int) -> AttentionBlock:
    norm: BatchNorm | LayerNorm = (
        take_layer_norm(take, f"{name}.norm", width, _LAYER_NORM_EPS) if arch.layer_norm else take_batch_norm(take, f"{name}.norm", width)
    )
    return AttentionBlock(
        norm,
        take_linear(take, f"{name}.token_mixer.qkv", width, 3 * width, bias=False),
        take_linear(take, f"{name}.token_mixer.proj", width, width),
        _gamma(take, f"{name}.layer_scale_1.gamma", width),
        _mlp(take, f"{name}.mlp", width, arch.mlp, f"{name}.layer_scale_2.gamma"),
    )


def _mlp(take: Take, name: str, width: int, factor: int, gamma: str) -> Mlp:
    kernel, norm = take(f"{name}.conv.conv.weight", (width, 1, _WIDE, _WIDE)), take_batch_norm(take, f"{name}.conv.bn", width)
    depthwise = Conv(kernel, None, norm, 1, width, _WIDE // 2)
    fc1, fc2 = _pointwise(take, f"{name}.fc1", width, factor * width), _pointwise(take, f"{name}.fc2", factor * width, width)
    return Mlp(depthwise, fc1, fc2, _gamma(take, gamma, width))


def _squeeze(take: Take, name: str, width: int, inner: int) -> SqueezeExcite:
    return SqueezeExcite(_pointwise(take, f"{name}.fc1", width, inner), _pointwise(take, f"{name}.fc2", inner, width))


def _pointwise(take: Take, name: str, inner: int, outer: int) -> Conv:
    return Conv(take(f"{name}.weight", (outer, inner, 1, 1)), take(f"{name}.bias", (outer,)))


def _gamma(take: Take, name: str, width: int) -> Tensor:
    return take(name, (width, 1, 1)).flatten()
