"""State dicts as trainers leave them: beside an optimizer, under prefixes, averaged; what is not one set of weights is refused."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastloc.checkpoints import state_dicts
from fastloc.errors import ModelError

STATE: dict[str, Tensor] = {
    "visual.proj": torch.arange(6.0).reshape(2, 3), "transformer.resblocks.0.ln_1.weight": torch.ones(3), "logit_scale": torch.tensor(2.0),
}  # fmt: skip


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": tensor for key, tensor in STATE.items()}


def inside(part: str) -> dict[str, Tensor]:
    """The names with a wrapper within them."""
    return {key.replace("resblocks.0", f"resblocks.0.{part}"): tensor for key, tensor in STATE.items()}


def optimizer() -> dict[str, Any]:
    layer = nn.Linear(3, 2)
    made = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    made.step()
    return made.state_dict()


GOOD: dict[str, Callable[[], Any]] = {
    "plain": lambda: STATE,
    "open_clip": lambda: {"epoch": 3, "name": "run", "state_dict": STATE, "optimizer": optimizer(), "scaler": {"scale": 65536.0}},
    "open_clip, many GPUs": lambda: {"epoch": 3, "state_dict": prefixed("module."), "optimizer": optimizer()},
    "a command line": lambda: {"args": argparse.Namespace(lr=1e-3, model="ViT-B-32"), "model": STATE, "epoch": 1},
    "Lightning": lambda: {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.5", "hyper_parameters": {"lr": 0.1}},
    "PE": lambda: {"weights": prefixed("module.")},
    "model": lambda: {"model": STATE},
    "model_state_dict": lambda: {"model_state_dict": STATE, "loss": 0.5},
    "nested": lambda: {"model": {"state_dict": STATE}},
    "only averaged": lambda: {"state_dict_ema": STATE, "epoch": 3},
    "ema": lambda: {"ema": prefixed("module."), "decay": 0.999},
    "AveragedModel": lambda: {"n_averaged": torch.tensor(7), **prefixed("module.")},
    "torch.compile": lambda: prefixed("_orig_mod."),
    "DDP of a compiled model": lambda: prefixed("module._orig_mod."),
    "a compiled model of DDP's": lambda: prefixed("_orig_mod.module."),
    "compiled blocks": lambda: inside("_orig_mod"),
    "FSDP": lambda: {"state_dict": {f"_fsdp_wrapped_module.{key}": tensor for key, tensor in inside("_fsdp_wrapped_module").items()}},
    "checkpointing": lambda: inside("_checkpoint_wrapped_module"),
    "an empty average beside": lambda: {"model": STATE, "ema": {}, "model_ema": {"decay": 0.9}},
}


@pytest.mark.parametrize("case", GOOD)
@pytest.mark.parametrize("old", [False, True])
def test_state_dicts(case: str, old: bool, tmp_path: Path):
    torch.save(GOOD[case](), tmp_path / "x.pt", _use_new_zipfile_serialization=not old)
    found = state_dicts.read(tmp_path / "x.pt")
    assert list(found) == list(STATE) and all(torch.equal(found[key], tensor) for key, tensor in STATE.items())


def test_the_real_wrappers(tmp_path: Path):
    layer = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    averaged = torch.optim.swa_utils.AveragedModel(nn.DataParallel(layer))
    torch.save(averaged.state_dict(), tmp_path / "x.pt")
    assert list(state_dicts.read(tmp_path / "x.pt")) == ["0.weight", "0.bias"]
    torch.save(torch.compile(layer).state_dict(), tmp_path / "x.pt")
    assert list(state_dicts.read(tmp_path / "x.pt")) == ["0.weight", "0.bias"]


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "two": (
        lambda: {"state_dict": STATE, "state_dict_ema": STATE, "epoch": 3},
        "must hold one set of weights, got several, under 'state_dict', 'state_dict_ema'; save one of them alone",
    ),
    "model and ema": (lambda: {"model": STATE, "ema": prefixed("module.")}, "got several, under 'model', 'ema'"),
    "some": (
        lambda: {**prefixed("module."), "visual.conv1.weight": torch.ones(2)},
        "must have names that begin with 'module.' throughout, or none, got 'module.visual.proj' and 'visual.conv1.weight'",
    ),
    "twice": (
        lambda: {**STATE, "_orig_mod.visual.proj": torch.ones(2, 3)}, "must hold each tensor once, got 'visual.proj' twice, in a",
    ),
    "flat": (
        lambda: {"visual._fsdp_wrapped_module._flat_param": torch.ones(9)},
        "must hold whole tensors, got FSDP's 'visual._fsdp_wrapped_module._flat_param'; save the full state dict of the model",
    ),
    "no weights": (lambda: {"epoch": 3, "optimizer": optimizer()}, "a state dict, but it holds no tensors by name: 'epoch' is a int"),
    "a list": (lambda: [STATE], "holds no tensors by name"),
    "empty": (dict, "holds no tensors by name"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_one_set_of_weights(case: str, tmp_path: Path):
    make, message = BAD[case]
    torch.save(make(), tmp_path / "x.pt")
    with pytest.raises(ModelError) as caught:
        state_dicts.read(tmp_path / "x.pt")
    assert message in str(caught.value) and repr(str(tmp_path / "x.pt")) in str(caught.value) and "\n" not in str(caught.value)
