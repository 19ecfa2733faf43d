"""Parity with legrad_torch and grad-cam: their stored answers, from weights and inputs that a seed makes here again.

The files are written by `python benchmarks/goldens.py`; benchmarks/official_goldens/relevance.py lists the cases and says what
surprises in the official code. grad-cam's heatmaps are float32, with 1e-7 added to their range; everything else is float64.
"""

import json
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fastloc.bench.peers.seeded import seeded_pixels, seeded_state, vision_shapes
from fastloc.checkpoints.vit_layouts import from_open_clip as weights_of
from fastloc.checkpoints.vit_spec import from_open_clip as spec_of
from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional.similarity import grids
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.recipes import Recipe, recipe
from fastloc.reference import relevance
from repo import GOLDENS

NAMES = sorted(path.stem for package in ("legrad", "grad_cam_vit") for path in GOLDENS.glob(f"{package}_*.npz"))
TOLERANCE = {"grids": 1e-10, "heatmaps": 1e-10, "resized": 1e-6, "grad_cam heatmaps": 3e-6, "float32": 1e-4}

Floats = npt.NDArray[Any]


@cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, Floats]]:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return json.loads(str(file["meta"])), {key: file[key] for key in file.files if key != "meta"}


def row_of(meta: dict[str, Any]) -> Recipe:
    if meta["package"] == "legrad":
        return recipe("legrad", start=meta["start"])
    return recipe("grad_cam", target=meta["target"], target_scale=meta["scale"])


def inputs(name: str, dtype: torch.dtype) -> tuple[Weights, torch.Tensor, torch.Tensor]:
    meta, arrays = golden(name)
    state = {key: torch.from_numpy(array) for key, array in seeded_state(vision_shapes(meta["model"]), meta["seed"]).items()}
    pixels = seeded_pixels((meta["batch"], 3, meta["size"], meta["size"]), meta["seed"])
    tower = weights_of(state, spec_of(meta["model"])).to(dtype=dtype)
    return tower, torch.from_numpy(pixels).to(dtype), torch.from_numpy(arrays["texts"]).to(dtype)


def shown(found: torch.Tensor, meta: dict[str, Any]) -> Floats:
    """Heatmaps of grids [B, T, h, w], sampled as the file's are."""
    geometry = fit((meta["size"], meta["size"]), (meta["size"], meta["size"]), 8)
    order = row_of(meta).readout.order
    return np.stack([heatmaps.heatmaps(each.numpy(), geometry, order) for each in found])[..., :: meta["step"], :: meta["step"]]


def check(name: str, found: torch.Tensor, dtype: str = "float64") -> None:
    meta, arrays = golden(name)
    expected = arrays["heatmaps"] if meta["package"] == "grad_cam" else arrays["heatmaps"][None]
    heat = shown(found, meta)
    assert heat.shape == expected.shape
    # legrad resizes positions in float32
    exact = "grad_cam heatmaps" if meta["package"] == "grad_cam" else "resized" if meta["size"] != 48 else "heatmaps"
    limit = TOLERANCE["float32" if dtype == "float32" else exact]
    assert np.abs(heat - expected).max() < limit, f"{name}: heatmaps are off by {np.abs(heat - expected).max():.1e}"
    if "grids" in arrays:
        error = np.abs(found.numpy() - arrays["grids"]).max() / np.abs(arrays["grids"]).max()
        assert error < TOLERANCE["float32" if dtype == "float32" else "grids"], f"{name}: grids are off by {error:.1e}"


def test_all_goldens_are_there() -> None:
    assert len(NAMES) == 10, NAMES


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_the_fast_path_is_the_official_answer(name: str, dtype: str) -> None:
    check(name, grids(*inputs(name, getattr(torch, dtype)), row_of(golden(name)[0]))[0], dtype)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_the_official_answer(name: str) -> None:
    meta, _ = golden(name)
    found = relevance.relevance(*inputs(name, torch.float64), row_of(meta)).transpose(1, 2)
    check(name, found.reshape(*found.shape[:2], meta["size"] // 8, meta["size"] // 8))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("legrad_default", {"start": -1}), ("legrad_default", {"start": 0}), ("grad_cam_vit_default", {"target": "logit"}),
     ("grad_cam_vit_default", {"target_scale": 30.0}),
     ("grad_cam_vit_clip_es", {"target": "softmax"}), ("grad_cam_vit_larger", {"position": "bicubic"})],
)  # fmt: skip
def test_the_goldens_would_notice_another_setting(name: str, wrong: dict[str, Any]) -> None:
    meta, arrays = golden(name)
    weights, pixels, texts = inputs(name, torch.float64)
    row = row_of(meta)
    changed = recipe(row.name, **{"start": row.start, "target": row.target, "target_scale": row.target_scale, **wrong})
    found = shown(grids(weights, pixels, texts, changed)[0], meta)
    assert np.abs(found - arrays["heatmaps"]).max() > 1e-3, "another setting would go unnoticed"
