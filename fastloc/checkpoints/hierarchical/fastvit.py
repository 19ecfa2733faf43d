"""FastViT (Vasu et al., ICCV 2023) in the sizes of MobileCLIP, as open_clip takes it from timm: architectures and tensors.

A training has several branches where an inference has one convolution (MobileOne, arXiv 2206.04040). Tensors are read in the
branches, or as one convolution ("reparam_conv") where a file holds that; `fastvit_folding` merges the branches.
"""

from dataclasses import dataclass

from torch import Tensor

from fastloc.checkpoints.hierarchical.parts import BatchNorm, Conv, LayerNorm, Linear, take_batch_norm, take_layer_norm, take_linear
from fastloc.checkpoints.hierarchical.take import Take

__all__ = [
    "HEAD_WIDTH", "Affine", "Arch", "AttentionBlock", "Branches", "Excite", "Mixer", "MixerBlock", "Mlp", "Position", "Stage", "Trunk",
    "Unit", "architecture", "trunk",
]  # fmt: skip

HEAD_WIDTH = 32
_EPS = 1e-5
# the stem's step, and the sides of depthwise kernels
_STEM, _WIDE, _NARROW = 4, 7, 3


@dataclass(frozen=True)
class Arch:
    """One size: blocks and channels of each stage, the number of last stages with attention, and what else differs.

    excites: the stages whose step ends with a squeeze-and-excitation.
    """

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    ratio: int
    attending: int
    excites: tuple[int, ...]
    layer_norm: bool
    stem_scales: bool

    @property
    def channels(self) -> int:
        """Of the last map: those of the final convolution, twice the last stage's."""
        return 2 * self.dims[-1]

    @property
    def stages(self) -> int:
        """The number of maps: of each stage, and of the final convolution."""
        return len(self.dims) + 1

    @property
    def stride(self) -> int:
        """Pixels per cell of the last map."""
        return int(_STEM * 2 ** (len(self.dims) - 1))


def _small(depths: tuple[int, ...], width: int) -> Arch:
    return Arch(depths, tuple(width * 2**i for i in range(4)), 3, 1, (2, 3), layer_norm=False, stem_scales=True)


def _large(depths: tuple[int, ...], width: int) -> Arch:
    return Arch(depths, tuple(width * 2**i for i in range(5)), 4, 2, (), layer_norm=True, stem_scales=False)


_SIZES = {
    "fastvit_mci0": _small((2, 6, 10, 2), 64),
    "fastvit_mci1": _small((4, 12, 20, 4), 64),
    "fastvit_mci2": _small((4, 12, 24, 4), 80),
    "fastvit_mci3": _large((2, 12, 24, 4, 2), 96),
    "fastvit_mci4": _large((2, 12, 24, 4, 4), 128),
}


@dataclass(frozen=True)
class Branches:
    """A sum of convolutions of one input, of odd sides and the same stride, and of the input itself behind a BatchNorm."""

    convs: tuple[Conv, ...]
    identity: BatchNorm | None


@dataclass(frozen=True)
class Excite:
    """Squeeze-and-excitation: channels times sigmoid(fc2(ReLU(fc1(their mean over the map))))."""

    inner: Linear
    outer: Linear


@dataclass(frozen=True)
class Unit:
    """A convolution in branches or folded, a squeeze-and-excitation, and GELU."""

    conv: Branches | Conv
    excite: Excite | None = None


@dataclass(frozen=True)
class Mixer:
    """RepMixer: x + scale * (mixer(x) - norm(x)), a mean over neighbours that is learned."""

    mixer: Branches
    norm: BatchNorm
    scale: Tensor  # [C]


@dataclass(frozen=True)
class Mlp:
    """x + scale * fc2(GELU(fc1(a depthwise convolution of x))). The scale is part of fc2 once it is folded.

    Both layers are linear, or convolutions of single pixels, see `fastvit_folding.pointwise`.
    """

    conv: Conv
    inner: Linear | Conv
    outer: Linear | Conv
    scale: Tensor | None  # [C]


