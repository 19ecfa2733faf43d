"""Parity with the authors' code of SC-CLIP and SFP: stored answers, from weights and inputs that a seed makes here again.

The files are written by benchmarks/official_goldens/from_checkouts/sc_clip.py and sfp.py in float64. The official code reads square
pictures alone, so all of these are square.
"""

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.bench.peers.seeded import seeded_pixels, seeded_state, vision_shapes
from fastloc.checkpoints.vit_layouts import from_open_clip as weights_of
from fastloc.checkpoints.vit_spec import from_open_clip as spec_of
from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional.readout import similarity
from fastloc.functional.vit import forward
from fastloc.recipes import RECIPES, Recipe, recipe
from fastloc.reference import any_recipe, parts
from repo import GOLDENS
from towers import error

NAMES = sorted(path.stem for method in ("sc_clip", "sfp") for path in GOLDENS.glob(f"{method}_*.npz"))
# the official code says its blocks by number; at a depth of 12 these are the row's own
NUMBERS = (8, 3, 3, 9)


@cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return json.loads(str(file["meta"])), {key: torch.from_numpy(file[key]) for key in file.files if key != "meta"}


def inputs(meta: dict[str, Any], dtype: torch.dtype) -> tuple[Weights, Tensor]:
    model, seed = meta["model"], meta["seed"]
    state = {key: torch.from_numpy(array) for key, array in seeded_state(vision_shapes(model), seed).items()}
    pixels = torch.from_numpy(seeded_pixels((1, 3, meta["size"], meta["size"]), seed))
    return weights_of(state, spec_of(model)).to(dtype=dtype), pixels.to(dtype)


def row(name: str) -> Recipe:
    return RECIPES["sfp" if name.startswith("sfp") else "sc_clip"]


def test_there_are_three_sizes_of_each() -> None:
    assert len(NAMES) == 6 and {golden(name)[0]["count"] for name in NAMES} == {1, 2, 3}


@pytest.mark.parametrize("name", NAMES)
def test_the_literal_reference(name: str) -> None:
    meta, stored = golden(name)
    weights, pixels = inputs(meta, torch.float64)
    assert error(any_recipe.features(weights, pixels, row(name)), stored["patches"]) < 1e-9


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_fast_path(name: str, dtype: torch.dtype, limit: float) -> None:
    meta, stored = golden(name)
    weights, pixels = inputs(meta, dtype)
    out = forward(weights, pixels, row(name))
    assert error(out.patches, stored["patches"]) < limit
    found = similarity(out, stored["texts"].to(dtype), row(name).readout)
    drawn = F.interpolate(found, size=pixels.shape[-2:], mode="bilinear")[..., :: meta["step"], :: meta["step"]]
    assert error(drawn, stored["similarity"]) < limit
    numbered = forward(weights, pixels, recipe(row(name).name, path_blocks=NUMBERS))
    assert torch.equal(numbered.patches, out.patches)


@pytest.mark.parametrize("name", NAMES)
def test_the_answers_are_not_the_encoders_own(name: str) -> None:
    meta, stored = golden(name)
    weights, pixels = inputs(meta, torch.float64)
    assert error(parts.encoder(weights, pixels, "bicubic-scale")[1], stored["patches"]) > 0.1
    other = RECIPES["sc_clip" if row(name).name == "sfp" else "sfp"]
    assert error(forward(weights, pixels, other).patches, stored["patches"]) > 1e-3
