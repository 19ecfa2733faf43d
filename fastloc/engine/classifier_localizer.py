"""CAM and Grad-CAM of classifiers through the call of a Localizer: the texts are names of the classifier's classes."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fastloc.checkpoints.classifier_split import Split
from fastloc.checkpoints.classifiers import SIZE, Classifier, load, of_module
from fastloc.engine.devices import DeviceProcess, device_of, dtype_of
from fastloc.engine.plan import DTYPES
from fastloc.errors import RecipeError, unknown
from fastloc.functional.methods import cam
from fastloc.imaging.geometry import Geometry, fit
from fastloc.imaging.preprocess import prepare
from fastloc.results.base_localizer import BATCH, BaseLocalizer
from fastloc.results.prediction import Prediction
from fastloc.text.prompts import checked

METHODS = {"cam": "the head's weights on the last stage (Zhou et al., CVPR 2016)",
           "grad_cam": "the gradient's mean weights a layer (Selvaraju et al., ICCV 2017)",
           "grad_cam_plus_plus": "shares of positive gradients weight a layer (Chattopadhay et al., WACV 2018)",
           "layer_cam": "each cell's positive gradient weights it (Jiang et al., TIP 2021)"}  # fmt: skip
_OF_GRADIENTS = {"grad_cam": cam.grad_cam, "grad_cam_plus_plus": cam.grad_cam_plus_plus, "layer_cam": cam.layer_cam}


@dataclass(frozen=True)
class ClassNames:
    """Classes of one call: their names as given, and their indices."""

    names: tuple[str, ...]
    indices: list[int]


class CnnLocalizer(BaseLocalizer[ClassNames]):
    """Answers "where in this picture is that class?" with a classifier.

    The texts of a call are classes by name, in any case ("tabby cat"), or by index as digits ("281"); a text that names no class raises
    TextError. A result's similarity is the map on the layer's grid (CAM: of any sign; the others: not negative), read out by min-max on the
    picture; its scores are the classes' softmax probabilities among all classes.

    Args:
        model: "torchvision:resnet50", "timm:resnet18", or a module of your own from pixels [B, 3, H, W] to logits [B, C]: it is copied, the
            copy is put in eval mode, and nothing is hooked or changed in yours.
        weights: "random" for seeded random weights, good for timing only (None: the same, with a warning); a tag; a path to a state dict.
        method: "cam", for global average pooling and one linear layer, or "grad_cam", "grad_cam_plus_plus" or "layer_cam".
        layer: the submodule whose output is read, by name ("layer3"); by default the output of the last convolution's stage.
        size: the input in pixels, one number or (height, width), of any size that the classifier takes; by default its training size.
        fit: how a picture is fitted to that size, see `fastloc.imaging.geometry.fit`.
        device, dtype: as for `fastloc.Localizer`; float32 by default.
        categories: names of a module's classes, in order; without them texts are indices.
        mean, std: of the pixels, per channel, in place of the classifier's own; ImageNet's for a module.
        batch: the number of pictures in one forward pass.

    Raises:
        ModelError, RecipeError, FastlocError: anything unknown, unreadable, or without the head that CAM needs, said in one line.
    """

    def __init__(
        self,
        model: str | nn.Module,
        weights: str | Path | None = None,
        method: str = "grad_cam",
        layer: str | None = None,
        *,
        size: int | tuple[int, int] | None = None,
        fit: str = "stretch",
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
        categories: Sequence[str] = (),
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        batch: int = BATCH,
    ) -> None:
        self._describe(locals())
        if method not in METHODS:
            raise RecipeError(unknown("classifier method", method, METHODS))
        self.method, self.fit, self.batch = method, fit, batch
        self.device, self.dtype = device_of(device), DTYPES[dtype_of(dtype)]
        self._process = DeviceProcess(self.device)
        self.classifier = _classifier(model, weights, categories, mean, std)
        self.mean, self.std = mean or self.classifier.mean, std or self.classifier.std
        self.input_size = self.classifier.size if size is None else size
        # raises for a wrong size or fit now, not at the first picture
        example = _example(self.geometry((100, 100)).input)
        self.split = Split(self.classifier.module, layer, example)
        self.weight = self.split.head(example).to(self.device, self.dtype) if method == "cam" else None
        self.split.to(self.device, self.dtype)

    @property
    def logit_scale(self) -> None:
        """None: a classifier compares nothing with texts, so there is no scale. Functions that need one refuse a classifier."""

    def maps(self, pixels: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Maps [B, T, h, w] and logits [B, C] of normalised pixels [B, 3, H, W], on this localizer's device.

        Raises FastlocError for an index that is no class, PlanError in a forked process on a GPU.
        """
        self._process.check()
        pixels = pixels.to(self.device, self.dtype)
        if self.weight is not None:
            cut = self.split(pixels)
            return cam.cam(cut.features, self.weight, classes), cut.outputs
        cut = self.split(pixels, grad=True)
        with torch.inference_mode(False):
            return _OF_GRADIENTS[self.method](cut.features, cut.outputs, classes), cut.outputs.detach()

    def geometry(self, picture: tuple[int, int]) -> Geometry:
        """The geometry of a picture of (height, width) in the model's input."""
        return fit(picture, self.input_size, 1, self.fit)

    def pixels(self, picture: Image.Image, geometry: Geometry) -> Tensor:
        """One normalised input [3, h, w], float32 on the CPU."""
        return torch.from_numpy(prepare(picture, geometry, self.mean, self.std, self.classifier.interpolation))

    def _description(self) -> dict[str, Any]:
        if not isinstance(self._arguments["model"], nn.Module):
            return super()._description()
        # the copy in use: the caller may have trained the original further
        return {**self._arguments, "model": copy.deepcopy(self.split.module).cpu()}

    def _texts(self, texts: str | Sequence[str] | None) -> ClassNames:
        names = checked(() if texts is None else texts)
        return ClassNames(tuple(names), self.classifier.indices(names, self.split.classes))

    def _geometry(self, picture: tuple[int, int], name: str) -> Geometry:
        return self.geometry(picture)

    def _predict(self, images: list[Image.Image], geometries: list[Geometry], texts: ClassNames) -> list[Prediction]:
        pixels = torch.stack([self.pixels(picture, geometry) for picture, geometry in zip(images, geometries, strict=True)])
        maps, logits = self.maps(pixels, texts.indices)
        shares = torch.softmax(logits, -1)[:, texts.indices]
        grids, scores = (each.float().cpu().numpy() for each in (maps, shares))
        return [
            Prediction(
                texts=texts.names, similarity=grids[i], geometry=geometry, order="picture", method=self.method,
                model=self.classifier.name, scores=scores[i],
            )
            for i, geometry in enumerate(geometries)
        ]  # fmt: skip


def _classifier(
    model: str | nn.Module, weights: str | Path | None, names: Sequence[str], mean: tuple[float, ...], std: tuple[float, ...]
) -> Classifier:
    if isinstance(model, nn.Module):
        return of_module(model, names, mean, std, (SIZE, SIZE), None if weights is None else Path(weights))
    return load(model, weights)


def _example(size: tuple[int, int]) -> Tensor:
    """An input of noise, in which no two positions are alike."""
    values = np.random.default_rng(0).standard_normal((1, 3, *size), np.float32)
    return torch.from_numpy(values)
