"""The engine: a model, a method, and one call from pictures and texts to results."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fastloc import images, sources
from fastloc.errors import FastlocError, RecipeError, unknown
from fastloc.geometry import Geometry, fit
from fastloc.preprocess import prepare
from fastloc.readout import needs_cls, similarity
from fastloc.recipes import Recipe, recipe
from fastloc.result import Result
from fastloc.templates import sentences
from fastloc.text import checked
from fastloc.vit import forward

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# GEM's input size; models of a larger native size keep theirs
USUAL_SIZE = 448
BATCH = 8


class Localizer:
    """Answers "where in this picture is that?" with one model and one method.

    Args:
        model, pretrained: see `fastloc.sources.load`; the default is the small CLIP that ships with fastloc.
        method: a row of `fastloc.recipes.RECIPES`.
        size: the model's input in pixels, multiples of the patch: one number or (height, width). By default the size recommended
            for the model, else 448 or its own if larger.
        fit: "stretch", "aspect", "crop" or "letterbox", see `fastloc.geometry.fit`; by default "stretch" to a given (height, width),
            else the one recommended for the model, else the recipe's.
        template: see `fastloc.templates`; by default the recipe's.
        device: where to run; by default the GPU if there is one.
        dtype: of the image tower, "float32", "bfloat16", "float16" or "float64".
        official: use the method's official parameters even where the model's own configuration recommends others.
        mean, std: of the pixels, per channel, in place of the model configuration's.
        batch: pictures that go through the image tower at once.
        changes: fields of the Recipe or its ReadOut, such as blocks=4 or inv_temp=20.0.

    Raises:
        ModelError, RecipeError, TextError, FastlocError: anything unknown, unreadable or contradictory, said in one line.
    """

    def __init__(
        self,
        model: str = "embedded",
        pretrained: str | None = None,
        method: str = "gem",
        *,
        size: int | tuple[int, int] | None = None,
        fit: str | None = None,
        template: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
        official: bool = False,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        batch: int = BATCH,
        **changes: Any,
    ) -> None:
        # a wrong method or field is told before a model is loaded
        recipe(method, **changes)
        self.device = _device(device)
        self.dtype = _dtype(dtype)
        self.source = sources.load(model, pretrained, mean, std)
        self.weights = self.source.weights.to(self.device, self.dtype)
        self.source.text.tower.to(self.device)
        self.size, self.batch = size, batch
        self._choose(method, official, fit, template, changes)

    def with_method(
        self, method: str, *, official: bool = False, fit: str | None = None, template: str | None = None, **changes: Any
    ) -> "Localizer":
        """The same model with another method; weights and remembered texts are shared."""
        other = copy.copy(self)
        other._choose(method, official, fit, template, changes)
        return other

    def _choose(self, method: str, official: bool, fit: str | None, template: str | None, changes: dict[str, Any]) -> None:
        recommended = {} if official else self.source.recommended.get("recipes", {}).get(method, {})
        self.recipe: Recipe = recipe(method, **{**recommended, **changes})
        if self.recipe.blocks > self.source.spec.layers:
            layers = self.source.spec.layers
            raise RecipeError(f"method {method!r} changes {self.recipe.blocks} blocks, and {self.source.name} has {layers}")
        # two given sides are meant to be met exactly
        usual = "stretch" if isinstance(self.size, tuple) else self.source.recommended.get("fit", self.recipe.fit)
        self.fit = fit or usual
        self.template = template or self.recipe.template
        self.input_size = _size(self.source) if self.size is None else self.size
        # a wrong template, size or fit is told now, not at the first picture
        sentences(self.template)
        self.geometry((100, 100))

    @overload
    def __call__(self, images: Sequence[Any], texts: str | Sequence[str]) -> list[Result]: ...
    @overload
    def __call__(self, images: Any, texts: str | Sequence[str]) -> Result: ...
    def __call__(self, images: Any, texts: str | Sequence[str]) -> Result | list[Result]:
        """Locate every text in every picture.

        Args:
            images: a path, a PIL picture, an array or tensor (see `fastloc.images.load`), or a list of these, of mixed sizes.
            texts: one prompt or several. Methods with feature surgery compare the texts with one another.

        Returns: one Result, or for a list one Result each, in order.

        Raises:
            ImageError: a picture cannot be read. TextError: no prompt, or one that is empty or not a string.
        """
        prompts = checked([texts] if isinstance(texts, str) else texts)
        if isinstance(images, (list, tuple)):
            return self._locate(images, prompts)
        return self._locate([images], prompts)[0]

    def _locate(self, pictures: Sequence[Any], prompts: list[str]) -> list[Result]:
        loaded = [images.load(picture) for picture in pictures]
        geometries = [self.geometry(picture.size[::-1]) for picture in loaded]
        results: dict[int, Result] = {}
        for chunk in _chunks(geometries, self.batch):
            pixels = torch.stack([self.pixels(loaded[i], geometries[i]) for i in chunk])
            grids, scores = self.similarity(pixels, prompts)
            for i, grid, score in zip(chunk, grids, [None] * len(chunk) if scores is None else scores, strict=True):
                name = str(pictures[i]) if isinstance(pictures[i], str) or hasattr(pictures[i], "__fspath__") else ""
                results[i] = self._result(loaded[i], geometries[i], prompts, grid, score, name)
        return [results[i] for i in range(len(loaded))]

    def geometry(self, picture: tuple[int, int]) -> Geometry:
        """Where a picture of (height, width) lies in the model's input."""
        return fit(picture, self.input_size, self.source.spec.patch, self.fit)

    def pixels(self, picture: Image.Image, geometry: Geometry) -> Tensor:
        """One normalised input [3, h, w], float32 on the CPU."""
        spec = self.source.spec
        return torch.from_numpy(prepare(picture, geometry, spec.mean, spec.std, spec.interpolation))

    @torch.inference_mode()
    def similarity(self, pixels: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Similarity grids [B, T, h, w] of normalised inputs [B, 3, H, W], in the engine's dtype on its device, and the
        image-level cosines [B, T] where the method reads the image embedding, else None."""
        text = self.source.text(texts, self.template).to(self.device, self.dtype)
        cls = needs_cls(self.recipe.readout, len(text))
        empty = None
        if self.recipe.readout.score == "feature-surgery" and len(text) == 1:
            empty = self.source.text.empty(self.template).to(self.device, self.dtype)
        out = forward(self.weights, pixels.to(self.device, self.dtype), self.recipe, cls=cls)
        grids = similarity(out, text, self.recipe.readout, empty)
        return grids, None if out.cls is None else F.normalize(out.cls, dim=-1) @ text.T

    def _result(
        self, picture: Image.Image, geometry: Geometry, prompts: list[str], grid: Tensor, score: Tensor | None, name: str
    ) -> Result:
        readout = self.recipe.readout
        return Result(
            picture=picture, texts=tuple(prompts), similarity=_array(grid), geometry=geometry, order=readout.order,
            logit_scale=readout.logit_scale, reverse=readout.reverse, method=self.recipe.name, model=self.source.name, name=name,
            scores=None if score is None else _array(score),
        )  # fmt: skip


def _array(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return tensor.float().cpu().numpy()


def _chunks(geometries: Sequence[Geometry], batch: int) -> Iterator[list[int]]:
    """Indices of pictures of one input size, at most `batch` at a time."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, geometry in enumerate(geometries):
        groups.setdefault(geometry.input, []).append(i)
    for group in groups.values():
        for start in range(0, len(group), batch):
            yield group[start : start + batch]


def _size(source: sources.Source) -> int | tuple[int, int]:
    if "size" in source.recommended:
        return int(source.recommended["size"])
    high, wide = (max(USUAL_SIZE, side) // step * step for side, step in zip(source.spec.image, source.spec.patch, strict=True))
    return high if high == wide else (high, wide)


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise FastlocError(f"unknown device {str(device)!r}: such as 'cpu', 'cuda' or 'cuda:1' is wanted") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise FastlocError(f"device {str(device)!r} is asked for, and torch sees no CUDA GPU; use 'cpu'")
    return chosen


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise FastlocError(unknown("dtype", dtype, DTYPES))
    return DTYPES[dtype]
