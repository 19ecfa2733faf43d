"""The naming layouts of files, and the renaming from each to open_clip's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints.foreign import big_vision, other_keys, transformers_keys
from fastloc.checkpoints.foreign.renaming import Layout, renamed
from fastloc.checkpoints.foreign.transformers_config import Class
from fastloc.errors import ModelError

__all__ = ["LAYOUTS", "as_open_clip", "as_open_clip_of", "layout_of"]

# a file has the first layout whose mark it contains
LAYOUTS = (*transformers_keys.LAYOUTS, *other_keys.LAYOUTS, big_vision.LAYOUT)
# a linear layer on pixels has two axes, a convolution four
_PATCHES = "vision_model.embeddings.patch_embedding.weight"


def layout_of(state: Mapping[str, Tensor]) -> Layout | None:
    """The layout by its mark; None for open_clip's own names, and for names of anything else."""
    for layout in LAYOUTS:
        if layout.mark in state and not (layout.name == "a SiglipModel" and _PATCHES in state and state[_PATCHES].ndim == 2):
            return layout
    return None


def as_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under open_clip's names, from any known layout; unchanged for an unknown one.

    Raises:
        ModelError: see `fastloc.checkpoints.foreign.renaming.renamed`.
    """
    layout = layout_of(state)
    return state if layout is None else _finished(renamed(state, layout, {}, {}))


def as_open_clip_of(state: Mapping[str, Tensor], found: Class, config: Mapping[str, Any], path: str) -> dict[str, Tensor]:
    """The tensors of a transformers class under open_clip's names, with the sizes and blocks of its configuration.

    Args:
        found: the class. config: the result of `transformers_config.model_config` for its file, `path`.

    Raises:
        ModelError: see `as_open_clip`; also for tensors of another class.
    """
    layout = layout_of(state)
    # MetaClip2Model's are CLIPModel's
    named = f"a {found.name.replace('MetaClip2Model', 'CLIPModel')}"
    if layout is None or layout.name != named:
        got = f"{layout.name}'s, by {layout.mark!r}" if layout is not None else f"names such as {next(iter(state))[:80]!r}"
        raise ModelError(f"weights must be those of {named}, as {path!r} says, got {got}; these files do not belong together")
    vit, text = config["vision_cfg"]["vit"], config["text_cfg"]
    sizes = {"C": vit["width"], "E": config["embed_dim"], "c": text["width"], "V": text["vocab_size"], "L": text["context_length"]}
    blocks = {"visual.": vit["layers"], "transformer.": text["layers"], "text.": text["layers"]}
    made = _finished(renamed(state, layout, sizes, blocks))
    if "init_logit_scale" in config:
        made.setdefault("logit_scale", torch.tensor(config["init_logit_scale"]))
    return made


def _finished(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return transformers_keys.joined_class_position(state) if "visual.trunk.reg_token" in state else state
