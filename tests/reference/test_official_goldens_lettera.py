"""Parity with the authors' own code of CLIP Surgery, SCLIP, ClearCLIP, NACLIP and ResCLIP: their stored answers, from weights and inputs
that a seed makes here again, against what `official=True` runs.

The files are written by benchmarks/official_goldens/from_checkouts; its scripts list the cases and say what surprises in the code.
Tolerances are max abs error / max abs wanted. NACLIP and ResCLIP compute their Gaussian in float32.
"""

import json
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import resnet_towers
from fastloc.bench.peers.seeded import seeded_pixels, seeded_state, vision_shapes
from fastloc.checkpoints import resnet_spec, resnet_weights
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.vit_layouts import from_open_clip as weights_of
from fastloc.checkpoints.vit_spec import from_open_clip as spec_of
from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional import resnet, vit
from fastloc.functional.output import Output
from fastloc.functional.readout import similarity
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.recipes import Recipe, recipe
from fastloc.reference import parts
from fastloc.reference import resnet as reference_resnet
from fastloc.reference import scores as literal
from repo import GOLDENS

METHODS = ("sclip", "clearclip", "naclip", "resclip")
NAMES = sorted(path.stem for method in METHODS for path in GOLDENS.glob(f"{method}_*.npz"))
SURGERY = sorted(path.stem for path in GOLDENS.glob("clip_surgery_*.npz"))
EXACT, SINGLE = 1e-9, 1e-6
TOLERANCE = {"sclip": EXACT, "clearclip": EXACT, "naclip": SINGLE, "resclip": SINGLE}

Floats = npt.NDArray[Any]


@cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return json.loads(str(file["meta"])), {key: torch.from_numpy(file[key]) for key in file.files if key != "meta"}


def row_of(name: str, official: bool = True) -> Recipe:
    if name.startswith("clip_surgery"):
        return recipe("clip_surgery" if golden(name)[0]["surgery"] else "itsm", official=official)
    return recipe(name.partition("_")[0], official=official)


def tower_of(meta: dict[str, Any]) -> Weights:
    state = {key: torch.from_numpy(array) for key, array in seeded_state(vision_shapes(meta["model"]), meta["seed"]).items()}
    return weights_of(state, spec_of(meta["model"])).to(dtype=torch.float64)


def inputs_of(meta: dict[str, Any]) -> Tensor:
    return torch.from_numpy(seeded_pixels((meta.get("batch", 1), 3, *meta["size"]), meta["seed"])).double()


def off(found: Tensor | Floats, wanted: Tensor) -> float:
    found = torch.as_tensor(found)
    assert found.shape == wanted.shape and torch.isfinite(found).all(), f"{tuple(found.shape)} instead of {tuple(wanted.shape)}"
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_all_goldens_are_there_and_say_where_they_are_from() -> None:
    assert len(NAMES) == 16 and len(SURGERY) == 11
    for name in (*NAMES, *SURGERY):
        source = golden(name)[0]["source"]
        assert source["repository"].count("/") == 1 and len(source["commit"]) == 40
        assert (GOLDENS / f"{name}.npz").stat().st_size < 60_000


# SCLIP and its kin


