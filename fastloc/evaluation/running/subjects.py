"""The models of a run behind the interface of judges: a localizer of PyTorch, or an exported file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fastloc.checkpoints.digests import digest
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError
from fastloc.evaluation.judges import Subject
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.imaging.geometry import Geometry, both_sides, size_text
from fastloc.imaging.preprocess import prepare
from fastloc.onnx_file.manifest import Manifest
from fastloc.recipes.readout import ReadOut
from fastloc.runtime.inputs import geometry_of
from fastloc.runtime.localizer import OnnxLocalizer
from fastloc.runtime.text_sources import EncodedTexts, Selection

__all__ = ["EngineSubject", "FileSubject", "check_size", "subject_of", "with_template"]

# the target of recipes whose grids are shares
_SHARES = "softmax"
# ways to resize after which every picture has the same size
_ONE_SIZE = ("square", "centre")


class EngineSubject:
    """A localizer of PyTorch. Its texts are encoded at their first use and cached."""

    patch: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None

    def __init__(self, localizer: Localizer) -> None:
        spec = localizer.source.spec
        self.localizer = localizer
        self.method, self.model, self.digest = localizer.method, localizer.source.name, digest(localizer.source.weights)
        self.patch, self.mean, self.std, self.device = spec.patch, spec.mean, spec.std, localizer.device
        self.logit_scale = localizer.recipe.readout.scale or localizer.logit_scale
        self.dtype = str(localizer.weights.dtype).removeprefix("torch.")
        self.order, self.shares = _order(localizer.recipe.readout), localizer.recipe.target == _SHARES

    def similarity(self, pixels: Tensor, texts: Sequence[str], words: Sequence[str] = ()) -> Tensor:
        """See `fastloc.evaluation.judges.Subject`. Methods with inverted maps have them reversed."""
        grids, _ = self.localizer.similarity(pixels, texts, words=words)
        return -grids if self.localizer.recipe.readout.reverse else grids

    def geometry(self, picture: tuple[int, int]) -> Geometry:
        """See `fastloc.evaluation.judges.Subject`."""
        return self.localizer.geometry(picture)

    def pixels(self, picture: Image.Image, geometry: Geometry) -> Tensor:
        """See `fastloc.evaluation.judges.Subject`."""
        return self.localizer.pixels(picture, geometry)

    def embeddings(self, texts: Sequence[str]) -> NDArray[Any]:
        """See `fastloc.evaluation.judges.Subject`."""
        return self.localizer.embeddings(texts).vectors


class FileSubject:
    """An exported file, in onnxruntime. Raises FastlocError for one that takes a camera's frames."""

    patch: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None
    device = torch.device("cpu")

    def __init__(self, localizer: OnnxLocalizer) -> None:
        manifest = localizer.manifest
        if manifest.input.kind == "frames":
            raise FastlocError(f"{localizer.path} must take pixels or bytes, got frames of a camera; export it with `--input pixels`")
        if "similarity" not in manifest.outputs:
            raise FastlocError(f"{localizer.path} must have the output similarity, got {', '.join(manifest.outputs)}; export it again")
        self.localizer, self.manifest = localizer, manifest
        self.method, self.model, self.digest = localizer.method, manifest.model.name, f"sha256:{localizer.session.header.digest()}"
        self.patch, self.mean, self.std, self.size = manifest.model.patch, manifest.model.mean, manifest.model.std, manifest.input.size
        self.logit_scale = manifest.recipe.readout.scale or localizer.logit_scale
        self.dtype = manifest.dtype
        self.order, self.shares = _order(manifest.recipe.readout), manifest.recipe.target == _SHARES
        self._chosen: tuple[tuple[str, ...], Selection] | None = None

    def similarity(self, pixels: Tensor, texts: Sequence[str], words: Sequence[str] = ()) -> Tensor:
        """See `fastloc.evaluation.judges.Subject`; batches are cut to those that the file takes. A file has a background of its own."""
        if self._chosen is None or self._chosen[0] != tuple(texts):
            self._chosen = tuple(texts), self.localizer.encode_texts(texts)
        array, vectors = _laid_out(self.manifest, pixels), self._chosen[1].vectors
        most = self.manifest.input.batch or len(array)
        parts = [self.localizer.similarity(array[start : start + most], vectors) for start in range(0, len(array), most)]
        grids = torch.from_numpy(np.concatenate(parts)).float()
        return -grids if self.manifest.recipe.readout.reverse else grids

    def geometry(self, picture: tuple[int, int]) -> Geometry:
        """See `fastloc.evaluation.judges.Subject`. Raises ImageError for a picture that the fit does not bring to the file's size."""
        return geometry_of(self.manifest, picture, self.localizer.size, str(self.localizer.path))

    def pixels(self, picture: Image.Image, geometry: Geometry) -> Tensor:
        """See `fastloc.evaluation.judges.Subject`."""
        model = self.manifest.model
        return torch.from_numpy(prepare(picture, geometry, model.mean, model.std, model.interpolation))

    def embeddings(self, texts: Sequence[str]) -> NDArray[Any]:
        """See `fastloc.evaluation.judges.Subject`. Raises FastlocError for a file whose texts are baked in."""
        vectors = self.localizer.encode_texts(texts).vectors
        if vectors is None:
            raise FastlocError(f"{self.localizer.path} must take embeddings for refinement=propagate, got baked texts; export it without")
        return vectors


def subject_of(localizer: Localizer | OnnxLocalizer) -> EngineSubject | FileSubject:
    """The subject of a localizer. Raises FastlocError for a file that gives no similarities of pixels."""
    return EngineSubject(localizer) if isinstance(localizer, Localizer) else FileSubject(localizer)


def with_template(localizer: OnnxLocalizer, template: str) -> OnnxLocalizer:
    """The file with texts in another template where it has a text tower; embeddings and baked texts stay unchanged."""
    if template and isinstance(localizer.text_source, EncodedTexts):
        localizer.text_source = replace(localizer.text_source, template=template)
    return localizer


def check_size(subject: Subject, protocol: Protocol, name: str) -> None:
    """Raise FastlocError for a file of one input size that is not that of the protocol's windows, or of its pictures."""
    side = protocol.crop or (protocol.short_side if protocol.resize in _ONE_SIZE else 0)
    if subject.size is None or protocol.resize == "fit" or (side and subject.size == both_sides(side)):
        return
    rule = f"inputs of {size_text(both_sides(side))}" if side else "whole pictures of any size"
    raise FastlocError(
        f"{name} must take the {rule} of the protocol {protocol.paper} on {protocol.data}, got {size_text(subject.size)}; "
        f"`fastloc export --size {side or 'dynamic'} --batch dynamic` writes such a file"
    )


def _order(readout: ReadOut) -> str:
    """The order of one text's map: where texts would compete, each is read by itself, as a localizer reads a single text."""
    return "grid" if readout.order == "grid" else "picture"


def _laid_out(manifest: Manifest, pixels: Tensor) -> np.ndarray:
    """Normalised pixels [B, 3, H, W] as the file takes them."""
    given, model = manifest.input, manifest.model
    array = pixels.detach().cpu().numpy().astype(np.float32, copy=False)
    if given.kind == "bytes":
        mean, std = (np.asarray(each, np.float32).reshape(3, 1, 1) for each in (model.mean, model.std))
        array = (array * std + mean) * np.float32(255)
    array = array[:, ::-1] if given.bgr else array
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1) if given.layout == "NHWC" else array)
