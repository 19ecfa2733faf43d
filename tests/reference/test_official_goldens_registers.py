"""Parity with the authors' test-time registers and with their search for register neurons: stored answers for seeded towers.

The files are written by benchmarks/official_goldens/from_checkouts/test_time_registers.py, which says what surprises in the authors' code.
"""

import json
from dataclasses import replace
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
from fastloc.engine.registers.search import Rule, neuron_scores
from fastloc.functional.vit import forward
from fastloc.recipes import Recipe, recipe
from fastloc.reference import first_tokens, parts
from fastloc.reference.registers import with_registers
from repo import GOLDENS

NAMES = sorted(path.stem for path in GOLDENS.glob("test_time_registers_*.npz"))
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}

Golden = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]


@cache
def golden(name: str) -> Golden:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return json.loads(str(file["meta"])), {key: file[key] for key in file.files if key != "meta"}


def inputs(meta: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[Weights, Tensor]:
    """The image tower, whose position table is of the case's own grid, and the pictures."""
    height, width = meta["size"]
    shapes = vision_shapes(meta["model"])
    shapes["visual.positional_embedding"] = (1 + height // 8 * (width // 8), shapes["visual.class_embedding"][0])
    state = {name: torch.from_numpy(array) for name, array in seeded_state(shapes, meta["seed"]).items()}
    spec = replace(spec_of(meta["model"]), image=(height, width))
    pixels = torch.from_numpy(seeded_pixels((meta["batch"], 3, height, width), meta["seed"]))
    return weights_of(state, spec).to(dtype=dtype), pixels.to(dtype)


def row_of(meta: dict[str, Any], **changes: Any) -> Recipe:
    return recipe("itsm", **{"registers": meta["registers"], "neurons": meta["neurons"], **changes})


def in_the_authors_order(stream: Tensor, meta: dict[str, Any]) -> npt.NDArray[Any]:
    """[B, 1 + R + P, C] with the registers behind the patches, at the channels that are kept."""
    count = meta["registers"]
    return torch.cat([stream[:, :1], stream[:, 1 + count :], stream[:, 1 : 1 + count]], 1)[..., :: meta["step"]].numpy()


def wrong(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_all_goldens_are_there() -> None:
    assert len(NAMES) == 3
    for name in NAMES:
        source = golden(name)[0]["source"]
        assert source["repository"] == "nickjiang2378/test-time-registers" and len(source["commit"]) == 40


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_fast_path_is_the_official_answer(name: str, dtype: torch.dtype) -> None:
    meta, arrays = golden(name)
    weights, pixels = inputs(meta, dtype)
    last = f"block{meta['layers'] - 1}"
    out = forward(weights, pixels, row_of(meta), cls=True, capture=(last,))
    assert out.cls is not None and wrong(out.cls.numpy(), arrays["embedding"]) < TOLERANCE[dtype]
    assert wrong(in_the_authors_order(out.captured[last], meta), arrays["stream"]) < TOLERANCE[dtype]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_the_official_answer(name: str) -> None:
    meta, arrays = golden(name)
    weights, pixels = inputs(meta)
    tower = with_registers(weights, row_of(meta))
    stream = parts.walk(tower, first_tokens.embed(tower, pixels, "bilinear"), tower.blocks, first_tokens.grid_of(tower, pixels))
    assert wrong(in_the_authors_order(stream, meta), arrays["stream"]) < 1e-9
    assert wrong(parts.pooled(tower, stream).numpy(), arrays["embedding"]) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_the_search_is_the_official_one(name: str) -> None:
    meta, arrays = golden(name)
    weights, pixels = inputs(meta)
    rule = Rule(threshold=meta["threshold"], sparse=meta["sparse"])
    each = [neuron_scores(weights, picture[None], rule) for picture in pixels]
    assert sum(count for _, count, _ in each) == arrays["outliers"]
    mean = torch.stack([scores for scores, count, _ in each if count]).mean(0)
    best = mean.flatten().topk(len(arrays["found"]))
    found = np.array([(*divmod(int(place), mean.shape[1]), float(value)) for value, place in zip(*best, strict=True)])
    assert np.array_equal(found[:, :2], arrays["found"][:, :2])
    assert wrong(found[:, 2], arrays["found"][:, 2]) < 1e-9


@pytest.mark.parametrize("change", [{"registers": 2}, {"neurons": ((0, (3, 77)),)}, {"neurons": ((0, (3, 77)), (2, (5, 6, 401)))}], ids=str)
def test_the_goldens_would_notice_another_setting(change: dict[str, Any]) -> None:
    meta, arrays = golden("test_time_registers_default")
    weights, pixels = inputs(meta)
    out = forward(weights, pixels, row_of(meta, **change), cls=True)
    assert out.cls is not None and wrong(out.cls.numpy(), arrays["embedding"]) > 1e-4