@pytest.mark.parametrize("name", NAMES)
def test_patches_are_the_authors(name: str) -> None:
    meta, arrays = golden(name)
    tower, pixels, row = tower_of(meta), inputs_of(meta), row_of(name)
    limit = TOLERANCE[row.name]
    assert off(vit.forward(tower, pixels, row).patches, arrays["patches"]) < limit
    assert off(literal.features(tower, pixels, row), arrays["patches"]) < limit


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_the_authors(name: str) -> None:
    meta, arrays = golden(name)
    tower, pixels, row = tower_of(meta), inputs_of(meta)[:1], row_of(name)
    step, size, picture = meta["step"], tuple(meta["size"]), tuple(meta["picture"])
    grids = similarity(vit.forward(tower, pixels, row), arrays["texts"], row.readout)[0].numpy()
    upsampled = heatmaps.upsample(grids, fit(size, size, 16))
    assert off(upsampled[:, ::step, ::step], arrays["upsampled"]) < TOLERANCE[row.name]
    if meta["texts"] == 1:
        assert "heatmaps" not in arrays
        return
    shares = heatmaps.heatmaps(grids, fit(picture, size, 16), row.readout.order, row.readout.scale)
    # exponents are 40 or 50 times as far off
    assert off(shares[:, ::step, ::step], arrays["heatmaps"]) < 100 * TOLERANCE[row.name]
    through = size if heatmaps.through_input(row.readout.order) else None
    scores = literal.scores(tower, pixels, arrays["texts"], row)
    grid = (size[0] // 16, size[1] // 16)
    assert row.readout.scale is not None
    stated = parts.segmentation_map(scores, grid, picture, row.readout.scale, through)
    assert off(stated[0, :, ::step, ::step], arrays["heatmaps"]) < 100 * TOLERANCE[row.name]


@pytest.mark.parametrize("name", ["sclip_same_count", "clearclip_same_count", "naclip_same_count", "resclip_same_count"])
def test_the_row_resizes_positions_where_the_authors_keep_them(name: str) -> None:
    meta, arrays = golden(name)
    assert off(vit.forward(tower_of(meta), inputs_of(meta), row_of(name, False)).patches, arrays["patches"]) > 1e-3


def test_what_else_the_forms_change_is_seen() -> None:
    """Each change alone, left out, is off by far more than any tolerance."""
    meta, arrays = golden("resclip_wide")
    tower, pixels = tower_of(meta), inputs_of(meta)
    for field, usual in (("cross_weight", 0.3), ("gain", 1.0)):
        row = recipe("resclip", official=True, **{field: usual})
        # without its residual the scale of a local path is none of its direction
        found = torch.nn.functional.normalize(vit.forward(tower, pixels, row).patches, dim=-1)
        wanted = torch.nn.functional.normalize(arrays["patches"], dim=-1)
        assert off(found, wanted) > 1e-4, field
    share = recipe("resclip", official=True, cross=(5 / 12, 9 / 12), cross_blocks=())
    assert off(vit.forward(tower, pixels, share).patches, arrays["patches"]) > 1e-3
    meta, arrays = golden("naclip_wide")
    tower, pixels, row = tower_of(meta), inputs_of(meta), row_of("naclip_wide")
    grids = similarity(vit.forward(tower, pixels, row), arrays["texts"], row.readout)[0].numpy()
    at_once = heatmaps.heatmaps(grids, fit(tuple(meta["picture"]), tuple(meta["size"]), 16), "softmax", 40.0)
    assert off(at_once[:, :: meta["step"], :: meta["step"]], arrays["heatmaps"]) > 1e-3


# CLIP Surgery, and the raw map of its repository


def run(name: str) -> tuple[Output, Tensor]:
    """The fast path with its image embedding, and the reference's tokens [1, 1 + P, E], the image embedding first."""
    meta, _ = golden(name)
    row, pixels = row_of(name), inputs_of(meta)
    if meta["tower"] == "resnet":
        tower = resnet_tower(meta)
        kept = parts.keeping_position(tower, pixels)
        stated = reference_resnet.clip_surgery(kept, pixels) if meta["surgery"] else reference_resnet.raw_map(kept, pixels)
        return resnet.forward(tower, pixels, row, cls=True), stated
    weights = tower_of(meta)
    embedding, _ = parts.encoder(parts.keeping_position(weights, pixels), pixels, row.position)
    stated = torch.cat([embedding[:, None], literal.features(weights, pixels, row)], 1)
    return vit.forward(weights, pixels, row, cls=True), stated


def resnet_tower(meta: dict[str, Any]) -> ResNetWeights:
    vision = {"head_width": 64, **meta["model"]["vision_cfg"]}
    state = {f"visual.{name}": each for name, each in resnet_towers.network(meta["seed"], **vision).state_dict().items()}
    return resnet_weights.from_open_clip(state, resnet_spec.from_open_clip(resnet_towers.config(**vision))).to(dtype=torch.float64)


@pytest.mark.parametrize("name", SURGERY)
def test_tokens_are_the_authors(name: str) -> None:
    _, arrays = golden(name)
    out, stated = run(name)
    assert out.cls is not None
    assert off(torch.cat([out.cls[:, None], out.patches], 1), arrays["tokens"]) < EXACT
    assert off(stated, arrays["tokens"]) < EXACT


@pytest.mark.parametrize("name", [name for name in SURGERY if "raw" not in name])
def test_feature_surgery_and_its_maps_are_the_authors(name: str) -> None:
    meta, arrays = golden(name)
    row, (out, stated), texts = row_of(name), run(name), arrays["texts"]
    several = similarity(out, texts, row.readout)
    assert off(several.flatten(2).transpose(1, 2), arrays["several"][:, 1:]) < EXACT
    single = similarity(out, texts[:1], row.readout, arrays["empty"])
    assert off(single.flatten(2).transpose(1, 2), arrays["single"][:, 1:]) < EXACT
    assert off(parts.feature_surgery(stated, texts), arrays["several"]) < EXACT
    assert off(parts.minus_empty(stated, texts[:1], arrays["empty"]), arrays["single"]) < EXACT
    if "heatmaps" in arrays:
        cell = 32 if meta["tower"] == "resnet" else 16
        maps = heatmaps.heatmaps(several[0].numpy(), fit(tuple(meta["picture"]), tuple(meta["size"]), cell), row.readout.order)
        assert off(maps[:, :: meta["step"], :: meta["step"]], arrays["heatmaps"]) < EXACT


def test_the_row_s_raw_map_on_resnets_is_another() -> None:
    """The row reads each position alone; the released map attends."""
    meta, arrays = golden("clip_surgery_raw_resnet")
    alone = resnet.forward(resnet_tower(meta), inputs_of(meta), recipe("itsm"))
    assert off(alone.patches, arrays["tokens"][:, 1:]) > 0.1
