"""OpenAI's CLIPs in their own files: the architecture, inferred from the tensors as in the official clip/model.py."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fastloc.checkpoints.foreign import torchscript
from fastloc.errors import ModelError
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["is_openai", "model_config", "without_sizes"]

# numbers stored with the tensors in OpenAI's archives, and in no others
_SIZES = ("input_resolution", "context_length", "vocab_size")
# the channels of a head in all of these towers
_HEAD = 64
# the side of a ResNet's cell in pixels
_STRIDE = 32


def is_openai(path: Path) -> bool:
    """True if a file is one of OpenAI's TorchScript archives, whose activation is QuickGELU."""
    try:
        return torchscript.is_archive(path) and set(_SIZES) <= torchscript.names(path)
    except Exception as error:
        pass_on(error)
        # a damaged file: its reader raises the error
        return False


def without_sizes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state without the sizes stored with them."""
    return {name: tensor for name, tensor in state.items() if name not in _SIZES}


def model_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """open_clip's configuration of the model to which these tensors belong; `name` is the file's.

    Raises:
        ModelError: a tensor is missing or has too few axes, or a size stored with them contradicts them.
    """
    shapes = _Shapes(state, name)
    vision = _vit(shapes) if "visual.proj" in state else _resnet(shapes)
    width = shapes.size("ln_final.weight", 0)
    text = {
        "context_length": shapes.size("positional_embedding", 0), "vocab_size": shapes.size("token_embedding.weight", 0), "width": width,
        "heads": max(width // _HEAD, 1), "layers": shapes.count(r"transformer\.resblocks\.(\d+)\..*"),
    }  # fmt: skip
    config = {"embed_dim": shapes.size("text_projection", 1), "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    for size, found in zip(_SIZES, (vision["image_size"], text["context_length"], text["vocab_size"]), strict=True):
        if size in state and (state[size].numel() != 1 or int(state[size]) != found):
            raise ModelError(f"{name!r} is damaged ({size} must be {found}, as its tensors are, got {state[size].tolist()!s:.60})")
    return config


def _vit(shapes: "_Shapes") -> dict[str, Any]:
    width, patch = shapes.size("visual.conv1.weight", 0), shapes.size("visual.conv1.weight", 3)
    grid = math.isqrt(max(shapes.size("visual.positional_embedding", 0) - 1, 0))
    layers = shapes.count(r"visual\.transformer\.resblocks\.(\d+)\.attn\.in_proj_weight")
    return {"layers": layers, "width": width, "head_width": _HEAD, "patch_size": patch, "image_size": grid * patch}


def _resnet(shapes: "_Shapes") -> dict[str, Any]:
    layers = [shapes.count(rf"visual\.layer{stage}\.(\d+)\..*") for stage in (1, 2, 3, 4)]
    grid = math.isqrt(max(shapes.size("visual.attnpool.positional_embedding", 0) - 1, 0))
    width = shapes.size("visual.layer1.0.conv1.weight", 0)
    return {"layers": layers, "width": width, "head_width": _HEAD, "image_size": grid * _STRIDE}


class _Shapes:
    """Sizes of tensors by name."""

    def __init__(self, state: Mapping[str, Tensor], name: str) -> None:
        self.state, self.name = state, name

    def size(self, key: str, axis: int) -> int:
        """The size of one axis. Raises ModelError if there is no such tensor or axis."""
        if key not in self.state or self.state[key].ndim <= axis:
            raise ModelError(f"{self.name!r} holds no CLIP of OpenAI's: {key!r} is missing or has too few axes")
        return int(self.state[key].shape[axis])

    def count(self, pattern: str) -> int:
        """The number of different numbers in names of this pattern."""
        return len({found[1] for key in self.state if (found := re.fullmatch(pattern, key))})
