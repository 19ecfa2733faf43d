"""Another plan for a self-check: the same tower and recipe by PyTorch's plain operations, one picture of a call, eager.

It differs from the plan in use wherever there is a choice: other attention, no Triton kernel, no CUDA graph, no company in the batch, and
float32 in place of half precision, with the same rounded weights.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastloc.engine.base import BaseEngine, Shape
from fastloc.engine.plan import DTYPES
from fastloc.engine.tower_kinds import AnyEngine, TowerKind
from fastloc.engine.vit_engine import Engine, Pass
from fastloc.errors import PlanError
from fastloc.functional.attention import attend_in_slices
from fastloc.imaging.geometry import Geometry
from fastloc.onnx_file.self_check import Outputs, SelfCheck
from fastloc.utils.lru_cache import remembered

__all__ = ["SecondPlan"]

# options of PyTorch's own for each field of a plan; the first that is not the checked plan's is taken
CHOICES = {
    "attention": ("bmm", "sdpa"), "projection": ("per-block",), "schedule": ("per-block",), "norm": ("torch",), "activation": ("torch",),
    "readout": ("torch",), "frames": ("torch",), "launch": ("eager",),
}  # fmt: skip
# plans and engines that are kept
KEPT = 4


class SlicedEngine(Engine):
    """The engine of a ViT whose own attention, too, is matrix products rather than PyTorch's fused one."""

    def _pass(self, shape: Shape) -> Pass:
        made = super()._pass(shape)
        made.ops = replace(made.ops, attend=attend_in_slices)
        return made


class SecondPlan:
    """Answers a random picture of some calls of an engine again, and hands both answers to a `SelfCheck`.

    A call that is drawn waits for its device, and costs one more pass of one picture by plain operations. The first one makes an engine;
    for a tower in half precision that is a float32 copy of its weights.
    """

    def __init__(self, engine: AnyEngine, kind: TowerKind, check: SelfCheck) -> None:
        self.engine, self.kind, self.check = engine, kind, check
        self._settings = remembered(self._chosen, KEPT)
        self._engines = remembered(self._made, KEPT)
        self._tower = lru_cache(maxsize=1)(lambda: in_float32(engine.tower))

    def __call__(
        self, inputs: tuple[Tensor, Tensor, Tensor | None], geometry: Geometry | None, bgr: bool, background: bool,
        answer: tuple[Tensor, Tensor | None],
    ) -> None:  # fmt: skip
        """Check one call: its inputs (pixels, texts, the empty text), settings and answer, see `fastloc.engine.base.BaseEngine`."""
        pixels, texts, empty = inputs
        if not len(pixels) or not self.check.drawn():
            return
        i = self.check.index(len(pixels))
        one = pixels[i : i + 1]

        def other() -> Outputs:
            size = geometry.input if geometry else (one.shape[-2], one.shape[-1])
            run = self._engines(self._settings(len(pixels), size))
            return _arrays(*run(one, texts, empty, geometry=geometry, bgr=bgr, background=background))

        self.check.again(lambda: _arrays(*(None if each is None else each[i : i + 1] for each in answer)), other)

    def _chosen(self, batch: int, size: tuple[int, int]) -> tuple[tuple[str, str], ...]:
        """The settings of the other plan for a picture of a batch of inputs of (height, width)."""
        plan, weights = self.engine.plan(batch, size), self._tower().weights
        chosen = {"dtype": self._tower().dtype}
        for field, options in CHOICES.items():
            own: str = getattr(plan, field)
            for option in sorted(options, key=own.__eq__):
                try:
                    self.kind.plan(self.engine.device, weights.spec, self.engine.recipe, 1, size, {**chosen, field: option})
                except PlanError:
                    # a field that this kind of tower does not choose, or an option that it does not have
                    continue
                chosen[field] = option
                break
        return tuple(chosen.items())

    def _made(self, settings: tuple[tuple[str, str], ...]) -> BaseEngine:
        make: Any = SlicedEngine if isinstance(self.engine, Engine) else self.kind.engine
        made: BaseEngine = make(self._tower(), self.engine.recipe, dict(settings))
        return made


def in_float32(tower: Any) -> Any:
    """The tower itself, or where it is in half precision a copy of it in float32, with the same rounded weights."""
    if DTYPES[tower.dtype].itemsize >= 4:
        return tower
    other = copy.copy(tower)
    for name, value in vars(tower).items():
        if hasattr(value, "to"):
            setattr(other, name, value.to(dtype=torch.float32))
    other.dtype = "float32"
    return other


def _arrays(grids: Tensor | None, cosines: Tensor | None) -> Mapping[str, np.ndarray[Any, Any]]:
    named = {"similarity": grids, "scores": cosines}
    return {name: each.float().cpu().numpy() for name, each in named.items() if each is not None}
