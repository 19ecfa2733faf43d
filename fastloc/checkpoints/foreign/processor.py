"""The pixel steps of transformers' image processors (preprocessor_config.json or processor_config.json), checked against the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastloc.checkpoints.foreign.transformers_config import Class
from fastloc.errors import FastlocError, ModelError
from fastloc.imaging.geometry import both_sides
from fastloc.utils.schema import convert, number, shown

__all__ = ["FILES", "preprocess_config"]

# the second file is transformers 5's, for all processors of a model
FILES = ("preprocessor_config.json", "processor_config.json")
# PIL's numbers of the interpolations that fastloc has too
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_COLOURS = 3
# the usual factor of bytes
_RESCALE = 1 / 255


@dataclass
class _Processor:
    size: Any = None
    crop_size: Any = None
    do_center_crop: bool | None = None
    do_resize: bool | None = None
    do_rescale: bool | None = None
    do_normalize: bool | None = None
    resample: int | None = None
    rescale_factor: float | None = None
    image_mean: list[float] | float | None = None
    image_std: list[float] | float | None = None
    patch_size: int | tuple[int, int] | dict[str, int] | None = None
    max_num_patches: int | None = None

    def __post_init__(self) -> None:
        for name in ("image_mean", "image_std"):
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != _COLOURS:
                raise FastlocError(f"{name} must be {_COLOURS} numbers, one for each channel, got {len(value)}")
            for each in value if isinstance(value, list) else [] if value is None else [value]:
                number(name, each, *((-1e6, 1e6) if name == "image_mean" else (1e-6, 1e6)))
        if self.resample is not None and self.resample not in _RESAMPLE:
            known = ", ".join(f"{number} ({name})" for number, name in _RESAMPLE.items())
            raise FastlocError(f"resample must be among {known}, got {shown(self.resample)}")
        if self.rescale_factor is not None:
            number("rescale_factor", self.rescale_factor, 1e-6, 1e6)


def preprocess_config(content: Mapping[str, Any], found: Class, vit: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The preprocess_cfg of open_clip's form: mean and std of pixels in [0, 1], and the interpolation.

    Args:
        content: of the file; empty if there is none, and then the class's defaults hold.
        found: the model's class. vit: the fields of its tower. path: the file, for errors.

    Raises:
        ModelError: a damaged field, or one that contradicts the model.
    """
    damaged = f"processor {path!r} is damaged"
    given = content.get("image_processor", content)
    if not isinstance(given, dict):
        raise ModelError(f"{damaged} (image_processor must be an object, got {type(given).__name__})")
    fields = convert(given, _Processor, damaged)
    _check_size(fields, vit, path)
    mean, std = _three(fields.image_mean, found.mean), _three(fields.image_std, found.std)
    # transformers multiplies bytes from 0 to 255 by the factor, fastloc by 1 / 255
    factor = 1.0 if fields.do_rescale is False else fields.rescale_factor or _RESCALE
    ratio = 1.0 if abs(factor * 255 - 1) < 1e-6 else factor * 255
    if fields.do_normalize is False:
        mean, std = (0.0,) * _COLOURS, (1.0,) * _COLOURS
    interpolation = found.interpolation if fields.resample is None else _RESAMPLE[fields.resample]
    return {"mean": [each / ratio for each in mean], "std": [each / ratio for each in std], "interpolation": interpolation}


def _three(value: list[float] | float | None, default: tuple[float, ...]) -> tuple[float, ...]:
    if value is None:
        return default
    return tuple(value) if isinstance(value, list) else (value,) * _COLOURS


def _check_size(fields: _Processor, vit: Mapping[str, Any], path: str) -> None:
    """Raise ModelError for a processor that makes pictures or patches of another size than the model's."""
    image, patch = both_sides(vit["image"]), both_sides(vit["patch"])
    if fields.patch_size is not None:
        own = fields.patch_size
        sides = (own.get("height"), own.get("width")) if isinstance(own, dict) else both_sides(own)
        if sides != patch:
            raise ModelError(
                f"{path!r}: patch_size must be the model's, {_text(patch)}, got {_text(sides)}; it is another model's processor"
            )
    # a crop is the last step, and without one a resize to the shorter side has no size of its own
    made = fields.crop_size if fields.crop_size is not None and fields.do_center_crop is not False else fields.size
    name = "size" if made is fields.size else "crop_size"
    if made is None or (fields.do_resize is False and name == "size"):
        return
    sides = _sides(made, name, path)
    if sides != image:
        grid = f", no multiple of its patch, {_text(patch)}" if sides[0] % patch[0] or sides[1] % patch[1] else ""
        raise ModelError(
            f"{path!r}: {name} must be the model's image_size, {_text(image)}, got {_text(sides)}{grid}; it is another model's processor"
        )


def _sides(size: Any, name: str, path: str) -> tuple[int, int]:
    found = (size.get("height"), size.get("width")) if isinstance(size, dict) and "height" in size else None
    if found is None:
        side = size.get("shortest_edge") if isinstance(size, dict) else size
        found = (side, side)
    if any(type(side) is not int or side < 1 for side in found):
        raise ModelError(f"processor {path!r} is damaged ({name} must be height and width, or shortest_edge, got {shown(size)})")
    return found  # type: ignore[return-value]  # each is an int, by the line before


def _text(sides: Any) -> str:
    return f"{sides[0]}x{sides[1]}"
