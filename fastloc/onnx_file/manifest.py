"""The manifest in an exported file's metadata: the runtime configures itself from it, and you give no setting twice.

One JSON object under the key `fastloc` of an ONNX file's metadata: model and method, inputs, outputs, and the golden by
which you can check a file that you receive.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, ModelError
from fastloc.imaging.geometry import BOUNDED, FITS, SHORT_SIDE, Geometry, both_sides, fit
from fastloc.imaging.preprocess import INTERPOLATIONS
from fastloc.onnx_file import limits
from fastloc.onnx_file.formats import DTYPES, INPUTS, OUTPUTS, SPELLINGS, TOWERS
from fastloc.onnx_file.golden import Golden, unit_texts
from fastloc.recipes import ReadOut, Recipe
from fastloc.recipes.presence import UNCALIBRATED, Calibration
from fastloc.recipes.readout import LOGIT_SCALE
from fastloc.recipes.validation import frozen
from fastloc.utils import versioned_json
from fastloc.utils.schema import count, number, one_line, one_of, shown

__all__ = ["FORMAT", "KEY", "Input", "Manifest", "Model", "Texts"]

KEY = "fastloc"
# raised when a reader of an older version would misread a file
FORMAT = 1

Pair = tuple[int, int]


@dataclass(frozen=True)
class Model:
    """The encoder: names for the record, digests that bind files to one another, and what preprocessing needs."""

    name: str
    weights: str  # sha256 of the image tower
    text: str  # sha256 of the text tower: embeddings that another tower made are refused
    patch: Pair
    embed: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    licence: str = ""
    logit_scale: float = LOGIT_SCALE  # the factor of cosines before a softmax over texts, as the model was trained
    logit_bias: float | None = None  # the term that is added to the product before a sigmoid, for models that were trained so
    tower: str = "vit"  # the kind of image tower, a row of `fastloc.onnx_file.formats.TOWERS`

    def __post_init__(self) -> None:
        for name in ("name", "weights", "text"):
            one_line(name, getattr(self, name))
        for side in self.patch:
            count("patch", side, limits.PATCH)
        count("embed", self.embed, limits.EMBED)
        for mean, std in zip(self.mean, self.std, strict=True):
            number("mean", mean, -1e6, 1e6)
            number("std", std, 1e-6, 1e6)
        one_of("interpolation", self.interpolation, INTERPOLATIONS)
        number("logit_scale", self.logit_scale, 1e-6, 1e6)
        if self.logit_bias is not None:
            number("logit_bias", self.logit_bias, -1e6, 1e6)
        one_of("tower", self.tower, TOWERS)


@dataclass(frozen=True)
class Input:
    """The picture input of the file. Sizes are (height, width).

    Attributes:
        kind: "pixels": normalised float32 [B, 3, H, W]; "bytes": float32 0 … 255 of the same layout; "frames": uint8 of the camera's size
        layout: "NCHW" or "NHWC"
        bgr: True where channels come blue, green, red
        size: the encoder's input, or None where any multiple of the patch will do
        frame: the camera's frame, for "frames"
        fit: the fit that brings a picture to the size, see `fastloc.imaging.geometry.fit`
        batch: pictures a call, or None for any number
    """

    kind: str
    layout: str
    bgr: bool
    size: Pair | None
    frame: Pair | None
    fit: str
    batch: int | None
    # the usual size of a file that takes any: the runtime resizes to it where you give no size; for a fit of `BOUNDED` its bound
    usual: int | Pair
    # the default fit of a localizer of the model; "" in files that do not say
    model_fit: str = ""

    def __post_init__(self) -> None:
        one_of("kind of input", self.kind, INPUTS)
        one_of("layout", self.layout, ("NCHW", "NHWC"))
        one_of("fit", self.fit, FITS)
        if self.model_fit:
            one_of("fit of the model", self.model_fit, FITS)
        if self.batch is not None:
            count("batch", self.batch, limits.BATCH)
        for name, size in (("size", self.size), ("frame", self.frame), ("usual", both_sides(self.usual))):
            for side in size or ():
                count(name, side, limits.SIDE)
            count(f"pixels of batch and {name}", math.prod(size or ()) * (self.batch or 1), limits.PIXELS)
        if self.kind == "frames" and self.frame is None:
            raise FastlocError("frame must be the camera's size, (height, width), got None")

    @property
    def name(self) -> str:
        """The name of the input in the graph."""
        return "frames" if self.kind == "frames" else "pixels"

    def laid_out(self, pictures: NDArray[np.uint8], model: Model) -> NDArray[Any]:
        """Pictures of the right size, uint8 [B, H, W, 3], RGB, as this input takes them."""
        ordered: NDArray[Any] = pictures[..., ::-1] if self.bgr else pictures
        if self.kind == "pixels":
            # by channel, in whatever order these come
            order = slice(None, None, -1 if self.bgr else 1)
            mean, std = (np.array(each, np.float32)[order] for each in (model.mean, model.std))
            ordered = (ordered.astype(np.float32) / np.float32(255) - mean) / std
        elif self.kind == "bytes":
            ordered = ordered.astype(np.float32)
        return np.ascontiguousarray(ordered if self.layout == "NHWC" else ordered.transpose(0, 3, 1, 2))

    def geometry(self, picture: Pair, patch: Pair, size: int | Pair | None = None) -> Geometry:
        """The geometry of a picture of (height, width) in the encoder's input; `size` in place of the usual one."""
        # of a picture that was left as it is, the file's size does not determine the largest short side
        requested = (None if self.fit in BOUNDED else self.size) or size or self.usual
        if self.fit in SHORT_SIDE and isinstance(requested, tuple):
            # of a size that such a fit made, the short side is the requested one
            requested = min(requested)
        return fit(picture, requested, patch, self.fit)


