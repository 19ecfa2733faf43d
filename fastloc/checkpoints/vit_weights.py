"""The tensors of one image tower."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.recipes.readout import LOGIT_SCALE


@dataclass(frozen=True)
class Block:
    """One transformer block; linear weights are [out, in]. M is the MLP's width, G is 2M where it is gated and M where it is not.

    Projections without a bias have one of zeros. Tensors that a tower lacks are None.
    """

    ln1_w: Tensor  # [C]
    ln1_b: Tensor  # [C]
    qkv_w: Tensor  # [3C, C], rows q then k then v
    qkv_b: Tensor  # [3C]
    out_w: Tensor  # [C, C]
    out_b: Tensor  # [C]
    ln2_w: Tensor  # [C]
    ln2_b: Tensor  # [C]
    fc_w: Tensor  # [G, C], of a gated MLP the activated half first
    fc_b: Tensor  # [G]
    proj_w: Tensor  # [C, M]
    proj_b: Tensor  # [C]
    ls1: Tensor | None = None  # [C], LayerScale of the attention branch
    ls2: Tensor | None = None  # [C], LayerScale of the MLP branch
    attn_norm_w: Tensor | None = None  # [C], before the out-projection
    attn_norm_b: Tensor | None = None
    mlp_norm_w: Tensor | None = None  # [M], before the MLP's second product
    mlp_norm_b: Tensor | None = None
    q_norm_w: Tensor | None = None  # [d], of every head
    q_norm_b: Tensor | None = None
    k_norm_w: Tensor | None = None
    k_norm_b: Tensor | None = None
    fc_norm_w: Tensor | None = None  # [C], a second LayerNorm before the MLP's first product
    fc_norm_b: Tensor | None = None
    relative_in_w: Tensor | None = None  # [R, 2], of rows and columns: the MLP of the logits' bias, see `ModelSpec.relative`
    relative_in_b: Tensor | None = None  # [R]
    relative_out_w: Tensor | None = None  # [H, R]
    relative_out_b: Tensor | None = None  # [H]


@dataclass(frozen=True)
class Pool:
    """One learned query's attention to all tokens. With its output z the image embedding is z + MLP(LN(z)) or, without an MLP, LN(z).

    D is the pool's width, C the tokens'.
    """

    latent: Tensor  # [D], the input of the query's projection
    q_w: Tensor  # [D, D]
    q_b: Tensor  # [D]
    k_w: Tensor  # [D, C]
    k_b: Tensor  # [D]
    v_w: Tensor  # [D, C]
    v_b: Tensor  # [D]
    out_w: Tensor  # [D, D]
    out_b: Tensor  # [D]
    norm_w: Tensor  # [D]
    norm_b: Tensor  # [D]
    # values and out-projection as one matrix, for tokens that are read alone; made by `fastloc.functional.folding`
    value_w: Tensor | None = None  # [D, C]
    value_b: Tensor | None = None  # [D]
    fc_w: Tensor | None = None  # [M, D]
    fc_b: Tensor | None = None
    proj_w: Tensor | None = None  # [D, M]
    proj_b: Tensor | None = None


@dataclass(frozen=True)
class Stem:
    """One further convolution of a stem, after a GELU; its stride is its own size."""

    w: Tensor  # [C, Cin, k, k]
    b: Tensor  # [C]


@dataclass(frozen=True)
class MapBlock:
    """One inverted bottleneck with a LayerNorm before it (MBConv-LN of ViTamin, arXiv 2404.02132); the hidden width is N.

    The first block of a stage halves the map: its depthwise convolution has stride 2, and its shortcut averages cells.
    """

    norm_w: Tensor  # [D]
    norm_b: Tensor  # [D]
    widen_w: Tensor  # [N, D]
    widen_b: Tensor  # [N]
    depth_w: Tensor  # [N, 1, 3, 3]
    depth_b: Tensor  # [N]
    narrow_w: Tensor  # [C, N]
    narrow_b: Tensor  # [C]
    short_w: Tensor | None  # [C, D], of the shortcut where it changes the width
    short_b: Tensor | None  # [C]
    halves: bool


@dataclass(frozen=True)
class MapStem:
    """A stem of overlapping convolutions, after the first one, which is `Weights.patch_w` with stride 2; all have a padding of 1."""

    norm_w: Tensor  # [D], a LayerNorm after the first convolution, before GELU
    norm_b: Tensor  # [D]
    second_w: Tensor  # [D, D, 3, 3]
    second_b: Tensor  # [D]
    blocks: tuple[MapBlock, ...]
    end_norm_w: Tensor  # [2D], before the last convolution, whose stride is 2
    end_norm_b: Tensor  # [2D]
    end_w: Tensor  # [C, 2D, 3, 3]
    end_b: Tensor  # [C]


@dataclass(frozen=True)
class Weights:
    """One image tower: its spec and its tensors, all of one dtype on one device. S tokens stand in front of the patches."""

    spec: ModelSpec
    patch_w: Tensor  # [C, 3, ph, pw]; of a stem of several convolutions the first one's, [D, 3, 3, 3] where they overlap
    prefix: Tensor  # [S, C], the class token and the registers
    pos: Tensor  # [S + gh*gw, C], zeros for tokens without a position
    ln_pre_w: Tensor | None  # [C], None in towers without ln_pre
    ln_pre_b: Tensor | None  # [C]
    blocks: tuple[Block, ...]
    ln_post_w: Tensor  # [C], the last LayerNorm, whose output an attention pool reads
    ln_post_b: Tensor  # [C]
    proj: Tensor | None = None  # [C, E], into the text's space; None where the tower ends in it
    proj_b: Tensor | None = None  # [E]
    patch_b: Tensor | None = None  # [C]
    stem: tuple[Stem, ...] = ()
    maps: MapStem | None = None
    pool: Pool | None = None
    # the factor of cosines of pictures and texts before a softmax over texts, as the model was trained
    logit_scale: float = LOGIT_SCALE

    @property
    def dtype(self) -> torch.dtype:
        return self.patch_w.dtype

    @property
    def device(self) -> torch.device:
        return self.patch_w.device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Weights":
        """The same tower on another device or in another dtype; nothing is changed in place."""
        return _mapped(self, lambda tensor: tensor.to(device=device, dtype=dtype))


def named_tensors(weights: Weights) -> dict[str, Tensor]:
    """Every tensor by the path of its fields, such as "blocks.3.qkv_w"; those that the tower does not have are left out."""
    return dict(_named(weights, ""))


# the parts that a tower has one of
_NESTED: tuple[type[Any], ...] = (Pool, MapStem)
_Part = TypeVar("_Part", Weights, Block, Pool, Stem, MapStem, MapBlock)


def _named(part: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    for field in fields(part):
        value = getattr(part, field.name)
        if field.name == "prefix" and len(value) < 2:
            # a single token is the class token: digests of towers were made with this name and shape
            yield from ((f"{path}cls", token) for token in value)
        elif isinstance(value, Tensor):
            yield f"{path}{field.name}", value
        elif isinstance(value, tuple):
            for i, each in enumerate(value):
                yield from _named(each, f"{path}{field.name}.{i}.")
        elif isinstance(value, _NESTED):
            yield from _named(value, f"{path}{field.name}.")


def _mapped(part: _Part, change: Callable[[Tensor], Tensor]) -> _Part:
    changes: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = change(value)
        elif isinstance(value, tuple):
            changes[field.name] = tuple(_mapped(each, change) for each in value)
        elif isinstance(value, _NESTED):
            changes[field.name] = _mapped(value, change)
    return replace(part, **changes)
