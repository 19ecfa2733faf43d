"""The check of a loaded graph's inputs and outputs against the file's metadata, so that nothing is made for sizes that it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastloc.errors import ModelError
from fastloc.onnx_file.manifest import Manifest
from fastloc.runtime.shape_profiles import inputs_of
from fastloc.utils.schema import shown

__all__ = ["check_graph"]

# a dtype by numpy's name, and the sides of each axis, numbers where they are fixed; () where even the number of axes is open
Kind = tuple[str, Sequence[Any]]


def check_graph(path: Path, manifest: Manifest, inputs: Mapping[str, Kind], outputs: Mapping[str, Kind]) -> None:
    """Raise ModelError unless the graph of a file has the inputs and outputs that its metadata names."""
    declared = inputs_of(manifest)
    if set(inputs) != set(declared):
        raise ModelError(f"{path}: its graph must have the inputs {sorted(declared)} of its metadata, got {shown(sorted(inputs))}")
    for name, (dtype, shape) in declared.items():
        kind, sides = inputs[name]
        if kind != dtype or len(sides) != len(shape) or any(_differ(*pair) for pair in zip(sides, shape, strict=True)):
            got = f"{kind} {shown(list(sides))}"
            raise ModelError(f"{path}: its graph's input {name!r} must be {dtype} {list(shape)}, as declared, got {got}")
    for name in manifest.outputs:
        axes, kind = (3, "uint8") if name == "labels" else (2 if name in ("scores", "background") else 4, "float32")
        if name not in outputs or outputs[name][0] != kind or len(outputs[name][1]) not in (0, axes):
            raise ModelError(f"{path}: its graph must have output {name!r} as declared, {kind} of {axes} axes, got none")


def _differ(side: Any, declared: Any) -> bool:
    return isinstance(side, int) and isinstance(declared, int) and side != declared
