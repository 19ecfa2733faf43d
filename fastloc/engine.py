"""The engine: one tower and one recipe on one device, executed by a plan. The only place that holds state: weights, tables, graphs."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import RLock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc import attention, fused, readout
from fastloc.choices import choose
from fastloc.frames import folded_embedding, frame_tables, patches_of
from fastloc.geometry import Geometry
from fastloc.graphs import Graphs
from fastloc.grids import answer
from fastloc.ops import TORCH, Ops
from fastloc.plan import DTYPES, Plan, Situation
from fastloc.prepared import Prepared, prepare, without_scale
from fastloc.recipes import Recipe
from fastloc.vit import Output, check_pixels, patch_tokens, position_table
from fastloc.weights import Weights

# plans, tables and graphs that are kept, for as many shapes
SHAPES = 16


class Tower:
    """An image tower on a device in a dtype, which the engines of several recipes share."""

    def __init__(self, weights: Weights, device: torch.device, dtype: str) -> None:
        self.dtype = dtype
        # folded before it is rounded to a smaller dtype
        self.weights = without_scale(weights).to(device, DTYPES[dtype])
        matrix, bias = folded_embedding(weights)
        self.patch_matrix, self.patch_bias = (each.to(device, DTYPES[dtype]) for each in (matrix, bias))


@dataclass(frozen=True)
class Shape:
    """Everything besides the numbers that a pass depends on: what one captured graph is for."""

    pixels: tuple[int, ...]
    kind: torch.dtype
    geometry: Geometry | None
    bgr: bool
    texts: int
    plan: Plan


class Engine:
    """Runs one recipe on one tower. Threads may share it; on a GPU they must then use one CUDA stream, as they do unless told otherwise.

    Args:
        settings: plan fields that are asked for, see `fastloc.plan.Plan`; with the tower's dtype, or none for the same choice.

    Raises:
        PlanError: a setting that is unknown, or impossible on this device.
    """

    def __init__(self, tower: Tower, recipe: Recipe, settings: Mapping[str, str]) -> None:
        self.tower, self.recipe = tower, recipe
        self.device = tower.weights.device
        self.settings = dict(settings)
        self.graphs = Graphs(SHAPES)
        self.lock = RLock()
        self.plan = lru_cache(maxsize=SHAPES)(self._plan)
        self._passes = lru_cache(maxsize=SHAPES)(self._pass)
        self._prepared = lru_cache(maxsize=2)(lambda joint: prepare(tower.weights, recipe, joint=joint))

    def _plan(self, batch: int, size: tuple[int, int]) -> Plan:
        """The plan for a batch of inputs of (height, width)."""
        return choose(Situation(self.device, self.tower.weights.spec, self.recipe, batch, size), self.settings)

    @torch.inference_mode()
    def __call__(
        self, pixels: Tensor, texts: Tensor, empty: Tensor | None = None, *, geometry: Geometry | None = None, bgr: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Similarity grids [B, T, h, w] and, where the method reads the image embedding, its cosines with the texts [B, T].

        Args:
            pixels: normalised floats [B, 3, H, W], or uint8 frames [B, H, W, 3] of the geometry's picture size.
            texts: [T, E], unit length.
            empty: [E], the empty text's embedding, for feature surgery with one text.
            bgr: the frames' channels are blue, green, red.

        Raises:
            ModelError, FastlocError: pixels or frames of a shape that does not fit.
        """
        if geometry is None:
            check_pixels(self.tower.weights.spec, pixels)
        size = geometry.input if geometry else (pixels.shape[-2], pixels.shape[-1])
        with self.lock, self._guard():
            shape = Shape(tuple(pixels.shape), pixels.dtype, geometry, bgr, len(texts), self.plan(len(pixels), size))
            one_pass = self._passes(shape)
            inputs = tuple(each.to(self.device) for each in (pixels, texts, empty) if each is not None)
            if shape.plan.launch == "graph" and len(pixels):
                grids, scores = self.graphs(shape, one_pass, inputs)
            else:
                grids, scores = one_pass(*inputs)
        assert grids is not None
        return grids, scores

    def _pass(self, shape: Shape) -> "Pass":
        return Pass(self, shape)

    def prepared(self, plan: Plan) -> Prepared:
        return self._prepared(plan.projection == "joint")

    @cached_property
    def side(self) -> Any:
        """The second stream, one for all passes."""
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def _guard(self) -> Any:
        """Kernels start on the current device."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()


class Pass:
    """One shape's pass, with every tensor that it reads besides its inputs: a captured graph keeps this object."""

    def __init__(self, engine: Engine, shape: Shape) -> None:
        self.tower, self.recipe, self.shape = engine.tower, engine.recipe, shape
        self.plan, self.prepared = shape.plan, engine.prepared(shape.plan)
        self.ops = pass_ops(shape.plan, engine)
        spec, geometry = self.prepared.weights.spec, shape.geometry
        size = geometry.input if geometry else (shape.pixels[-2], shape.pixels[-1])
        self.grid = size[0] // spec.patch[0], size[1] // spec.patch[1]
        self.table = position_table(self.prepared.weights, self.grid, self.recipe)
        self.frames = frame_tables(geometry, spec.patch, spec.mean, spec.interpolation) if geometry else None
        self.cls = readout.needs_cls(self.recipe.readout, shape.texts)
        self.cosine = fused.cosine if shape.plan.readout == "triton" else readout.cosine

    def __call__(self, pixels: Tensor, texts: Tensor, empty: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        def read(out: Output, words: Tensor) -> Tensor:
            return readout.similarity(out, words, self.recipe.readout, empty, self.cosine)

        return answer(self.prepared, self.tokens(pixels), self.table, self.grid, texts, read, self.ops, self.cls)

    def tokens(self, pixels: Tensor) -> Tensor:
        """The patch embedding, [B, P, C]."""
        if self.shape.geometry is None:
            return patch_tokens(self.prepared.weights, pixels)[0]
        spec = self.prepared.weights.spec
        patches = patches_of(
            pixels, self.shape.geometry, spec.patch, spec.mean, spec.interpolation, self.prepared.weights.dtype,
            bgr=self.shape.bgr, fused=self.plan.frames == "triton",
        )  # fmt: skip
        return F.linear(patches, self.tower.patch_matrix, self.tower.patch_bias)


def pass_ops(plan: Plan, engine: Engine) -> Ops:
    """The ops that a plan names."""
    return Ops(
        add_norm=fused.add_norm if plan.norm == "triton" else TORCH.add_norm,
        activate=fused.quick_gelu if plan.activation == "triton" else TORCH.activate,
        local=fused.attention if plan.attention == "triton" else attention.FORMS[plan.attention],
        side=engine.side if plan.schedule == "side-stream" else None,
        deferred=plan.schedule == "deferred",
        slots=plan.attention == "triton" and plan.projection == "joint",
    )
