"""Files of weights to tensors by name, as they are written by open_clip, by its trainer and by anything that saves a state dict."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["content", "faults"]

# times that the same numbers may be there under several names: tied weights are there twice
SHARED = 4

# a trainer's wrapper around the model, which every name of its state dict begins with
_WRAPPER = "module"


def content(path: Path) -> Any:
    """The content of a .safetensors or torch file on the CPU, without what a trainer keeps beside the state dict and in front of its names.

    Nothing that a pickle holds is run. Raises whatever the readers raise, and ValueError for a torch file that would unpack to more than
    it has; what is no state dict is given back as it is.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        found: Any = load_file(path)
    else:
        _check_archive(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(found, Mapping) and "state_dict" in found:
        found = found["state_dict"]
    return _unwrapped(found) if isinstance(found, Mapping) else found


def faults(state: Mapping[Any, Any], size: int) -> str | None:
    """What keeps the content of a file of so many bytes from being used as tensors by name; None if nothing does."""
    if not state or not all(isinstance(name, str) for name in state):
        return "holds no tensors by name"
    total = 0
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            return f"holds no tensors by name: {name[:60]!r} is a {type(tensor).__name__}"
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
            return f"holds {name[:60]!r}, which is no plain tensor of real numbers"
        total += tensor.numel() * tensor.element_size()
    if total > SHARED * size:
        return f"holds tensors of {total:,} bytes in {size:,}: views that repeat a few numbers"
    return None


def _check_archive(path: Path) -> None:
    """Raise ValueError for a torch file whose parts are compressed, which torch itself never does."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if sum(each.file_size for each in archive.infolist()) > path.stat().st_size:
            raise ValueError("its parts are compressed")


def _unwrapped(state: Mapping[Any, Any]) -> dict[Any, Any]:
    first = next(iter(state), None)
    if isinstance(first, str) and first.startswith(_WRAPPER):
        return {str(name)[len(_WRAPPER) + 1 :]: tensor for name, tensor in state.items()}
    return dict(state)
