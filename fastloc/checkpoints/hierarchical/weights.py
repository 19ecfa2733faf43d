"""The tensors of one hierarchical image tower, its head, and their names in open_clip's state dicts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints.hierarchical import tree
from fastloc.checkpoints.hierarchical.families import FAMILIES
from fastloc.checkpoints.hierarchical.parts import LayerNorm, Linear, take_layer_norm, take_linear
from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.hierarchical.take import Take
from fastloc.errors import ModelError
from fastloc.recipes.readout import LOGIT_SCALE

__all__ = ["Head", "HierarchicalWeights", "folded", "from_open_clip", "image_parameters", "named_tensors"]

# tensors that files hold beside a tower's numbers: a training's count, and tables that follow from the sizes
_NO_NUMBERS = ("num_batches_tracked", "relative_position_index", "attn_mask")
# buffers, which are no parameters
_BUFFERS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Head:
    """The last map's way into the texts' space: mean, LayerNorm, and one linear layer or an MLP of two with GELU (erf) between them.

    norm_first: the LayerNorm passes over every cell before the mean (Swin), and not over the mean (ConvNeXt).
    """

    out: Linear
    hidden: Linear | None = None
    norm: LayerNorm | None = None
    norm_first: bool = False

    @property
    def is_linear(self) -> bool:
        """True if the embedding is the mean of what the head makes of every cell alone: no norm of the mean and no MLP."""
        return self.hidden is None and (self.norm is None or self.norm_first)


@dataclass(frozen=True)
class HierarchicalWeights:
    """One hierarchical tower: its spec and its tensors, all of one dtype on one device."""

    spec: HierarchicalSpec
    # of the family's own `Trunk`
    trunk: Any
    head: Head
    # see `fastloc.checkpoints.vit_weights.Weights`
    logit_scale: float = LOGIT_SCALE

    @property
    def dtype(self) -> torch.dtype:
        return self.head.out.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.head.out.weight.device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "HierarchicalWeights":
        """The same tower on another device or in another dtype; nothing is changed in place."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        return replace(self, trunk=tree.mapped(self.trunk, Tensor, moved), head=tree.mapped(self.head, Tensor, moved))

    def folded(self) -> "HierarchicalWeights":
        """See `folded`."""
        return folded(self)


def folded(weights: HierarchicalWeights) -> HierarchicalWeights:
    """The same tower with every BatchNorm and every parallel branch merged into one convolution, and scales of branches into the layers
    before them, computed in float64."""
    return replace(weights, trunk=FAMILIES[weights.spec.family].folded(weights.trunk))


def named_tensors(weights: HierarchicalWeights) -> dict[str, Tensor]:
    """Every tensor by the path of its fields, such as "trunk.stages.3.blocks.0.depthwise.kernel"."""
    return {**dict(tree.named_tensors(weights.trunk, "trunk")), **dict(tree.named_tensors(weights.head, "head"))}


def from_open_clip(state: Mapping[str, Tensor], spec: HierarchicalSpec) -> HierarchicalWeights:
    """Take the image tower out of an open_clip state dict (keys `visual.…`, of any dtype). Tensors are shared, not copied.

    Raises:
        ModelError: a tensor is missing, its shape is not the spec's, or there are tensors that this tower does not have; the message
            names key and shapes.
    """
    trunk_take, head_take = Take(state, "visual.trunk."), Take(state, "visual.head.")
    weights = _taken(spec, trunk_take, head_take)
    left = [name for name in (*trunk_take.left(), *head_take.left()) if not name.endswith(_NO_NUMBERS)]
    if left:
        raise ModelError(f"weights of another architecture: {left[0]!r} is there, and {spec.name} has no such tensor")
    return weights


def image_parameters(spec: HierarchicalSpec) -> int:
    """The number of parameters of the image tower as it was trained, with its head."""
    trunk, head = _Counter(), _Counter()
    _taken(spec, trunk, head)
    return trunk.count + head.count


def _taken(spec: HierarchicalSpec, trunk_take: Take, head_take: Take) -> HierarchicalWeights:
    family, channels = FAMILIES[spec.family], spec.channels
    trunk = family.trunk(spec.arch, trunk_take)
    norm = take_layer_norm(trunk_take, family.norm, channels, family.norm_eps(spec.arch)) if family.norm else None
    hidden = None
    if spec.head == "trunk":
        out = take_linear(trunk_take, family.classifier, channels, spec.embed)
    elif spec.head == "mlp":
        hidden = take_linear(head_take, "mlp.fc1", channels, 2 * spec.embed)
        out = take_linear(head_take, "mlp.fc2", 2 * spec.embed, spec.embed, bias=spec.head_bias)
    else:
        out = take_linear(head_take, "proj", channels, spec.embed, bias=spec.head_bias)
    return HierarchicalWeights(spec, trunk, Head(out, hidden, norm, family.norm_first))


class _Counter(Take):
    """Stands in for a state dict: gives tensors without numbers and counts them."""

    def __init__(self) -> None:
        super().__init__({})
        self.count = 0

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        made = torch.empty(shape, device="meta")
        self.count += 0 if name.endswith(_BUFFERS) else made.numel()
        return made
