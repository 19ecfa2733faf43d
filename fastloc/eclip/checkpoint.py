"""The state of a training as one safetensors file: parameters and the optimizer's moments, with step and digests in its metadata.

Orders and captions follow from seed and step, so a training resumes bit for bit without anything else.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from fastloc._version import __version__
from fastloc.eclip.steps import State
from fastloc.errors import FastlocError
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.schema import count, first_line, shown
from fastloc.utils.system.exhaustion import pass_on
from fastloc.utils.versioned_json import read

NAME = "checkpoint.safetensors"
FORMAT = 1
MOST_STEPS = 1 << 40
KEY = "fastloc.eclip"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def write(path: Path, state: State, belongs: dict[str, str]) -> None:
    """Write a checkpoint atomically. `belongs`: the digests of the model and the data, by name."""
    tensors = {name: parameter.detach() for name, parameter in state.parameters.items()}
    for name, parameter in state.parameters.items():
        tensors |= {f"{name}.{moment}": tensor for moment, tensor in state.optimizer.state.get(parameter, {}).items()}
    content = {"format": FORMAT, "version": __version__, "step": state.step, "settings": asdict(state.settings), **belongs}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, lambda file: file.write(save(plain, {KEY: json.dumps(content)})), sync=True)


def resume(path: Path, state: State, belongs: dict[str, str]) -> None:
    """Restore the state of a training from its checkpoint.

    Raises:
        FastlocError: a missing or damaged checkpoint, or one with other settings, another model or other data.
    """
    if not os.path.isfile(path):
        raise FastlocError(f"{path}: no such file; there is nothing to resume")
    try:
        with safe_open(str(path), "pt") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        pass_on(error)
        # the library's exception has no narrower base, and dtypes that torch lacks raise others
        raise FastlocError(f"{path}: cannot be read as a checkpoint ({first_line(error)})") from error
    content = read(metadata.get(KEY, "{}"), KEY, FORMAT, str(path), dict[str, Any])
    _check(path, content, state, belongs)
    try:
        _restore(state, tensors)
    except (KeyError, RuntimeError) as error:
        pass_on(error)
        raise FastlocError(f"{path}: is damaged ({first_line(error)})") from error
    state.step = int(content["step"])


def _check(path: Path, content: dict[str, Any], state: State, belongs: dict[str, str]) -> None:
    before = content.get("settings")
    if not isinstance(before, dict):
        raise FastlocError(f"{path}: is damaged (settings must be an object, got {shown(before)})")
    count(f"{path}: step", content.get("step", -1), MOST_STEPS, 0)
    if names := state.settings.differing(before):
        name = names[0]
        raise FastlocError(
            f"{path} was written with {name} {before.get(name)!r}, and it is {getattr(state.settings, name)!r} now: "
            "resume with the same settings, or begin in another folder"
        )
    for name, digest in belongs.items():
        if content.get(name) != digest:
            what = name.replace("_", " ")
            raise FastlocError(f"{path} was written with another {what}: resume with the same, or begin in another folder")


def _restore(state: State, tensors: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in state.parameters.items():
            parameter.copy_(tensors[name])
            if f"{name}.step" in tensors:
                # the optimizer keeps its count of steps on the CPU
                device = {"step": torch.device("cpu")}
                state.optimizer.state[parameter] = {
                    moment: tensors[f"{name}.{moment}"].to(device.get(moment, parameter.device), copy=True) for moment in _MOMENTS
                }
