"""The runtimes that an engine can be built for, one row each, with their own names of options.

TensorRT (the data centre's and Jetson's) times kernels on the GPU that the engine is for; TensorRT-RTX compiles ahead of time for any RTX
GPU, needs none, and finishes on the user's machine. Both take a strongly typed network: precision is in the ONNX file.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from fastloc.errors import ModelError, PlanError, unknown
from fastloc.utils.hardware import Gpu

__all__ = ["CURRENT", "FLAVOURS", "Flavour", "capabilities", "flavour", "load", "release"]

CURRENT = "current"
Version = tuple[int, ...]


@dataclass(frozen=True)
class Flavour:
    """One runtime.

    module, install: the module to import, and the command that installs it. suffix: of an engine's file.
    oldest: the first version whose network is typed strongly; attention: the first that reads ai.onnx Attention.
    flag_before: below this version a network is typed strongly only with a flag; from it on it always is, and the flag is deprecated.
    ahead: True if it builds for GPUs of other machines.
    refused: options that it does not have, each with the reason.
    float32_attention: True if ai.onnx Attention may be float32.
    usual: the GPUs that an engine serves if it is built for no particular capability.
    """

    name: str
    title: str
    module: str
    install: str
    suffix: str
    oldest: Version
    attention: Version
    flag_before: Version
    ahead: bool
    float32_attention: bool
    usual: str
    refused: Mapping[str, str] = field(default_factory=dict)


_JIT = "it times no kernels while building: they are compiled on the user's GPU and kept in a runtime cache there"
FLAVOURS = {
    each.name: each
    for each in (
        Flavour("tensorrt-rtx", "TensorRT-RTX", "tensorrt_rtx", 'pip install "fastloc[rtx]"', ".rtx.engine",
                oldest=(1,), attention=(1,), flag_before=(0,), ahead=True, float32_attention=False,
                usual="every RTX GPU from compute capability 8.0 on",
                refused={"timing cache": _JIT, "optimization level": _JIT}),
        # onnxruntime's TensorRT provider is linked to TensorRT 10, so that is the version for using both
        Flavour("tensorrt", "TensorRT", "tensorrt", 'pip install "tensorrt-cu13>=10.14,<11" (version 11 works here too, '
                "but onnxruntime's TensorRT provider needs 10)", ".engine",
                oldest=(10,), attention=(10, 14), flag_before=(11,), ahead=False, float32_attention=True,
                usual="GPUs like the one it was built on"),
    )
}  # fmt: skip


def flavour(name: str) -> Flavour:
    """The named row. Raises PlanError for an unknown one."""
    if name not in FLAVOURS:
        raise PlanError(unknown("runtime", name, FLAVOURS))
    return FLAVOURS[name]


def load(row: Flavour) -> ModuleType:
    """The runtime's module.

    Raises:
        ModelError: it is not installed, cannot be loaded, or is too old.
    """
    try:
        module = importlib.import_module(row.module)
    except ModuleNotFoundError as error:
        if error.name != row.module:
            raise ModelError(f"{row.title} cannot be loaded: it misses {error.name}; {row.install}") from None
        raise ModelError(f"{row.title} is not installed: {row.install}") from None
    except (ImportError, OSError) as error:
        raise ModelError(f"{row.title} is installed and cannot be loaded ({' '.join(str(error).split())}): {row.install}") from None
    if release(module) < row.oldest:
        oldest = ".".join(map(str, row.oldest))
        raise ModelError(f"{row.title} {module.__version__} is too old: fastloc builds strongly typed engines, with {oldest} or newer")
    return module


def release(module: ModuleType) -> Version:
    """A module's version as numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", str(module.__version__)))


def capabilities(row: Flavour, module: ModuleType, asked: Iterable[str], gpu: Gpu | None) -> tuple[str, ...]:
    """The requested capabilities by this runtime's names, without duplicates: () for its own choice, ("CURRENT",) or ("SM86", …).

    asked: "86", "8.6", "sm_86" or "current" each. gpu: this machine's, if there is one.

    Raises:
        PlanError: not a compute capability, one that the runtime does not know, or one that needs a GPU of this machine.
    """
    names = tuple(dict.fromkeys(_plain(each) for each in asked))
    if not row.ahead:
        return _here(row, names, gpu)
    if CURRENT in names:
        if len(names) > 1:
            raise PlanError("compute capability 'current' goes alone: it is the GPU here and no other")
        if gpu is None:
            raise PlanError(f"there is no NVIDIA GPU here for 'current' to mean: name a compute capability, {_listed(module)}")
        # the builder would fail at the same point
        _known(row, module, gpu.capability.replace(".", ""), f" ({gpu.name})")
        return (CURRENT.upper(),)
    for each in names:
        _known(row, module, each, "")
    return tuple(f"SM{each}" for each in names)


def _here(row: Flavour, names: tuple[str, ...], gpu: Gpu | None) -> tuple[str, ...]:
    """The capabilities for a runtime that builds only for this machine's GPU."""
    if gpu is None:
        raise PlanError(
            f"{row.title} builds on the GPU that the engine is for, and there is no NVIDIA GPU here: "
            "run this on the device, or build with runtime 'tensorrt-rtx', which needs none"
        )
    here = gpu.capability.replace(".", "")
    if any(each not in (CURRENT, here) for each in names):
        raise PlanError(
            f"{row.title} builds for the GPU here, {gpu.name} of compute capability {_dotted(here)}, and not for "
            f"{', '.join(map(_dotted, names))}: run this on that device, or build with runtime 'tensorrt-rtx'"
        )
    return ()


def _plain(asked: str) -> str:
    """The digits of "86", "8.6", "sm_86" or "SM86"."""
    text = asked.strip().lower()
    if text == CURRENT:
        return text
    found = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", text)
    if not found:
        raise PlanError(f"{asked!r} is not a compute capability; give one such as 8.6 or 86, or {CURRENT!r}")
    return "".join(found.groups())


def _known(row: Flavour, module: ModuleType, digits: str, whose: str) -> None:
    if f"SM{digits}" not in _members(module):
        raise PlanError(
            f"{row.title} {module.__version__} does not build for compute capability {_dotted(digits)}{whose}, only for {_listed(module)}; "
            "for other GPUs build with runtime 'tensorrt' on the device, or run the ONNX file in onnxruntime"
        )


def _members(module: ModuleType) -> list[str]:
    members: Mapping[str, Any] = module.ComputeCapability.__members__
    return [name for name in members if name.startswith("SM")]


def _listed(module: ModuleType) -> str:
    return ", ".join(_dotted(name.removeprefix("SM")) for name in _members(module))


def _dotted(digits: str) -> str:
    return digits if digits == CURRENT else f"{digits[:-1]}.{digits[-1]}"
