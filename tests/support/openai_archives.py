"""TorchScript archives as OpenAI's CLIPs are: a scripted module with their names, half precision, and three sizes beside the tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastloc.checkpoints.text_loading import network

SIZES = ("input_resolution", "context_length", "vocab_size")
TEXT = {"context_length": 9, "vocab_size": 60, "width": 64, "heads": 1, "layers": 3}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {"embed_dim": 32, "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8}, "text_cfg": TEXT},
    "resnet": {"embed_dim": 32, "vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8}, "text_cfg": TEXT},
}


class Part(nn.Module):
    """A module of a tree; it runs, and does nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """The input, of any shape."""
        return x


def state_of(name: str) -> dict[str, Tensor]:
    """Random weights of a configuration under open_clip's flat names, which are OpenAI's; norms and biases are not trivial."""
    torch.manual_seed(0)
    drawn = torch.Generator().manual_seed(1)
    state: dict[str, Tensor] = network(CONFIGS[name]).state_dict()
    return {
        key: tensor + 0.1 * torch.randn(tensor.shape, generator=drawn).abs() if tensor.is_floating_point() else tensor
        for key, tensor in state.items() if key != "attn_mask"
    }  # fmt: skip


def module_of(state: Mapping[str, Tensor]) -> nn.Module:
    """A tree of modules with these tensors."""
    root = Part()
    for key, tensor in state.items():
        *parts, last = key.split(".")
        inner: nn.Module = root
        for part in parts:
            if part not in inner._modules:
                inner.add_module(part, Part())
            inner = inner.get_submodule(part)
        if tensor.is_floating_point():
            inner.register_parameter(last, nn.Parameter(tensor))
        else:
            inner.register_buffer(last, tensor)
    return root.eval()


def write(path: Path, state: Mapping[str, Tensor], sizes: tuple[int, int, int] | None = None, traced: bool = False) -> Path:
    """Write an archive. sizes: the three numbers, buffers of the module."""
    state = {**state, **{key: torch.tensor(size) for key, size in zip(SIZES, sizes or (), strict=False)}}
    module = module_of(state)
    made = torch.jit.trace(module, torch.zeros(1)) if traced else torch.jit.script(module)
    torch.jit.save(made, str(path))
    return path


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def sizes_of(name: str) -> tuple[int, int, int]:
    return CONFIGS[name]["vision_cfg"]["image_size"], TEXT["context_length"], TEXT["vocab_size"]
