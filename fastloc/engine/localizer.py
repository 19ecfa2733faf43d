"""The engine: a model, a method, and one call from pictures and texts to results."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fastloc.checkpoints import loading
from fastloc.checkpoints.projections import Given as GivenProjections
from fastloc.engine import cost
from fastloc.engine.async_queue import AsyncQueue, Handle
from fastloc.engine.best_method import BEST, best_method
from fastloc.engine.calibration import RHO, SCENES, at_hand, calibrate
from fastloc.engine.devices import DeviceProcess, device_of, dtype_of
from fastloc.engine.examples import Examples
from fastloc.engine.localizing.answers import Answers
from fastloc.engine.localizing.defaults import default_size, recommended_of
from fastloc.engine.measured_temperatures import Given, MeasuredTemperatures
from fastloc.engine.projected_towers import ProjectedTowers
from fastloc.engine.registers.of_model import Given as GivenRegisters
from fastloc.engine.registers.of_model import MeasuredRegisters
from fastloc.engine.self_check.second_plan import SecondPlan
from fastloc.engine.tower_kinds import tower_kind
from fastloc.imaging import images
from fastloc.imaging.geometry import both_sides
from fastloc.onnx_file.self_check import SelfCheck, share_of
from fastloc.recipes import Recipe, recipe
from fastloc.recipes.official import official_form
from fastloc.recipes.temperatures import Temperatures
from fastloc.results.base_localizer import BATCH
from fastloc.results.batching import name_of
from fastloc.text.templates import sentences


class Localizer(Answers):
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
        self.tower = self.projected.tower(self.source, lambda weights: self.kind.tower(weights, self.device, first.dtype))
        self.engine = self.kind.engine(self.tower, self.recipe, self.settings)
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

    def _choose(
        self, method: str, official: bool, recommended: bool, fit: str | None, template: str | None, changes: dict[str, Any],
        tempered: bool = False,
    ) -> None:  # fmt: skip
        plain = self.projected.plain
        if method == BEST:
            method = best_method(plain.spec)
        self.official, form = official, official_form(method, official)
        of_model = recommended_of(plain, method) if recommended and not official else {}
        given = {**of_model, **changes}
        row = recipe(method, official=official, **given)
        row = row if "blocks" in given else self.kind.at_depth(row, plain.spec, plain.name)
        self.kind.check(row, plain.spec, plain.name)
        row = self.registers.applied(row, changes, plain)
        self.source = self.projected.source(row)
        self.recipe = self.measured.applied(row, changes, plain, tempered, self._measure).at_scale(plain.logit_scale)
        self._examples = Examples()
        # two given sides ask for exactly this size
        self.usual_fit: str = form.fit or self.source.recommended.get("fit", self.recipe.fit)
        self.fit = fit or ("stretch" if isinstance(self.size, tuple) else self.usual_fit)
        self.template = template or self.recipe.template
        self.input_size = default_size(self.source, form.size) if self.size is None else self.size
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


def _made(kind: type[Localizer], arguments: dict[str, Any], choice: dict[str, Any] | None) -> Localizer:
    made = kind(**arguments)
    return made if choice is None else made.with_method(**choice)
