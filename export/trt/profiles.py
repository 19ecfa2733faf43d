"""Ranges of the dimensions that an ONNX file leaves open, as a compiler needs them: (smallest, usual, largest) of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastloc.errors import PlanError
from fastloc.onnx_file.graph import Value
from fastloc.onnx_file.manifest import Manifest

__all__ = ["Profiles", "Shapes", "shapes"]

Pair = tuple[int, int]
Span = tuple[int, int, int]
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]

# the meaning of an input's dimensions: batch, height, width, texts; "-" is always fixed
_LAYOUTS = {"NCHW": "b-hw", "NHWC": "bhw-"}
_TEXTS = "t-"


@dataclass(frozen=True)
class Profiles:
    """(smallest, usual, largest) of each open dimension; kernels are chosen for the usual one. Sizes are (height, width)."""

    batch: Span | None = None
    size: tuple[Pair, Pair, Pair] | None = None
    texts: Span | None = None


@dataclass(frozen=True)
class _Axis:
    """One open dimension. option: of the command line. given: True if there is a range. values: the range, or empty."""

    noun: str
    option: str
    suggested: str
    values: tuple[int, ...]


def shapes(inputs: Iterable[Value], manifest: Manifest, asked: Profiles) -> Shapes:
    """Shapes by input name: smallest, usual, largest. Empty where the file leaves nothing open.

    Raises:
        PlanError: an open dimension without a range, a range for a fixed one, or an invalid range.
    """
    axes = _axes(manifest, asked)
    for axis in axes.values():
        _check_range(axis)
    _check_patches(manifest, asked)
    found: Shapes = {}
    used: set[str] = set()
    for value in inputs:
        letters = _letters(value, manifest)
        opened = [letter for letter, side in zip(letters, value.shape, strict=True) if not isinstance(side, int)]
        for letter in opened:
            _check_open(axes, letter, value)
        used |= set(opened)
        if opened:
            found[value.name] = _three(letters, value, axes)
    for letter, axis in axes.items():
        if axis.values and letter not in used:
            raise PlanError(f"a range of {axis.noun} is given ({axis.option}), and the file has one fixed: leave it out, or export anew")
    return found


def _axes(manifest: Manifest, asked: Profiles) -> dict[str, _Axis]:
    usual = manifest.input.usual
    size = f"{usual}" if isinstance(usual, int) else f"{usual[0]}x{usual[1]}"
    heights, widths = zip(*asked.size, strict=True) if asked.size else ((), ())
    return {
        "b": _Axis("batch sizes", "--batch", "1:1:8", asked.batch or ()),
        "h": _Axis("heights", "--size", f"{size}:{size}:{size}", heights),
        "w": _Axis("widths", "--size", f"{size}:{size}:{size}", widths),
        "t": _Axis("text counts", "--texts", "1:4:16", asked.texts or ()),
    }


def _letters(value: Value, manifest: Manifest) -> str:
    """The letters of an input's dimensions."""
    letters = _TEXTS if value.name == "text_embeddings" else _LAYOUTS.get(manifest.input.layout, "")
    if len(letters) != len(value.shape):
        raise PlanError(f"input {value.name!r} has shape {list(value.shape)}, which no fastloc export has: export the file again")
    return letters


def _check_open(axes: dict[str, _Axis], letter: str, value: Value) -> None:
    if letter == "-":
        raise PlanError(f"input {value.name!r} has shape {list(value.shape)}, with an open dimension that only the file's model can know")
    axis = axes[letter]
    if not axis.values:
        raise PlanError(
            f"input {value.name!r} takes any number of {axis.noun}, and an engine is for a range: "
            f"give {axis.option} SMALLEST:USUAL:LARGEST, such as {axis.option} {axis.suggested}"
        )


def _check_range(axis: _Axis) -> None:
    low, usual, high = axis.values or (1, 1, 1)
    if not 1 <= low <= usual <= high:
        raise PlanError(f"{axis.noun} {low}:{usual}:{high} ({axis.option}) are no range: give SMALLEST:USUAL:LARGEST, each 1 or more")


def _check_patches(manifest: Manifest, asked: Profiles) -> None:
    patch = manifest.model.patch
    for height, width in asked.size or ():
        if height % patch[0] or width % patch[1]:
            below = max(height // patch[0], 1) * patch[0], max(width // patch[1], 1) * patch[1]
            raise PlanError(f"size {height}x{width} is not a multiple of the patch {patch[0]}x{patch[1]}: use {below[0]}x{below[1]}")


def _three(letters: str, value: Value, axes: dict[str, _Axis]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    def at(place: int) -> tuple[int, ...]:
        sides = zip(letters, value.shape, strict=True)
        return tuple(side if isinstance(side, int) else axes[letter].values[place] for letter, side in sides)

    return at(0), at(1), at(2)