@dataclass(frozen=True)
class MixerBlock:
    """A RepMixer, one convolution once it is folded, and an MLP."""

    mixer: Mixer | Conv
    mlp: Mlp


@dataclass(frozen=True)
class Affine:
    """x * scale + shift: a BatchNorm in its two numbers a channel."""

    scale: Tensor  # [C]
    shift: Tensor  # [C]


@dataclass(frozen=True)
class AttentionBlock:
    """x + scale * attention(norm(x)), heads of HEAD_WIDTH channels, and an MLP.

    Once it is folded the scale is part of the out-projection, and a BatchNorm of qkv: `norm` is then None, and `merged` the norm for those
    that read its output alone.
    """

    norm: BatchNorm | LayerNorm | None
    qkv: Linear  # [3 C, C]
    out: Linear  # [C, C]
    scale: Tensor | None  # [C]
    mlp: Mlp
    merged: Affine | None = None


@dataclass(frozen=True)
class Position:
    """x + a depthwise convolution of x (conditional positional encoding, arXiv 2102.10882)."""

    conv: Conv


@dataclass(frozen=True)
class Stage:
    """The step to a coarser grid, none in the first stage, the position encoding of stages with attention, and the blocks."""

    step: tuple[Unit, ...]
    position: Position | Conv | None
    blocks: tuple[MixerBlock | AttentionBlock, ...]


@dataclass(frozen=True)
class Trunk:
    """The tensors of one tower without its head."""

    stem: tuple[Unit, ...]
    stages: tuple[Stage, ...]
    final: Unit


def architecture(name: str) -> Arch | None:
    """The architecture of timm's name without prefix and tag, such as "fastvit_mci0"; None for another family's."""
    return _SIZES.get(name)


