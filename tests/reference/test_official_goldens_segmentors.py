"""Parity with the code of SCLIP, ClearCLIP, NACLIP and ResCLIP: their stored answers, from weights and inputs that a seed makes here again,
are what `official=True` runs.

The files are written by benchmarks/official_goldens/from_checkouts; its scripts list the cases and say what surprises in the code. NACLIP
and ResCLIP compute their Gaussian in float32.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

import checkout_goldens as goldens
from fastloc.functional import vit
from fastloc.functional.similarity import grids
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.recipes import Recipe, recipe
from fastloc.reference import readouts, scores
from towers import error

METHODS = ("sclip", "clearclip", "naclip", "resclip")
NAMES = [(method, name) for method in METHODS for name in goldens.names(method)]
PATCH = 16


def row_of(name: str, official: bool = True, **changes: Any) -> Recipe:
    return recipe(name.partition("_")[0], official=official, **changes)


def patches(name: str, row: Recipe, dtype: torch.dtype = torch.float64) -> Tensor:
    return vit.forward(goldens.tower(name, dtype), goldens.pixels(name, dtype=dtype), row).patches


def expected(name: str, key: str) -> Tensor:
    return torch.from_numpy(goldens.golden(name)[1][key])


def allowed(method: str, limit: float) -> float:
    return max(limit, 2e-8) if method in ("naclip", "resclip") else limit


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the input and of the picture."""
    meta, _ = goldens.golden(name)
    return (meta["size"][0], meta["size"][1]), (meta["picture"][0], meta["picture"][1])


def test_all_goldens_are_there() -> None:
    assert len(NAMES) == 16, NAMES


@pytest.mark.parametrize(("method", "name"), NAMES)
def test_features(method: str, name: str) -> None:
    assert error(patches(name, row_of(name)), expected(name, "patches")) < allowed(method, 1e-9)
    literal = scores.features(goldens.tower(name), goldens.pixels(name), row_of(name))
    assert error(literal, expected(name, "patches")) < allowed(method, 1e-9)


@pytest.mark.slow("every golden a second time", quick="method")
@pytest.mark.parametrize(("method", "name"), NAMES)
def test_features_in_float32(method: str, name: str) -> None:
    assert error(patches(name, row_of(name), torch.float32), expected(name, "patches")) < 1e-5


@pytest.mark.parametrize(("method", "name"), NAMES)
def test_maps(method: str, name: str) -> None:
    meta, arrays = goldens.golden(name)
    row, (size, picture), step = row_of(name), sizes(name), meta["step"]
    pixels, texts = goldens.pixels(name)[:1], goldens.texts(name)
    found = grids(goldens.tower(name), pixels, texts, row)[0][0].numpy()
    upsampled = heatmaps.upsample(found, fit(size, size, PATCH))[:, ::step, ::step]
    assert error(torch.from_numpy(upsampled), expected(name, "upsampled")) < allowed(method, 1e-9)
    if len(texts) == 1:
        # whose share is 1 wherever one looks
        assert "heatmaps" not in arrays
        return
    # exponents are 40 or 50 times as far off
    limit, scale = allowed(method, 1e-9) * 100, row.readout.scale
    assert scale is not None
    shares = heatmaps.heatmaps(found, fit(picture, size, PATCH), row.readout.order, scale)[:, ::step, ::step]
    assert error(torch.from_numpy(shares), expected(name, "heatmaps")) < limit
    through = size if heatmaps.through_input(row.readout.order) else None
    literal = scores.scores(goldens.tower(name), pixels, texts, row)
    stated = readouts.segmentation_map(literal, (size[0] // PATCH, size[1] // PATCH), picture, scale, through)
    assert error(stated[0, :, ::step, ::step], expected(name, "heatmaps")) < limit


@pytest.mark.parametrize(("method", "name"), [pair for pair in NAMES if "same_count" in pair[1]])
def test_as_many_patches_keep_the_table(method: str, name: str) -> None:
    resized = patches(name, row_of(name, keep_position=False))
    assert error(resized, expected(name, "patches")) > 1e-3


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resclip_wide", {"cross_weight": 0.3}),
        ("resclip_wide", {"gain": 1.0}),
        # of sixteen blocks a share of the depth names others
        ("resclip_wide", {"cross_blocks": (), "cross": (5 / 12, 9 / 12)}),
        ("naclip_wide", {"bias_std": 1.0}),
        ("sclip_wide", {"combine": "mean"}),
        ("clearclip_wide", {"terms": ("kk",)}),
    ],
)
def test_the_goldens_would_notice_another_row(name: str, changes: dict[str, Any]) -> None:
    assert error(patches(name, row_of(name, **changes)), expected(name, "patches")) > 1e-3


def test_the_goldens_would_notice_one_step_to_the_picture() -> None:
    name = "naclip_wide"
    (size, picture), step = sizes(name), goldens.golden(name)[0]["step"]
    found = grids(goldens.tower(name), goldens.pixels(name), goldens.texts(name), row_of(name))[0][0].numpy()
    at_once = heatmaps.heatmaps(found, fit(picture, size, PATCH), "softmax", 40.0)[:, ::step, ::step]
    assert error(torch.from_numpy(at_once), expected(name, "heatmaps")) > 1e-3
