"""Files of weights to tensors by name, as they are written by open_clip, by its trainer and by anything that saves a state dict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["content"]

# a trainer's wrapper around the model, which every name of its state dict begins with
_WRAPPER = "module"


def content(path: Path) -> Any:
    """The content of a .safetensors or torch file on the CPU, without what a trainer keeps beside the state dict and in front of its names.

    Nothing that a pickle holds is run. Raises whatever the readers raise; what is no state dict is given back as it is.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        found: Any = load_file(path)
    else:
        found = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(found, Mapping) and "state_dict" in found:
        found = found["state_dict"]
    return _unwrapped(found) if isinstance(found, Mapping) else found


def _unwrapped(state: Mapping[Any, Any]) -> dict[Any, Any]:
    first = next(iter(state), None)
    if isinstance(first, str) and first.startswith(_WRAPPER):
        return {name[len(_WRAPPER) + 1 :]: tensor for name, tensor in state.items()}
    return dict(state)
