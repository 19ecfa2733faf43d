"""The ranges of sizes that a compiled engine is made for, where a file leaves them open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from fastloc.errors import PlanError, unknown
from fastloc.onnx_file.manifest import Manifest

__all__ = ["Profiles", "inputs_of", "ranges", "shapes"]

# by dimension, (least, usual, most): numbers for "batch" and "texts", numbers or (height, width) for "size"
Profiles = Mapping[str, Sequence[Any]]
# a number, or the name of what is open: "batch", "height", "width" or "texts"
Dimension = int | str
_NAMES = ("batch", "size", "texts")
# where the caller says nothing; the usual one is what the engine is tuned for, so batch 1: a camera's
_BATCH, _TEXTS = (1, 1, 8), (1, 8, 64)


def inputs_of(manifest: Manifest) -> dict[str, tuple[str, tuple[Dimension, ...]]]:
    """The file's inputs by name: dtype and shape."""
    given, texts = manifest.input, manifest.texts
    height, width = (given.frame if given.kind == "frames" else given.size) or ("height", "width")
    name, dtype = ("frames", "uint8") if given.kind == "frames" else ("pixels", "float32")
    batch = given.batch or "batch"
    shape: tuple[Dimension, ...] = (batch, height, width, 3) if given.layout == "NHWC" else (batch, 3, height, width)
    inputs = {name: (dtype, shape)}
    if not texts.baked:
        inputs["text_embeddings"] = ("float32", (texts.count or "texts", manifest.model.embed))
    return inputs


def ranges(manifest: Manifest, given: Profiles) -> dict[str, tuple[Any, Any, Any]]:
    """(least, usual, most) of every dimension that the file leaves open; sizes as (height, width).

    Raises:
        PlanError: a dimension that is unknown or fixed in the file, or numbers that do not rise or are not multiples of the patch.
    """
    free = _free(manifest)
    for name, values in given.items():
        if name not in _NAMES:
            raise PlanError(unknown("profile", name, _NAMES))
        if name not in free:
            raise PlanError(f"profile {name!r} must be left out, because {name} is fixed in the file")
        if not isinstance(values, (tuple, list)) or len(values) != 3:
            raise PlanError(f"profile {name!r} must be three values, the least, the usual and the most, got {values!r}")
    found = {name: tuple(given.get(name, usual)) for name, usual in free.items()}
    if "size" in found:
        found["size"] = tuple(_both(each) for each in found["size"])
    for name, values in found.items():
        _check(name, values, manifest)
    return {name: (least, usual, most) for name, (least, usual, most) in found.items()}


def shapes(prefix: str, manifest: Manifest, given: Profiles) -> dict[str, str]:
    """The options `{prefix}_min_shapes`, `_opt_shapes` and `_max_shapes` over every input; none where the file leaves nothing open."""
    open_ranges = ranges(manifest, given)
    if not open_ranges:
        return {}
    return {f"{prefix}_{word}_shapes": _written(manifest, open_ranges, k) for k, word in enumerate(("min", "opt", "max"))}


def _free(manifest: Manifest) -> dict[str, tuple[Any, Any, Any]]:
    """The dimensions that the file leaves open, with their default ranges."""
    free: dict[str, tuple[Any, Any, Any]] = {}
    if manifest.input.batch is None:
        free["batch"] = _BATCH
    if manifest.input.size is None:
        usual, patch = _both(manifest.input.usual), manifest.model.patch
        half = tuple(max(side // 2 // step, 1) * step for side, step in zip(usual, patch, strict=True))
        free["size"] = (half, usual, tuple(2 * side for side in usual))
    if not manifest.texts.baked and manifest.texts.count is None:
        free["texts"] = _TEXTS
    return free


def _check(name: str, values: tuple[Any, ...], manifest: Manifest) -> None:
    flat = [each if isinstance(each, tuple) else (each,) for each in values]
    if not all(isinstance(n, int) and n > 0 for each in flat for n in each):
        raise PlanError(f"profile {name!r} must be positive whole numbers, got {values!r}")
    if not all(a <= b for first, second in pairwise(flat) for a, b in zip(first, second, strict=True)):
        raise PlanError(f"profile {name!r} must not fall from the least to the usual to the most, got {values!r}")
    if name == "size" and any(side % step for each in flat for side, step in zip(each, manifest.model.patch, strict=True)):
        raise PlanError(f"profile 'size' must be multiples of the patch {manifest.model.patch}, got {values!r}")


def _written(manifest: Manifest, open_ranges: Mapping[str, tuple[Any, Any, Any]], k: int) -> str:
    chosen = {name: values[k] for name, values in open_ranges.items()}
    if "size" in chosen:
        chosen["height"], chosen["width"] = chosen["size"]
    inputs = inputs_of(manifest).items()
    return ",".join(f"{name}:" + "x".join(str(chosen.get(str(side), side)) for side in shape) for name, (_, shape) in inputs)


def _both(size: Any) -> tuple[Any, Any]:
    return (size, size) if not isinstance(size, (tuple, list)) else (size[0], size[1])
