"""The tensors of one CLIP ResNet, and their names in open_clip's state dicts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.errors import ModelError
from fastloc.recipes.readout import LOGIT_SCALE

# the eps of every BatchNorm, PyTorch's default
EPS = 1e-5
# a bottleneck's output over its inner width
EXPANSION = 4


@dataclass(frozen=True)
class Norm:
    """A BatchNorm in eval mode: (x - mean) / sqrt(variance + EPS) * scale + shift, all [C]."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Conv:
    """A convolution, with the BatchNorm after it until `folded` merges that into kernel and bias."""

    kernel: Tensor  # [out, in, k, k]
    norm: Norm | None
    bias: Tensor | None  # [out], None before folding


@dataclass(frozen=True)
class Bottleneck:
    """1x1, 3x3 and 1x1 convolutions; with a stride of 2 an average pool before the last, and before the skip's own convolution."""

    convs: tuple[Conv, Conv, Conv]
    skip: Conv | None
    stride: int


@dataclass(frozen=True)
class Pool:
    """The attention pool; linear weights are [out, in], C the last stage's channels."""

    position: Tensor  # [1 + gh*gw, C], the mean token's row first
    q_w: Tensor  # [C, C]
    q_b: Tensor  # [C]
    k_w: Tensor  # [C, C]
    k_b: Tensor  # [C]
    v_w: Tensor  # [C, C]
    v_b: Tensor  # [C]
    out_w: Tensor  # [E, C]
    out_b: Tensor  # [E]


@dataclass(frozen=True)
class ResNetWeights:
    """One CLIP ResNet: its spec and its tensors, all of one dtype on one device."""

    spec: ResNetSpec
    stem: tuple[Conv, Conv, Conv]
    stages: tuple[tuple[Bottleneck, ...], ...]
    pool: Pool
    # see `fastloc.checkpoints.vit_weights.Weights`
    logit_scale: float = LOGIT_SCALE

    @property
    def dtype(self) -> torch.dtype:
        return self.pool.position.dtype

    @property
    def device(self) -> torch.device:
        return self.pool.position.device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "ResNetWeights":
        """The same tower on another device or in another dtype; nothing is changed in place."""
        return _mapped(self, Tensor, lambda tensor: tensor.to(device=device, dtype=dtype))

    def folded(self) -> "ResNetWeights":
        """See `folded`."""
        return folded(self)


def folded(weights: ResNetWeights) -> ResNetWeights:
    """The same tower with every BatchNorm multiplied into the convolution before it, computed in float64."""
    return _mapped(weights, Conv, _folded)


def named_tensors(weights: ResNetWeights) -> dict[str, Tensor]:
    """Every tensor by the path of its fields, such as "stages.3.0.convs.1.kernel"."""
    return dict(_named("", weights))


def _folded(conv: Conv) -> Conv:
    if conv.norm is None:
        return conv
    scale, shift, mean, variance = (getattr(conv.norm, each.name).double() for each in fields(Norm))
    factor = scale / torch.sqrt(variance + EPS)
    kernel, bias = conv.kernel.double() * factor[:, None, None, None], shift - mean * factor
    return Conv(kernel.to(conv.kernel.dtype), None, bias.to(conv.kernel.dtype))


_Part = TypeVar("_Part")


def _mapped(part: _Part, kind: type, change: Any) -> _Part:
    """The tree of dataclasses and tuples with every part of type `kind` changed."""
    if isinstance(part, kind):
        return change(part)  # type: ignore[no-any-return]
    if isinstance(part, tuple):
        return tuple(_mapped(each, kind, change) for each in part)  # type: ignore[return-value]
    if not is_dataclass(part) or isinstance(part, (type, ResNetSpec)):
        return part
    return replace(part, **{each.name: _mapped(getattr(part, each.name), kind, change) for each in fields(part)})