@dataclass(frozen=True)
class Texts:
    """The vocabulary: an input `text_embeddings` float32 [T, E] (count None for any number), or baked in with these names."""

    count: int | None
    names: tuple[str, ...] = ()
    template: str = ""

    def __post_init__(self) -> None:
        one_line("template", self.template)
        if self.count is not None:
            count("count of texts", self.count, limits.TEXTS)
        count("number of baked texts", len(self.names), limits.TEXTS, 0)
        if self.baked and self.count not in (None, len(self.names)):
            raise FastlocError(f"count of texts must be that of the baked ones, {len(self.names)}, got {self.count}")

    @property
    def baked(self) -> bool:
        return bool(self.names)


@dataclass(frozen=True)
class Manifest:
    """The manifest of an exported file.

    outputs: of "similarity" [B,T,h,w] float32, "scores" [B,T] float32 (image-level cosines), "background" [B,1] float32 (that of the
        background, see `fastloc.recipes.presence`), "heatmaps" [B,T,H,W] float32 within [0, 1],
        "labels" [B,H,W] uint8 (255 where a crop hid the frame).
    dtype: "float32", "float16", "int8-dynamic" or "int8-static". spelling: the form of attention, see `fastloc.onnx_file.formats`.
    """

    version: str
    model: Model
    recipe: Recipe
    input: Input
    texts: Texts
    outputs: tuple[str, ...]
    dtype: str
    spelling: str
    opset: int
    golden: Golden | None = None
    calibration: Calibration = UNCALIBRATED
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        one_line("version", self.version)
        one_line("name of the recipe", self.recipe.name)
        for output in self.outputs:
            one_of("output", output, OUTPUTS)
        if not self.outputs or len(set(self.outputs)) < len(self.outputs):
            raise FastlocError(f"outputs must be named once each, at least one, got {shown(self.outputs)}")
        one_of("dtype", self.dtype, DTYPES)
        one_of("spelling", self.spelling, SPELLINGS)
        count("opset", self.opset, 1000)
        for texts in filter(None, (self.texts.count, len(self.texts.names), self.golden.texts if self.golden else None)):
            count("numbers of all text embeddings", texts * self.model.embed, limits.NUMBERS)
        if self.golden is not None and not set(self.golden.outputs) <= set(self.outputs):
            raise FastlocError(f"outputs of the golden must be among {', '.join(self.outputs)}, got {shown(tuple(self.golden.outputs))}")

    def golden_inputs(self) -> dict[str, NDArray[Any]]:
        """The inputs that give the golden's outputs, by name.

        Raises:
            ModelError: the file has no golden.
        """
        if self.golden is None:
            raise ModelError("the file has no golden: export it again with this version of fastloc")
        fed: dict[str, NDArray[Any]] = {self.input.name: self.input.laid_out(self.golden.pictures(), self.model)}
        if not self.texts.baked:
            fed["text_embeddings"] = unit_texts(self.golden.seed, self.golden.texts, self.model.embed)
        return fed

    def dumps(self) -> str:
        """The manifest as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def loads(cls, text: str, name: str = "the file") -> Manifest:
        """Read a manifest that `dumps` wrote, from any source.

        Raises:
            ModelError: not such JSON, of a newer version of fastloc, or with a field that is out of its range. `name` is what the message
                calls the file.
        """
        return versioned_json.read(text, KEY, FORMAT, name, cls)

    @classmethod
    def of(cls, pairs: Mapping[str, str], name: str, shipped: bool = False) -> Manifest:
        """The manifest in an ONNX file's metadata. Raises ModelError for a file that fastloc did not export, and as `loads` does.

        shipped: it came with fastloc and is read without the schema, which needs msgspec.
        """
        if KEY not in pairs:
            raise ModelError(f"{name} was not exported by fastloc: it has no {KEY!r} metadata; `fastloc export` writes files that do")
        return _manifest(json.loads(pairs[KEY])) if shipped else cls.loads(pairs[KEY], name)


def _manifest(content: dict[str, Any]) -> Manifest:
    known = {each.name for each in fields(Manifest)}
    plain = {key: value for key, value in content.items() if key in known}
    recipe = dict(content["recipe"])
    recipe["readout"] = ReadOut(**recipe["readout"])
    return Manifest(**{
        **plain,
        "model": Model(**_tuples(content["model"])),
        "recipe": Recipe(**_tuples(recipe)),
        "input": Input(**_tuples(content["input"])),
        "texts": Texts(**_tuples(content["texts"])),
        "outputs": tuple(content["outputs"]),
        "calibration": Calibration(**content["calibration"]) if "calibration" in content else UNCALIBRATED,
        "golden": None if content.get("golden") is None else Golden.of(content["golden"]),
    })  # fmt: skip


def _tuples(content: dict[str, Any]) -> dict[str, Any]:
    """The fields of a JSON object with lists as tuples."""
    return {key: frozen(value) for key, value in content.items()}
