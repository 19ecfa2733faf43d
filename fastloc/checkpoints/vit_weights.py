"""The tensors of one image tower. The only room that knows how others name them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.errors import ModelError
from fastloc.recipes.schema import LOGIT_SCALE


@dataclass(frozen=True)
class Block:
    """One pre-norm transformer block; linear weights are [out, in]. M is the MLP's width."""

    ln1_w: Tensor  # [C]
    ln1_b: Tensor  # [C]
    qkv_w: Tensor  # [3C, C], rows q then k then v
    qkv_b: Tensor  # [3C]
    out_w: Tensor  # [C, C]
    out_b: Tensor  # [C]
    ln2_w: Tensor  # [C]
    ln2_b: Tensor  # [C]
    fc_w: Tensor  # [M, C]
    fc_b: Tensor  # [M]
    proj_w: Tensor  # [C, M]
    proj_b: Tensor  # [C]
    ls1: Tensor | None  # [C], LayerScale of the attention branch
    ls2: Tensor | None  # [C], LayerScale of the MLP branch


@dataclass(frozen=True)
class Weights:
    """One image tower: its spec and its tensors, all of one dtype on one device."""

    spec: ModelSpec
    patch_w: Tensor  # [C, 3, ph, pw]
    cls: Tensor  # [C]
    pos: Tensor  # [1 + gh*gw, C], the class token's row first
    ln_pre_w: Tensor | None  # [C], None in towers without ln_pre
    ln_pre_b: Tensor | None  # [C]
    blocks: tuple[Block, ...]
    ln_post_w: Tensor  # [C]
    ln_post_b: Tensor  # [C]
    proj: Tensor  # [C, E]
    # what cosines of pictures and texts are multiplied by before a softmax over texts, as the model was trained
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
    found = {each.name: getattr(weights, each.name) for each in fields(weights)}
    for i, block in enumerate(weights.blocks):
        found |= {f"blocks.{i}.{each.name}": getattr(block, each.name) for each in fields(block)}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


_Part = TypeVar("_Part", Weights, Block)


def _mapped(part: _Part, change: Callable[[Tensor], Tensor]) -> _Part:
    changes: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = change(value)
        elif field.name == "blocks":
            changes["blocks"] = tuple(_mapped(block, change) for block in value)
    return replace(part, **changes)


# open_clip's names under visual.transformer.resblocks.{i}. ; the shape in letters C (width) and M (MLP), see _shapes
_BLOCK_KEYS = {
    "ln1_w": ("ln_1.weight", "C"), "ln1_b": ("ln_1.bias", "C"),
    "qkv_w": ("attn.in_proj_weight", "3C C"), "qkv_b": ("attn.in_proj_bias", "3C"),
    "out_w": ("attn.out_proj.weight", "C C"), "out_b": ("attn.out_proj.bias", "C"),
    "ln2_w": ("ln_2.weight", "C"), "ln2_b": ("ln_2.bias", "C"),
    "fc_w": ("mlp.c_fc.weight", "M C"), "fc_b": ("mlp.c_fc.bias", "M"),
    "proj_w": ("mlp.c_proj.weight", "C M"), "proj_b": ("mlp.c_proj.bias", "C"),
    "ls1": ("ls_1.gamma", "C"), "ls2": ("ls_2.gamma", "C"),
}
_TOWER_KEYS = {
    "patch_w": ("conv1.weight", "C 3 h w"), "cls": ("class_embedding", "C"), "pos": ("positional_embedding", "N C"),
    "ln_pre_w": ("ln_pre.weight", "C"), "ln_pre_b": ("ln_pre.bias", "C"),
    "ln_post_w": ("ln_post.weight", "C"), "ln_post_b": ("ln_post.bias", "C"), "proj": ("proj", "C E"),
}


def from_open_clip(state: Mapping[str, Tensor], spec: ModelSpec) -> Weights:
    """Take the image tower out of an open_clip state dict (keys `visual.…`, of any dtype). Tensors are shared, not copied.

    Raises:
        ModelError: a tensor is missing, or its shape is not the spec's; the message names key and shapes.
    """
    letters = _letters(state, spec)
    absent = {*(() if spec.ln_pre else ("ln_pre_w", "ln_pre_b")), *(() if spec.layer_scale else ("ls1", "ls2"))}
    tower = {name: _take(state, f"visual.{key}", shape, letters, name in absent) for name, (key, shape) in _TOWER_KEYS.items()}
    blocks = tuple(_block(state, f"visual.transformer.resblocks.{i}.", letters, absent) for i in range(spec.layers))
    beyond = f"visual.transformer.resblocks.{spec.layers}.ln_1.weight"
    if beyond in state:
        raise ModelError(f"weights of another architecture: {beyond!r} is there, but the model has {spec.layers} blocks")
    return Weights(spec=spec, blocks=blocks, **tower)  # type: ignore[arg-type]  # _take has checked which may be None


def text_blocks(state: Mapping[str, Tensor], spec: ModelSpec) -> tuple[Block, ...]:
    """The blocks of an open_clip text tower (keys `transformer.…`), which are named like the image tower's.

    Raises:
        ModelError: a tensor is missing, or its shape is not the spec's.
    """
    letters = {"C": spec.width, "3C": 3 * spec.width, "M": len(state["transformer.resblocks.0.mlp.c_fc.bias"])}
    absent = set() if "transformer.resblocks.0.ls_1.gamma" in state else {"ls1", "ls2"}
    return tuple(_block(state, f"transformer.resblocks.{i}.", letters, absent) for i in range(spec.layers))


def _letters(state: Mapping[str, Tensor], spec: ModelSpec) -> dict[str, int]:
    hidden = state.get("visual.transformer.resblocks.0.mlp.c_fc.bias")
    return {
        "C": spec.width, "3C": 3 * spec.width, "E": spec.embed, "N": 1 + spec.grid[0] * spec.grid[1], "3": 3,
        "h": spec.patch[0], "w": spec.patch[1], "M": hidden.numel() if hidden is not None else 4 * spec.width,
    }


def _block(state: Mapping[str, Tensor], prefix: str, letters: dict[str, int], absent: set[str]) -> Block:
    parts = {name: _take(state, prefix + key, shape, letters, name in absent) for name, (key, shape) in _BLOCK_KEYS.items()}
    return Block(**parts)  # type: ignore[arg-type]  # _take has checked which may be None


def _take(state: Mapping[str, Tensor], key: str, shape: str, letters: dict[str, int], absent: bool) -> Tensor | None:
    tensor = state.get(key)
    if absent and tensor is not None:
        raise ModelError(f"weights of another architecture: {key!r} is there, and the model has no such part")
    if absent:
        return None
    if tensor is None:
        found = ", ".join(sorted(state)[:3]) or "nothing"
        raise ModelError(f"weights of another architecture: {key!r} is missing (the file holds {found}, …)")
    wanted = tuple(letters[letter] for letter in shape.split())
    if tuple(tensor.shape) != wanted:
        raise ModelError(f"weights of another architecture: {key!r} has shape {tuple(tensor.shape)}, the model wants {wanted}")
    return tensor.detach()
