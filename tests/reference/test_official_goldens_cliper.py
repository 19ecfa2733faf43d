"""Parity with CLIPer's own code: its stored answers, from weights and inputs that a seed makes here again.

The files are written by benchmarks/official_goldens/from_checkouts/cliper.py, which lists the cases and says what surprises in that code.
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
from fastloc.functional.blocks import embed
from fastloc.functional.folding import fold
from fastloc.functional.methods.cliper import levels
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.similarity import grids
from fastloc.functional.target import FIRST
from fastloc.functional.vit import positions
from fastloc.recipes import Recipe, recipe
from fastloc.reference import relevance
from repo import GOLDENS
from towers import error

NAMES = sorted(path.stem for path in GOLDENS.glob("cliper_*.npz"))
# relative to the largest value
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
Arguments = tuple[Weights, Tensor, Tensor, Tensor | None, Recipe]


@cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return json.loads(str(file["meta"])), {key: file[key] for key in file.files if key != "meta"}


def arguments_of(name: str, dtype: torch.dtype = torch.float64) -> Arguments:
    meta, arrays = golden(name)
    state = {key: torch.from_numpy(array) for key, array in seeded_state(vision_shapes(meta["model"]), meta["seed"]).items()}
    pixels = torch.from_numpy(seeded_pixels((1, 3, *meta["size"]), meta["seed"]))
    background = torch.from_numpy(arrays["background"][0]).to(dtype) if meta["background"] else None
    row = recipe("cliper", target_scale=float(meta["scale"]), cutoff=meta["cutoff"], start=meta["level"])
    tower = weights_of(state, spec_of(meta["model"])).to(dtype=dtype)
    return tower, pixels.to(dtype), torch.from_numpy(arrays["texts"]).to(dtype), background, row


def test_all_goldens_are_there() -> None:
    assert len(NAMES) == 5, NAMES
    for name in NAMES:
        source = golden(name)[0]["source"]
        assert source["repository"] == "linsun449/cliper.code" and len(source["commit"]) == 40


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES)
def test_the_fast_path_is_the_official_answer(name: str, dtype: str) -> None:
    weights, pixels, texts, empty, row = arguments_of(name, getattr(torch, dtype))
    found, _ = grids(weights, pixels, texts, row, empty)
    assert error(found[0], torch.from_numpy(golden(name)[1]["seg"])) < TOLERANCE[dtype]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_the_official_answer(name: str) -> None:
    weights, pixels, texts, empty, row = arguments_of(name)
    found = relevance.relevance(weights, pixels, texts, row, empty)[0].T
    expected = torch.from_numpy(golden(name)[1]["seg"])
    assert error(found.reshape(expected.shape), expected) < TOLERANCE["float64"]


# maps kept, one head's at a time, and row by row
@pytest.mark.parametrize("most", [None, 1000, 1])
@pytest.mark.parametrize("name", NAMES)
def test_features_and_attention_are_the_official_ones(name: str, most: int | None) -> None:
    weights, pixels, _, _, row = arguments_of(name)
    prepared, arrays = fold(weights, row), golden(name)[1]
    tokens, grid = patch_tokens(prepared.weights, pixels)
    places = positions(prepared.weights, grid, row)
    found = levels(prepared, embed(prepared.weights, tokens, places, TORCH), places, Ops(most=most), FIRST)
    assert error(found.patches[:, 0], torch.from_numpy(arrays["features"])) < TOLERANCE["float64"]
    each_patch = torch.eye(tokens.shape[1], dtype=torch.float64)[None]
    assert error(found.refined(each_patch)[0], torch.from_numpy(arrays["attention"])) < TOLERANCE["float64"]


@pytest.mark.parametrize(
    "wrong", [{"start": 0}, {"cutoff": 0.6}, {"target_scale": 21.0}, {"position": "bicubic"}, {"empty": None}], ids=str
)
def test_the_goldens_would_notice_another_setting(wrong: dict[str, Any]) -> None:
    name = "cliper_wide" if "position" in wrong else "cliper_square"
    weights, pixels, texts, empty, row = arguments_of(name)
    changes = {"start": row.start, "cutoff": row.cutoff, "target_scale": row.target_scale, "empty": empty, **wrong}
    found, _ = grids(weights, pixels, texts, recipe("cliper", **{k: v for k, v in changes.items() if k != "empty"}), changes["empty"])
    assert error(found[0], torch.from_numpy(golden(name)[1]["seg"])) > 1e-3, "another setting would go unnoticed"
