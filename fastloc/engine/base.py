"""The base of all engines: one cached pass for each shape, captured where the plan chooses it; on a GPU one call at a time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from fastloc.engine.cuda_graphs import Graphs
from fastloc.engine.plan import Plan
from fastloc.imaging.geometry import Geometry
from fastloc.recipes import Recipe
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.lru_cache import remembered

# the number of shapes whose plans, tables and graphs are cached
SHAPES = 16


@dataclass(frozen=True)
class Shape:
    """Everything that a pass depends on besides the numbers; one captured graph serves one such shape."""

    pixels: tuple[int, ...]
    kind: torch.dtype
    geometry: Geometry | None
    bgr: bool
    texts: int
    plan: Plan
    background: bool = False
    words: int = 0  # for the background, in place of the empty text


class BaseEngine(ABC):
    """Runs one recipe on one tower. Threads may share it; on a GPU they must then use one CUDA stream, which is PyTorch's default.

    Args:
        settings: the plan fields that you set, see `fastloc.engine.plan.Plan`; their dtype, if any, is the tower's.
    """

    def __init__(self, tower: Any, recipe: Recipe, settings: Mapping[str, str]) -> None:
        self.tower, self.recipe, self.settings = tower, recipe, dict(settings)
        self.device: torch.device = tower.weights.device
        self.graphs = Graphs(SHAPES)
        self.lock = RLock()
        renewed_after_fork(self)
        self._plans = remembered(self._plan, SHAPES)
        self._passes = remembered(self._pass, SHAPES)

    def plan(self, batch: int, size: tuple[int, int]) -> Plan:
        """The plan for a batch of inputs of (height, width). Raises PlanError, see `fastloc.engine.plan.make_plan`."""
        return self._plans(batch, size)

    @abstractmethod
    def _plan(self, batch: int, size: tuple[int, int]) -> Plan:
        """Make the plan of `plan`."""

    @abstractmethod
    def _pass(self, shape: Shape) -> Callable[..., tuple[Tensor, Tensor | None]]:
        """One shape's pass. It holds every tensor that it reads besides its inputs, because a captured graph needs them."""

    @abstractmethod
    def _check(self, pixels: Tensor) -> None:
        """Raise ModelError unless these are normalised pixels that the tower takes."""

    @torch.inference_mode()
    def __call__(
        self, pixels: Tensor, texts: Tensor, empty: Tensor | None = None, *, geometry: Geometry | None = None, bgr: bool = False,
        background: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Compute similarity grids [B, T, h, w] and, where the method reads the image embedding, its cosines with the texts [B, T].

        Args:
            pixels: normalised floats [B, 3, H, W], or uint8 frames [B, H, W, 3] of the geometry's picture size.
            texts: [T, E], unit length.
            empty: [E], the empty text's embedding, for maps that read it (`Recipe.reads_empty`); or [K, E], words for the background.
            bgr: the frames' channels are blue, green, red.
            background: compare the image embedding with `empty` too, for every method; the cosines are then [B, T + 1].

        Raises:
            ModelError, FastlocError: pixels or frames of a shape that does not fit.
        """
        if geometry is None:
            self._check(pixels)
        size = geometry.input if geometry else (pixels.shape[-2], pixels.shape[-1])
        with self.lock, self._guard():
            words = 0 if empty is None or empty.ndim == 1 else len(empty)
            shape = Shape(tuple(pixels.shape), pixels.dtype, geometry, bgr, len(texts), self.plan(len(pixels), size), background, words)
            one_pass = self._passes(shape)
            inputs = tuple(each.to(self.device) for each in (pixels, texts, empty) if each is not None)
            # launches share streams and graphs; on a CPU a pass only reads, so several threads may run at once
            if self.device.type != "cpu":
                launched = shape.plan.launch == "graph" and len(pixels)
                grids, scores = self.graphs(shape, one_pass, inputs) if launched else one_pass(*inputs)
        if self.device.type == "cpu":
            grids, scores = one_pass(*inputs)
        assert grids is not None
        return grids, scores

    def _at_fork_reinit(self) -> None:
        self.lock = RLock()

    def _guard(self) -> Any:
        """The context of a call: kernels start on the current device."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()
