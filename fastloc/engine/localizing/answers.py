"""Answers of one model and one method: from pixels and texts to similarities, heatmaps, labels and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastloc.checkpoints import loading
from fastloc.checkpoints.families.kinds import AnyWeights
from fastloc.engine import cost, device_heatmaps
from fastloc.engine.devices import DeviceProcess
from fastloc.engine.examples import Examples, encoded
from fastloc.engine.plan import Plan
from fastloc.engine.projected_towers import ProjectedTowers
from fastloc.engine.self_check.second_plan import SecondPlan
from fastloc.engine.tower_kinds import AnyEngine, AnyTower
from fastloc.errors import ImageError
from fastloc.functional.frames.formats import check_values, shared
from fastloc.imaging.example import Example
from fastloc.imaging.geometry import VARYING, Geometry, both_sides, fit, size_text
from fastloc.imaging.images import load
from fastloc.imaging.preprocess import prepare
from fastloc.recipes import Recipe
from fastloc.recipes.presence import Calibration, presence
from fastloc.results.base_localizer import BaseLocalizer
from fastloc.results.prediction import Prediction
from fastloc.text.embeddings import TextEmbeddings
from fastloc.text.prompts import checked
from fastloc.utils.distinct import Distinct, distinct_rows
from fastloc.utils.openmp import release_idle_threads

__all__ = ["Answers"]

Floats = np.ndarray[Any, np.dtype[np.float32]]


class Answers(BaseLocalizer[list[str]]):
    """The part of `fastloc.engine.localizer.Localizer` that answers, once its constructor has chosen a model, a method and sizes."""

    device: torch.device
    source: loading.Source
    projected: ProjectedTowers
    tower: AnyTower
    engine: AnyEngine
    recipe: Recipe
    template: str
    # the rule by which pictures become inputs, and the size that it makes
    fit: str
    input_size: int | tuple[int, int]
    _examples: Examples
    _process: DeviceProcess
    _second: SecondPlan | None

    @property
    def logit_scale(self) -> float:
        """The factor of cosines with texts before a softmax over texts, as the model was trained."""
        return self.source.logit_scale

    @property
    def calibration(self) -> Calibration:
        """The calibration of the scores, see `fastloc.recipes.presence`: the model's own where its configuration has one."""
        return self.projected.calibration(self.source)

    @property
    def logit_bias(self) -> float | None:
        """The bias that a model trained with a sigmoid adds to scaled cosines; None for others, and behind trained projections."""
        return self.source.logit_bias if self.source is self.projected.plain else None

    @property
    def weights(self) -> AnyWeights:
        """The image tower on its device."""
        return self.tower.weights

    @property
    def plan(self) -> Plan:
        """The plan of one picture at the default input size; `print(localizer.plan.explain())` prints the reasons.

        Other batches and sizes have plans of their own: `localizer.engine.plan(8, (448, 448))`.
        """
        return self.engine.plan(1, self._plain_input())

    def _plain_input(self) -> tuple[int, int]:
        return both_sides(self.input_size)

    def geometry(self, picture: tuple[int, int]) -> Geometry:
        """The geometry of a picture of (height, width) in the model's input."""
        found = self._fitted(picture)
        if self.fit in VARYING:
            # other fits have inputs of one size, which was announced already
            cost.announce(self.source.spec, found.input)
        return found

    def _fitted(self, picture: tuple[int, int]) -> Geometry:
        return fit(picture, self.input_size, self.source.spec.patch, self.fit)

    def pixels(self, picture: Image.Image, geometry: Geometry) -> Tensor:
        """One normalised input [3, h, w], float32 on the CPU."""
        spec = self.source.spec
        return torch.from_numpy(prepare(picture, geometry, spec.mean, spec.std, spec.interpolation))

    def similarity(
        self, pixels: Any, texts: Sequence[str], *, geometry: Geometry | None = None, bgr: bool = False, words: Sequence[str] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """Similarity grids [B, T, h, w], float32 at least, on the engine's device, and the image-level cosines [B, T].

        The cosines are None unless the method reads the image embedding. The call does not wait: on a GPU both are still being computed.

        Args:
            pixels: normalised inputs [B, 3, H, W], or camera frames, uint8 [B, H, W, 3], on any device: a tensor, or anything with
                `__dlpack__` (cupy, jax, numpy, a decoder's surface), which is read where it lies. On the engine's device nothing is copied.
            geometry: where frames lie in the input; by default as this localizer's `fit` says.
            bgr: True if frames are blue, green, red, as OpenCV's are.
            words: texts for the background, in place of the empty text; only CLIPer's maps read them.

        Raises:
            ImageError: pixels that are neither inputs nor frames; inputs in the host's memory that are not finite.
            ModelError: a size that the patch does not divide. PlanError: a forked process, on a GPU.
        """
        grids, scores, copies = self._similarity(pixels, texts, geometry, bgr, words=words)
        if copies is None:
            return grids, scores
        return grids[:, copies.index], None if scores is None else scores[:, copies.index]

    def scored_similarity(
        self, pixels: Any, texts: Sequence[str], *, geometry: Geometry | None = None, bgr: bool = False
    ) -> tuple[Tensor, Tensor]:
        """`similarity` with the image-level cosines of every method, [B, T + 1], from which `prediction` makes scores.

        The last column is the cosine with the background, the template without a thing in it. It costs one more row in the last block and
        does not change the grids.
        """
        grids, cosines, copies = self._similarity(pixels, texts, geometry, bgr, background=True)
        assert cosines is not None
        return (grids, cosines) if copies is None else (grids[:, copies.index], cosines[:, [*copies.index, -1]])

    def _similarity(
        self, pixels: Any, texts: Sequence[str], geometry: Geometry | None, bgr: bool, *, background: bool = False,
        words: Sequence[str] = (),
    ) -> tuple[Tensor, Tensor | None, Distinct | None]:  # fmt: skip
        """`similarity` of the distinct texts, and their indices.

        Texts that the model cannot tell apart, such as "Cat" and "cat ",
        count as one: methods in which texts compete would split the share among the copies.
        """
        self._process.check()
        pixels = shared(pixels)
        check_values(pixels)
        if pixels.dtype == torch.uint8 and geometry is None:
            geometry = self.frame_geometry(pixels)
        accumulate_dtype = torch.promote_types(self.weights.dtype, torch.float32)
        rows = self._encoded(texts)
        copies = distinct_rows(rows.cpu().numpy())
        text = (rows if copies is None else rows[copies.first]).to(self.device, accumulate_dtype)
        empty = None
        if words and self.recipe.reads == "cliper":
            empty = self._encoded(words).to(self.device, accumulate_dtype)
        elif background or self.recipe.reads_empty(len(text)):
            empty = self.source.text.empty(self.template).to(self.device, accumulate_dtype)
        answer = self.engine(pixels, text, empty, geometry=geometry, bgr=bgr, background=background)
        if self._second is not None:
            self._second((pixels, text, empty), geometry, bgr, background, answer)
        return *answer, copies

    def heatmaps(self, frames: Any, texts: Sequence[str], *, dtype: torch.dtype = torch.float32, bgr: bool = False) -> Tensor:
        """Heatmaps [B, T, H, W] of camera frames, uint8 [B, H, W, 3], on the engine's device: within [0, 1], or bytes for torch.uint8.
        Frames as for `similarity`; the tensor is handed on by its own `__dlpack__`.

        Raises:
            ImageError, FastlocError: frames or a dtype that are not these.
        """
        frames = shared(frames)
        geometry = self.frame_geometry(frames)
        grids, _, copies = self._similarity(frames, texts, geometry, bgr)
        readout = self.recipe.readout
        made = device_heatmaps.heatmaps(
            grids, geometry, readout.order, readout.scale, readout.reverse, dtype=dtype, fused=self.plan.readout == "triton"
        )
        return made if copies is None else made[:, copies.index]

    def labels(self, frames: Any, texts: Sequence[str], *, threshold: float | None = None, bgr: bool = False) -> Tensor:
        """The index of the most similar text of every pixel, int32 [B, H, W], on the engine's device, without a map for each text.

        It is -1 where a crop hid the frame and where the best similarity is below the threshold. Frames as for `heatmaps`.
        """
        frames = shared(frames)
        geometry = self.frame_geometry(frames)
        grids, _ = self.similarity(frames, texts, geometry=geometry, bgr=bgr)
        grids = -grids if self.recipe.readout.reverse else grids
        return device_heatmaps.labels(grids, geometry, threshold, self.recipe.readout.order, fused=self.plan.readout == "triton")

    def frame_geometry(self, frames: Tensor) -> Geometry:
        """The geometry of camera frames in the input. Raises ImageError unless they are uint8 [B, H, W, 3]."""
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise ImageError(f"frames must be torch.uint8 [B, H, W, 3], got {frames.dtype} {tuple(frames.shape)}")
        return self.geometry((frames.shape[1], frames.shape[2]))

    def prediction(self, geometry: Geometry, prompts: list[str], grid: Floats, cosines: Floats) -> Prediction:
        """The Prediction of one picture's similarities [T, h, w] and image-level cosines [T + 1], see `scored_similarity`."""
        readout = self.recipe.readout
        shown = any(isinstance(prompt, Example) for prompt in prompts)
        scores = presence(cosines[:-1], float(cosines[-1]), self.logit_scale, self.calibration, self.logit_bias)
        return Prediction(
            texts=tuple(map(str, prompts)), similarity=grid, geometry=geometry, order=readout.order,
            logit_scale=readout.scale or self.logit_scale, reverse=readout.reverse, method=self.recipe.name, model=self.source.name,
            scores=None if shown else scores, image_scores=cosines[:-1],
            no_scores="an example is among the texts, and scores are calibrated for texts" if shown else "",
        )  # fmt: skip

    def encode_texts(self, texts: str | Sequence[str] | None) -> list[str]:
        """Encode the texts now, so that no picture waits for them. Other calls may run at the same time.

        Returns: the same texts, checked, for `predict_frame`.

        Raises TextError as a call does.
        """
        prompts = self._texts(texts)
        self._encoded(prompts)
        self.source.text.empty(self.template)
        if self.device.type == "cpu":
            # later calls mostly run in another thread
            release_idle_threads()
        return prompts

    def predict_frame(self, frame: Any, prompts: list[str], bgr: bool = False) -> Prediction:
        """The Prediction of one camera frame, for texts that `encode_texts` returned; the frame is not converted to a picture.

        frame: uint8 [H, W, 3], a numpy array, or anything with `__dlpack__` on any device, whose pixels are never copied to the host; or an
            RGB PIL picture, as a `fastloc.imaging.reduced_picture.ScaledPicture` is, of which bgr says nothing.

        Raises ImageError for another.
        """
        return self.predict_frames([frame], prompts, bgr)[0]

    def predict_frames(self, frames: Sequence[Any], prompts: list[str], bgr: bool = False) -> list[Prediction]:
        """The Prediction of each of several camera frames of one size, as `predict_frame` has it, in one pass through the image tower."""
        if any(isinstance(each, Image.Image) for each in frames):
            images = [each if isinstance(each, Image.Image) else load(each, bgr=bgr) for each in frames]
            if len({each.size for each in images}) > 1:
                raise ImageError(f"frames of a batch must be of one size, got {', '.join(size_text(each.size[::-1]) for each in images)}")
            return self._predict(images, [self.geometry(each.size[::-1]) for each in images], prompts)
        pixels = [torch.from_numpy(np.require(each, None, ["C", "W"])) if isinstance(each, np.ndarray) else shared(each) for each in frames]
        # raises for a wrong one before they are put together
        geometries = [self.frame_geometry(each[None]) for each in pixels]
        if len({each.shape for each in pixels}) > 1:
            raise ImageError(f"frames of a batch must be of one size, got {', '.join(str(tuple(each.shape)) for each in pixels)}")
        if pixels[0].device.type == "cpu" and not self._resizes(geometries):
            rgb = [np.asarray(each.flip(-1) if bgr else each) for each in pixels]
            return self._predict([Image.fromarray(each) for each in rgb], geometries, prompts)
        batch = pixels[0][None] if len(pixels) == 1 else torch.stack(pixels)
        return self._predictions(geometries, prompts, *self.scored_similarity(batch, prompts, geometry=geometries[0], bgr=bgr))

    def _texts(self, texts: str | Sequence[str] | None) -> list[str]:
        self._process.check()
        return checked(() if texts is None else texts, examples=True)

    def _encoded(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of texts and examples, float32 [T, E], unit length."""
        return encoded(self, texts, self._examples)

    def embeddings(self, texts: str | Sequence[str]) -> TextEmbeddings:
        """Embeddings of texts and examples for an exported file of this model and method, which takes them in place of texts.

        Raises TextError as a call does.
        """
        prompts = self._texts(texts)
        names = tuple(str(prompt) for prompt in prompts)
        return TextEmbeddings(names, self._encoded(prompts).float().cpu().numpy(), self.template, self.source.text.digest)

    def _geometry(self, picture: tuple[int, int], name: str) -> Geometry:
        return self.geometry(picture)

    def _predict(self, images: list[Image.Image], geometries: list[Geometry], texts: list[str]) -> list[Prediction]:
        if self._resizes(geometries):
            frames = torch.from_numpy(np.stack([np.asarray(picture) for picture in images]))
            return self._predictions(geometries, texts, *self.scored_similarity(frames, texts, geometry=geometries[0]))
        pixels = torch.stack([self.pixels(picture, geometry) for picture, geometry in zip(images, geometries, strict=True)])
        return self._predictions(geometries, texts, *self.scored_similarity(pixels, texts))

    def _resizes(self, geometries: list[Geometry]) -> bool:
        """True where the device resizes these pictures: those of one geometry, if the plan chooses it. Pillow resizes the others."""
        return len(set(geometries)) == 1 and self.engine.plan(len(geometries), geometries[0].input).frames != "pillow"

    def _predictions(self, geometries: list[Geometry], prompts: list[str], grids: Tensor, cosines: Tensor) -> list[Prediction]:
        arrays, values = _array(grids), _array(cosines)
        return [self.prediction(geometry, prompts, arrays[i], values[i]) for i, geometry in enumerate(geometries)]


def _array(tensor: Tensor) -> Floats:
    return tensor.float().cpu().numpy()