def _named(path: str, part: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(part, Tensor):
        yield path.removeprefix("."), part
    elif isinstance(part, tuple):
        for i, each in enumerate(part):
            yield from _named(f"{path}.{i}", each)
    elif is_dataclass(part) and not isinstance(part, ResNetSpec):
        for field in fields(part):
            yield from _named(f"{path}.{field.name}", getattr(part, field.name))


def from_open_clip(state: Mapping[str, Tensor], spec: ResNetSpec) -> ResNetWeights:
    """Take the image tower out of an open_clip state dict (keys `visual.…`, of any dtype). Tensors are shared, not copied.

    Raises:
        ModelError: a tensor is missing, or its shape is not the spec's; the message names key and shapes.
    """
    width, take = spec.width, _Taker(state)
    sides = ((3, width // 2), (width // 2, width // 2), (width // 2, width))
    stem = tuple(take.conv(f"visual.conv{i}", f"visual.bn{i}", out, inner, 3) for i, (inner, out) in enumerate(sides, 1))
    stages = tuple(take.stage(f"visual.layer{i + 1}", i, spec) for i in range(4))
    for i, count in enumerate(spec.layers, 1):
        beyond = f"visual.layer{i}.{count}.conv1.weight"
        if beyond in state:
            raise ModelError(f"weights of another architecture: {beyond!r} is there, but the model has {count} bottlenecks in stage {i}")
    return ResNetWeights(spec, stem, stages, take.pool(spec))  # type: ignore[arg-type]  # the stem has three


@dataclass(frozen=True)
class _Taker:
    state: Mapping[str, Tensor]

    def stage(self, prefix: str, index: int, spec: ResNetSpec) -> tuple[Bottleneck, ...]:
        inner = spec.width * 2**index
        before = spec.width if index == 0 else inner * EXPANSION // 2
        first = self.bottleneck(f"{prefix}.0", before, inner, 1 if index == 0 else 2)
        return first, *(self.bottleneck(f"{prefix}.{i}", inner * EXPANSION, inner, 1) for i in range(1, spec.layers[index]))

    def bottleneck(self, prefix: str, before: int, inner: int, stride: int) -> Bottleneck:
        after = inner * EXPANSION
        sides = ((before, inner, 1), (inner, inner, 3), (inner, after, 1))
        one, two, three = (self.conv(f"{prefix}.conv{i}", f"{prefix}.bn{i}", out, on, k) for i, (on, out, k) in enumerate(sides, 1))
        skips = stride > 1 or before != after
        skip = self.conv(f"{prefix}.downsample.0", f"{prefix}.downsample.1", after, before, 1) if skips else None
        return Bottleneck((one, two, three), skip, stride)

    def conv(self, key: str, norm: str, out: int, inner: int, side: int) -> Conv:
        parts = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
        found = {name: self.take(f"{norm}.{last}", (out,)) for name, last in parts.items()}
        return Conv(self.take(f"{key}.weight", (out, inner, side, side)), Norm(**found), None)

    def pool(self, spec: ResNetSpec) -> Pool:
        width, prefix = spec.channels, "visual.attnpool"
        parts = {"position": self.take(f"{prefix}.positional_embedding", (1 + spec.grid[0] * spec.grid[1], width))}
        for letter, key, out in (("q", "q_proj", width), ("k", "k_proj", width), ("v", "v_proj", width), ("out", "c_proj", spec.embed)):
            parts[f"{letter}_w"] = self.take(f"{prefix}.{key}.weight", (out, width))
            parts[f"{letter}_b"] = self.take(f"{prefix}.{key}.bias", (out,))
        return Pool(**parts)

    def take(self, key: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.state.get(key)
        if tensor is None:
            found = ", ".join(sorted(self.state)[:3]) or "nothing"
            raise ModelError(f"weights of another architecture: {key!r} is missing (the file holds {found}, …)")
        if tuple(tensor.shape) != shape:
            raise ModelError(f"weights of another architecture: {key!r} must have shape {shape}, got {tuple(tensor.shape)}")
        return tensor.detach()
