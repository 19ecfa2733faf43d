"""Parity with PEARL's and ITACLIP's own code: their stored answers, from weights and inputs that a seed makes here again, against what
`official=True` runs and against the literal statement.

The files are written by benchmarks/official_goldens/from_checkouts; its scripts list the cases and say what surprises in the code.
"""

import json
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from fastloc.bench.peers.seeded import seeded_pixels, seeded_state, vision_shapes
from fastloc.checkpoints.vit_layouts import from_open_clip as weights_of
from fastloc.checkpoints.vit_spec import from_open_clip as spec_of
from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional.readout import similarity
from fastloc.functional.vit import forward
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.recipes import Recipe, recipe
from fastloc.reference import readouts
from fastloc.reference import scores as literal
from repo import GOLDENS

NAMES = sorted(path.stem for method in ("pearl", "itaclip") for path in GOLDENS.glob(f"{method}_*.npz") if "propagation" not in path.stem)
EXACT = 1e-9


@cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return json.loads(str(file["meta"])), {key: torch.from_numpy(file[key]) for key in file.files if key != "meta"}


def inputs(meta: dict[str, Any]) -> tuple[Weights, Tensor]:
    state = {key: torch.from_numpy(array) for key, array in seeded_state(vision_shapes(meta["model"]), meta["seed"]).items()}
    weights = weights_of(state, spec_of(meta["model"])).to(dtype=torch.float64)
    return weights, torch.from_numpy(seeded_pixels((meta["batch"], 3, *meta["size"]), meta["seed"])).double()


def row_of(name: str, **changes: Any) -> Recipe:
    return recipe(name.partition("_")[0], official=True, **{**golden(name)[0]["changes"], **changes})


def off(found: Tensor | npt.NDArray[Any], expected: Tensor) -> float:
    found = torch.as_tensor(found)
    assert found.shape == expected.shape and found.isfinite().all(), f"{tuple(found.shape)} instead of {tuple(expected.shape)}"
    return float((found - expected).abs().max() / expected.abs().max())


def test_all_goldens_are_there() -> None:
    assert len(NAMES) == 8
    for name in NAMES:
        source = golden(name)[0]["source"]
        assert source["repository"] in ("PGSmall/PEARL", "m-arda-aydn/ITACLIP") and len(source["commit"]) == 40


@pytest.mark.parametrize("name", NAMES)
def test_patches_and_maps_are_the_authors(name: str) -> None:
    meta, expected = golden(name)
    (weights, pixels), row = inputs(meta), row_of(name)
    out = forward(weights, pixels, row)
    assert off(out.patches, expected["patches"]) < EXACT
    assert off(literal.features(weights, pixels, row), expected["patches"]) < EXACT
    step, size, picture = meta["step"], tuple(meta["size"]), tuple(meta["picture"])
    grids = similarity(out, expected["texts"], row.readout)[0].numpy()
    assert off(heatmaps.upsample(grids, fit(size, size, 16))[:, ::step, ::step], expected["upsampled"]) < EXACT
    if meta["texts"] == 1:
        # whose share is 1 everywhere
        return
    shares = heatmaps.heatmaps(grids, fit(picture, size, 16), row.readout.order, row.readout.scale)
    # exponents are 40 times as far off
    assert off(shares[:, ::step, ::step], expected["heatmaps"]) < 100 * EXACT
    scores, grid = literal.scores(weights, pixels, expected["texts"], row), (size[0] // 16, size[1] // 16)
    assert row.readout.scale is not None
    through = size if heatmaps.through_input(row.readout.order) else None
    stated = readouts.segmentation_map(scores, grid, picture, row.readout.scale, through)
    assert off(stated[0, :, ::step, ::step], expected["heatmaps"]) < 100 * EXACT


@pytest.mark.parametrize(("name", "changes"), [
    ("pearl_wide", {"procrustes_weight": 0.08}), ("pearl_same_count", {"keep_position": False}),
    ("itaclip_same_count", {"keep_position": False}), ("itaclip_wide", {"cross_blocks": (6 / 12, 7 / 12, 9 / 12)}),
    ("itaclip_trained", {"cross_terms": "qk"}),
])  # fmt: skip
def test_what_the_forms_change_is_seen(name: str, changes: dict[str, Any]) -> None:
    meta, expected = golden(name)
    weights, pixels = inputs(meta)
    assert off(forward(weights, pixels, row_of(name, **changes)).patches, expected["patches"]) > 1e-4
