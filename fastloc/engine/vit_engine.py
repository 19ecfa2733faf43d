"""The engine: one tower and one recipe on one device, executed by a plan. Only the engine holds state: weights, tables, graphs."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine import triton_ops
from fastloc.engine.base import BaseEngine, Shape
from fastloc.engine.frame_patches import patches_of
from fastloc.engine.plan import DTYPES, Plan, PlanRequest
from fastloc.engine.plan_options import choose
from fastloc.functional import attention, readout
from fastloc.functional.folding import FoldedViT, fold, without_scale
from fastloc.functional.frames.patches import folded_embedding, frame_tables
from fastloc.functional.op_set import TORCH, Ops, activate_in_place
from fastloc.functional.output import Output
from fastloc.functional.patch_stem import embedded_rows, patch_tokens
from fastloc.functional.similarity import answer
from fastloc.functional.vit import check_pixels, positions
from fastloc.kernels import variants
from fastloc.recipes import Recipe


class Tower:
    """An image tower on a device in a dtype, which the engines of several recipes share."""

    def __init__(self, weights: Weights, device: torch.device, dtype: str) -> None:
        self.dtype = dtype
        # folded before it is rounded to a smaller dtype
        self.weights = without_scale(weights).to(device, DTYPES[dtype])
        matrix, bias = folded_embedding(weights)
        self.patch_matrix, self.patch_bias = (each.to(device, DTYPES[dtype]) for each in (matrix, bias))


class Engine(BaseEngine):
    """Runs one recipe on one ViT, see `BaseEngine`.

    Raises:
        PlanError: a setting that is unknown, or impossible on this device.
    """

    tower: Tower

    def __init__(self, tower: Tower, recipe: Recipe, settings: Mapping[str, str]) -> None:
        super().__init__(tower, recipe, settings)
        self._prepared = lru_cache(maxsize=2)(lambda joint: fold(tower.weights, recipe, joint=joint))

    def _plan(self, batch: int, size: tuple[int, int]) -> Plan:
        return choose(PlanRequest(self.device, self.tower.weights.spec, self.recipe, batch, size), self.settings)

    def _pass(self, shape: Shape) -> "Pass":
        return Pass(self, shape)

    def _check(self, pixels: Tensor) -> None:
        check_pixels(self.tower.weights.spec, pixels)

    def prepared(self, plan: Plan) -> FoldedViT:
        return self._prepared(plan.projection == "joint")

    @cached_property
    def side(self) -> Any:
        """The second stream, one for all passes."""
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]


class Pass:
    """One shape's pass. It holds every tensor that it reads besides its inputs, because a captured graph needs them."""

    def __init__(self, engine: Engine, shape: Shape) -> None:
        self.tower, self.recipe, self.shape = engine.tower, engine.recipe, shape
        self.plan, self.prepared = shape.plan, engine.prepared(shape.plan)
        self.cosine, unread = self._cosine()
        self.ops = replace(pass_ops(shape.plan, engine), unread=unread)
        spec, geometry = self.prepared.weights.spec, shape.geometry
        size = geometry.input if geometry else (shape.pixels[-2], shape.pixels[-1])
        self.grid = size[0] // spec.patch[0], size[1] // spec.patch[1]
        self.places = positions(self.prepared.weights, self.grid, self.recipe)
        self.frames = frame_tables(geometry, spec.patch, spec.mean, spec.interpolation) if geometry else None
        self.cls = readout.needs_cls(self.recipe.readout, shape.texts)

    def __call__(self, pixels: Tensor, texts: Tensor, empty: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        def read(out: Output, words: Tensor) -> Tensor:
            return readout.similarity(out, words, self.recipe.readout, empty, self.cosine)

        beside = empty if self.shape.background else None
        return answer(self.prepared, self.tokens(pixels), self.places, self.grid, texts, read, self.ops, self.cls, beside, empty)

    def _cosine(self) -> tuple[readout.Cosine, bool]:
        """The function that computes the cosines, and True if it takes patches as they are before the last LayerNorm."""
        weights = self.prepared.weights
        if self.plan.readout != "triton":
            return readout.cosine, False
        if not variants.on("project_cosine") or triton_ops.why_not_projection(weights, self.recipe, self.shape.texts):
            return triton_ops.cosine, False
        return partial(triton_ops.project_cosine, weights), True

    def tokens(self, pixels: Tensor) -> Tensor:
        """The patch embedding, [B, P, C]."""
        if self.shape.geometry is None:
            return patch_tokens(self.prepared.weights, pixels)[0]
        spec = self.prepared.weights.spec
        patches = patches_of(
            pixels, self.shape.geometry, spec.patch, spec.mean, spec.interpolation, self.prepared.weights.dtype,
            bgr=self.shape.bgr, fused=self.plan.frames == "triton",
        )  # fmt: skip
        return embedded_rows(self.prepared.weights, patches, self.grid, self.tower.patch_matrix, self.tower.patch_bias)


def pass_ops(plan: Plan, engine: Engine) -> Ops:
    """The ops that a plan names."""
    return Ops(
        add_norm=triton_ops.add_norm if plan.norm == "triton" else TORCH.add_norm,
        activate=triton_ops.quick_gelu if plan.activation == "triton" else activate_in_place,
        local=triton_ops.attention if plan.attention == "triton" else attention.FORMS[plan.attention],
        side=engine.side if plan.schedule == "side-stream" else None,
        deferred=plan.schedule == "deferred",
        slots=plan.attention == "triton" and plan.projection == "joint",
    )
