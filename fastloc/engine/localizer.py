"""The engine: a model, a method, and one call from pictures and texts to results."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastloc.checkpoints import loading
from fastloc.checkpoints.families.kinds import AnyWeights
from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.projections import Given as GivenProjections
from fastloc.engine import cost, device_heatmaps
from fastloc.engine.async_queue import AsyncQueue, Handle
from fastloc.engine.best_method import BEST, best_method
from fastloc.engine.calibration import RHO, SCENES, at_hand, calibrate
from fastloc.engine.devices import DeviceProcess, device_of, dtype_of
from fastloc.engine.examples import Examples, encoded
from fastloc.engine.measured_temperatures import Given, MeasuredTemperatures
from fastloc.engine.plan import Plan
from fastloc.engine.projected_towers import ProjectedTowers
from fastloc.engine.registers.of_model import Given as GivenRegisters
from fastloc.engine.registers.of_model import MeasuredRegisters
from fastloc.engine.self_check.second_plan import SecondPlan
from fastloc.engine.tower_kinds import AnyEngine, AnyTower, tower_kind
from fastloc.errors import ImageError
from fastloc.functional.frame_formats import check_values, shared
from fastloc.imaging import images
from fastloc.imaging.example import Example
from fastloc.imaging.geometry import VARYING, Geometry, both_sides, fit
from fastloc.imaging.preprocess import prepare
from fastloc.onnx_file.self_check import SelfCheck, share_of
from fastloc.recipes import Recipe, recipe
from fastloc.recipes.official import NATIVE, official_form
from fastloc.recipes.presence import Calibration, presence
from fastloc.recipes.temperatures import Temperatures
from fastloc.results.base_localizer import BATCH, BaseLocalizer
from fastloc.results.batching import name_of
from fastloc.results.prediction import Prediction
from fastloc.text.embeddings import TextEmbeddings
from fastloc.text.prompts import checked
from fastloc.text.templates import sentences
from fastloc.utils.distinct import Distinct, distinct_rows
from fastloc.utils.openmp import release_idle_threads

Floats = np.ndarray[Any, np.dtype[np.float32]]

# GEM's input size; models of a larger native size keep theirs
USUAL_SIZE = 448


class Localizer(BaseLocalizer[list[str]]):
    """Answers "where in this picture is that?" with one model and one method.

    The texts of a call are prompts in any words, and `fastloc.Example`s, which show the thing to find. Methods with feature surgery
    compare them with one another.

    Args:
        model, pretrained: see `fastloc.checkpoints.loading.load`; the default is the small CLIP that ships with fastloc.
        method: a row of `fastloc.recipes.RECIPES`, or "best" for the one that measurements recommend for the kind of model, see
            `fastloc.engine.best_method`.
        size: the model's input in pixels, multiples of the patch: one number or (height, width). By default the size recommended
            for the model, else its own for a tower whose grid shrinks, and 448 or its own if larger for others.
        fit: "stretch", "aspect", "crop", "letterbox", "own", "own-up" or "naflex", see `fastloc.imaging.geometry.fit`; by default
            "stretch" to a given (height, width), else the one recommended for the model, else the recipe's.
        template: see `fastloc.text.templates`; by default the recipe's.
        device: where to run; by default the GPU if there is one.
        dtype: of the image tower, "float32", "bfloat16", "float16" or "float64"; by default the plan's choice for the device:
            float16 on a GPU, float32 on a CPU.
        plan: fields of `fastloc.engine.plan.Plan` that you set yourself, such as {"attention": "sdpa"}; the plan chooses the others.
        temperatures: a file that `fastloc calibrate` wrote for this very model, or such `Temperatures`: the method's inverse temperatures,
            and those of every calibrated method chosen later. By default the table that came with the model, for methods such as
            gem_calibrated; a model without one is measured on the sample scenes at the first use, with a warning, and the table is kept
            in your cache. "none" refuses instead.
        registers: a file that `fastloc registers` wrote for this very model, or such `RegisterNeurons`: test-time registers, for this
            method and all chosen later. By default those that came with the model, for methods whose recipe asks for registers.
        projections: a file that `python -m fastloc.eclip` trained for this very model, such `Projections`, or "own" for those that came
            with the model: folded into both towers, whatever the method. By default eclip has the model's own, and other methods none.
        official: run the method to the letter of its authors' code, their input size and fit with it (`fastloc.recipes.official`), and
            leave out the recommendations of the model's own configuration. Arguments that you give take precedence.
        recommended: False leaves out the fields that the model's own configuration recommends for the method: the row as it stands.
        mean, std: of the pixels, per channel, in place of the model configuration's.
        batch: the number of pictures in one pass through the image tower.
        self_check: the share of calls, True for a tenth, of which one picture is answered again by another plan, plain PyTorch in
            float32 at least. A difference beyond the limit of the dtype gives a FastlocWarning once; `localizer.self_check.describe()`
            has the counts. It costs that share of such passes, during which the call waits, and for half precision a float32 copy of the
            tower; off by default.
        changes: fields of the Recipe or its ReadOut, such as blocks=4 or inv_temp=20.0. Without blocks a method changes its own number of
            last blocks, or all that the tower has if these are fewer, with a warning.

    Raises:
        ModelError, RecipeError, TextError, PlanError, FastlocError: anything unknown, unreadable or contradictory, said in one line.
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
        dtype: str | torch.dtype | None = None,
        plan: Mapping[str, str] | None = None,
        temperatures: Given = None,
        registers: GivenRegisters = None,
        projections: GivenProjections = None,
        official: bool = False,
        recommended: bool = True,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        batch: int = BATCH,
        self_check: float | bool = False,
        **changes: Any,
    ) -> None:
        self._describe(locals(), more="changes")
        self._share = share_of(self_check)
        # the arguments of the `with_method` calls that led from the constructor to this method
        self._choice: dict[str, Any] | None = None
        # raises for a wrong method or field before a model is loaded
        if method != BEST:
            recipe(method, official=official, **changes)
        self.measured, self.registers = MeasuredTemperatures(model, temperatures), MeasuredRegisters(model, registers)
        self.device = device_of(device)
        self.settings = {**(plan or {}), **({} if dtype is None else {"dtype": dtype_of(dtype)})}
        source = loading.load(model, pretrained, mean, std)
        source.text.tower.to(self.device)
        self.projected = ProjectedTowers(source, projections)
        self.size, self.batch = size, batch
        self._queue = AsyncQueue()
        self._process = DeviceProcess(self.device)
        self.kind = tower_kind(source.weights)
        self._choose(method, official, recommended, fit, template, changes, self.measured.is_given)
        first = self.kind.plan(self.device, self.source.spec, self.recipe, 1, self._plain_input(), self.settings)
        self.tower: AnyTower = self.projected.tower(self.source, lambda weights: self.kind.tower(weights, self.device, first.dtype))
        self.engine: AnyEngine = self.kind.engine(self.tower, self.recipe, self.settings)
        self._second = self._second_plan()

    def with_method(
        self, method: str, *, official: bool | None = None, recommended: bool = True, fit: str | None = None, template: str | None = None,
        **changes: Any,
    ) -> Localizer:  # fmt: skip
        """The same model with another method; both share weights and cached texts. official: None keeps this localizer's."""
        self._process.check()
        official = self.official if official is None else official
        other = copy.copy(self)
        other._choose(method, official, recommended, fit, template, changes)
        named = {"method": method, "official": official, "recommended": recommended, "fit": fit, "template": template}
        other._choice = {**named, **changes}
        other.tower = self.projected.tower(other.source)
        other.engine = self.kind.engine(other.tower, other.recipe, self.settings)
        other._second = other._second_plan()
        # raises for a setting that this method rules out now, not at the first picture
        _ = other.plan
        return other

    def __repr__(self) -> str:
        height, width = self._plain_input()
        how = f"{self.recipe.name}, blocks {self.recipe.depth}, {height} x {width}, fit {self.fit}, {self.tower.dtype} on {self.device}"
        return f"<Localizer {self.source.name}: {how}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), self._description(), self._choice)

    @property
    def method(self) -> str:
        """The method's name."""
        return self.recipe.name

    @property
    def self_check(self) -> SelfCheck | None:
        """The counts of this method's self-check; None where it is off."""
        return None if self._second is None else self._second.check

    def _second_plan(self) -> SecondPlan | None:
        if not self._share:
            return None
        return SecondPlan(self.engine, self.kind, SelfCheck(self._share, self.method, self.tower.dtype, self.recipe.readout.score))

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

    def _choose(
        self, method: str, official: bool, recommended: bool, fit: str | None, template: str | None, changes: dict[str, Any],
        tempered: bool = False,
    ) -> None:  # fmt: skip
        plain = self.projected.plain
        if method == BEST:
            method = best_method(plain.spec)
        self.official, form = official, official_form(method, official)
        of_model = _recommended(plain, method) if recommended and not official else {}
        given = {**of_model, **changes}
        row = recipe(method, official=official, **given)
        row = row if "blocks" in given else self.kind.at_depth(row, plain.spec, plain.name)
        self.kind.check(row, plain.spec, plain.name)
        row = self.registers.applied(row, changes, plain)
        self.source = self.projected.source(row)
        self.recipe: Recipe = self.measured.applied(row, changes, plain, tempered, self._measure).at_scale(plain.logit_scale)
        self._examples = Examples()
        # two given sides ask for exactly this size
        self.usual_fit: str = form.fit or self.source.recommended.get("fit", self.recipe.fit)
        self.fit = fit or ("stretch" if isinstance(self.size, tuple) else self.usual_fit)
        self.template = template or self.recipe.template
        self.input_size = _size(self.source, form.size) if self.size is None else self.size
        # raises for a wrong template, size or fit now, not at the first picture
        sentences(self.template)
        cost.announce(self.source.spec, self._fitted(both_sides(self.input_size)).input, self.recipe)

    def _measure(self, row: Recipe) -> Temperatures:
        """Inverse temperatures of the model for a recipe, measured on the sample scenes at the model's own input size."""
        other = copy.copy(self)
        other.source, other.input_size, other.fit = self.projected.plain, self.projected.plain.spec.image, row.fit
        return calibrate(
            other, at_hand("scenes", SCENES, other.input_size), rho=RHO if row.rho is None else row.rho, blocks=row.blocks,
            iterations=row.iterations, streams=row.streams, source="fastloc's scenes",
        )  # fmt: skip

    def submit(self, image: Any, texts: str | Sequence[str], *, bgr: bool = False) -> Handle:
        """Start to locate the texts in one picture and return at once: `handle.result()` waits for the Result.

        A few pictures are in flight at a time; one more waits for the oldest. Raises the errors of a call for a wrong picture or
        wrong texts before anything is computed.
        """
        prompts = self._texts(texts)
        return self._queue.submit(self, images.load(image, bgr=bgr), prompts, name_of(image))

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

        frame: uint8 [H, W, 3], a numpy array, or anything with `__dlpack__` on any device, whose pixels are never copied to the host.
        Raises ImageError for another.
        """
        return self.predict_frames([frame], prompts, bgr)[0]

    def predict_frames(self, frames: Sequence[Any], prompts: list[str], bgr: bool = False) -> list[Prediction]:
        """The Prediction of each of several camera frames of one size, as `predict_frame` has it, in one pass through the image tower."""
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


def _made(kind: type[Localizer], arguments: dict[str, Any], choice: dict[str, Any] | None) -> Localizer:
    made = kind(**arguments)
    return made if choice is None else made.with_method(**choice)


def _array(tensor: Tensor) -> Floats:
    return tensor.float().cpu().numpy()


def _recommended(source: loading.Source, method: str) -> dict[str, Any]:
    """The fields of a method's recipe that the model's own configuration recommends."""
    of_all = {name: source.recommended[name] for name in ("position",) if name in source.recommended}
    return {**of_all, **source.recommended.get("recipes", {}).get(method, {})}


def _size(source: loading.Source, official: int | str | None) -> int | tuple[int, int]:
    if official is None and "size" in source.recommended:
        return int(source.recommended["size"])
    if isinstance(official, int):
        sides = official, official
    else:
        own = official == NATIVE or isinstance(source.spec, HierarchicalSpec)
        sides = source.spec.image if own else both_sides([max(USUAL_SIZE, side) for side in source.spec.image])
    height, width = (max(side // step, 1) * step for side, step in zip(sides, source.spec.patch, strict=True))
    return height if height == width else (height, width)