def trunk(arch: Arch, take: Take) -> Trunk:
    """Take the trunk's tensors. Raises ModelError for one that is missing or has another shape."""
    first, last = arch.dims[0], arch.dims[-1]
    stem = (
        Unit(_branches(take, "stem.0", 3, first, _NARROW, 2, 1, scales=arch.stem_scales)),
        Unit(_branches(take, "stem.1", first, first, _NARROW, 2, first, scales=arch.stem_scales)),
        Unit(_branches(take, "stem.2", first, first, 1)),
    )
    stages = tuple(_stage(arch, take, i) for i in range(len(arch.dims)))
    final = Unit(_branches(take, "final_conv", last, 2 * last, _NARROW, 1, last), _excite(take, "final_conv.se", 2 * last, last // 8))
    return Trunk(stem, stages, final)


def _stage(arch: Arch, take: Take, index: int) -> Stage:
    name, width = f"stages.{index}", arch.dims[index]
    step: tuple[Unit, ...] = ()
    if index:
        excite = _excite(take, f"{name}.downsample.proj.0.se", width, width // 4) if index in arch.excites else None
        large = Unit(_large_kernel(take, f"{name}.downsample.proj.0", arch.dims[index - 1], width), excite)
        step = (large, Unit(_branches(take, f"{name}.downsample.proj.1", width, width, 1)))
    attends = index >= len(arch.dims) - arch.attending
    block = _attention_block if attends else _mixer_block
    blocks = tuple(block(arch, take, f"{name}.blocks.{i}", width) for i in range(arch.depths[index]))
    return Stage(step, _position(take, f"{name}.pos_emb", width) if attends else None, blocks)


def _mixer_block(arch: Arch, take: Take, name: str, width: int) -> MixerBlock:
    mixer: Mixer | Conv
    if take.has(f"{name}.token_mixer.reparam_conv.weight"):
        mixer = _plain(take, f"{name}.token_mixer.reparam_conv", width, width, _NARROW, 1, width)
    else:
        mixed = _branches(take, f"{name}.token_mixer.mixer", width, width, _NARROW, 1, width)
        assert isinstance(mixed, Branches)
        norm = take_batch_norm(take, f"{name}.token_mixer.norm.identity", width, _EPS)
        mixer = Mixer(mixed, norm, _scale(take, f"{name}.token_mixer.layer_scale", width))
    return MixerBlock(mixer, _mlp(arch, take, name, width, "layer_scale"))


def _attention_block(arch: Arch, take: Take, name: str, width: int) -> AttentionBlock:
    made = take_layer_norm if arch.layer_norm else take_batch_norm
    return AttentionBlock(
        made(take, f"{name}.norm", width, _EPS),
        take_linear(take, f"{name}.token_mixer.qkv", width, 3 * width, bias=False),
        take_linear(take, f"{name}.token_mixer.proj", width, width),
        _scale(take, f"{name}.layer_scale_1", width),
        _mlp(arch, take, name, width, "layer_scale_2"),
    )


def _mlp(arch: Arch, take: Take, name: str, width: int, scale: str) -> Mlp:
    hidden = arch.ratio * width
    return Mlp(
        _normed(take, f"{name}.mlp.conv", width, width, _WIDE, 1, width),
        _pointwise(take, f"{name}.mlp.fc1", width, hidden),
        _pointwise(take, f"{name}.mlp.fc2", hidden, width),
        _scale(take, f"{name}.{scale}", width),
    )


def _position(take: Take, name: str, width: int) -> Position | Conv:
    if take.has(f"{name}.reparam_conv.weight"):
        return _plain(take, f"{name}.reparam_conv", width, width, _WIDE, 1, width)
    return Position(_plain(take, f"{name}.pos_enc", width, width, _WIDE, 1, width))


def _branches(
    take: Take, name: str, inner: int, outer: int, side: int, stride: int = 1, groups: int = 1, *, scales: bool = True
) -> Branches | Conv:
    """A MobileOne block's convolutions: its own, one of a single pixel where the own is larger, and the input where shapes allow it."""
    if take.has(f"{name}.reparam_conv.weight"):
        return _plain(take, f"{name}.reparam_conv", inner, outer, side, stride, groups)
    convs = [_normed(take, f"{name}.conv_kxk.0", inner, outer, side, stride, groups)]
    if side > 1 and scales:
        convs.append(_normed(take, f"{name}.conv_scale", inner, outer, 1, stride, groups))
    keeps = inner == outer and stride == 1
    return Branches(tuple(convs), take_batch_norm(take, f"{name}.identity", inner, _EPS) if keeps else None)


def _large_kernel(take: Take, name: str, inner: int, outer: int) -> Branches | Conv:
    if take.has(f"{name}.reparam_conv.weight"):
        return _plain(take, f"{name}.reparam_conv", inner, outer, _WIDE, 2, inner)
    sides = ((f"{name}.large_conv", _WIDE), (f"{name}.small_conv", _NARROW))
    return Branches(tuple(_normed(take, each, inner, outer, side, 2, inner) for each, side in sides), None)


def _normed(take: Take, name: str, inner: int, outer: int, side: int, stride: int, groups: int) -> Conv:
    kernel = take(f"{name}.conv.weight", (outer, inner // groups, side, side))
    return Conv(kernel, None, take_batch_norm(take, f"{name}.bn", outer, _EPS), stride, groups, side // 2)


def _plain(take: Take, name: str, inner: int, outer: int, side: int, stride: int, groups: int) -> Conv:
    kernel = take(f"{name}.weight", (outer, inner // groups, side, side))
    return Conv(kernel, take(f"{name}.bias", (outer,)), None, stride, groups, side // 2)


def _pointwise(take: Take, name: str, inner: int, outer: int) -> Linear:
    """A convolution of single pixels as a linear layer."""
    return Linear(take(f"{name}.weight", (outer, inner, 1, 1))[:, :, 0, 0], take(f"{name}.bias", (outer,)))


def _excite(take: Take, name: str, width: int, inner: int) -> Excite:
    return Excite(_pointwise(take, f"{name}.fc1", width, inner), _pointwise(take, f"{name}.fc2", inner, width))


def _scale(take: Take, name: str, width: int) -> Tensor:
    return take(f"{name}.gamma", (width, 1, 1))[:, 0, 0]
