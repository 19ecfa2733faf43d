"""Similarities on the patch grid -> heatmaps and labels on the picture, by a Triton kernel or in plain PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastloc.errors import FastlocError
from fastloc.functional import heatmaps as plain
from fastloc.functional.heatmaps import check_order, checked, tables
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heatmaps import through_input
from fastloc.kernels import device

__all__ = ["heatmaps", "labels"]


def heatmaps(
    similarity: Tensor, geometry: Geometry, order: str = "picture", logit_scale: float | None = None, reverse: bool = False,
    *, dtype: torch.dtype = torch.float32, fused: bool = False,
) -> Tensor:  # fmt: skip
    """Heatmaps [B, T, H, W], see `fastloc.functional.heatmaps.heatmaps`. `fused` runs the Triton kernel, which takes no float64.

    Raises FastlocError as that function does, and where `fused` is set and the kernel cannot run.
    """
    if not fused:
        return plain.heatmaps(similarity, geometry, order, logit_scale, reverse, dtype=dtype)
    check_order(order, logit_scale, reverse, dtype)
    return _fused("heatmap", checked(similarity), geometry, order=order, logit_scale=logit_scale, reverse=reverse, dtype=dtype)


def labels(
    similarity: Tensor, geometry: Geometry, threshold: float | None = None, order: str = "none", *, fused: bool = False
) -> Tensor:
    """Labels int32 [B, H, W], see `fastloc.functional.heatmaps.labels`.

    `fused` runs the Triton kernel, unless maps pass the input's pixels.
    Raises FastlocError as `heatmaps` does.
    """
    if not fused or through_input(order):
        return plain.labels(similarity, geometry, threshold, order)
    return _fused("label_map", checked(similarity), geometry, threshold=threshold)


def _fused(name: str, values: Tensor, geometry: Geometry, **options: Any) -> Tensor:
    """Run the kernel `name` on the similarities. Raises FastlocError where it cannot run, with the device's reasons or its own."""
    # checked first: without triton the op's module cannot be imported
    if not (reasons := device.why_not(values.device)):
        from fastloc.kernels.table import OPS

        op, at = OPS[name].module, tables(geometry, (values.shape[-2], values.shape[-1]), values.device)
        values = values.contiguous()
        if not (reasons := op.why_not(values, *at, **options)):
            made: Tensor = getattr(op, name)(values, *at, **options)
            return made
    raise FastlocError(f"{name} has no kernel for this: " + "; ".join(reasons))
