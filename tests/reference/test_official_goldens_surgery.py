"""Parity with CLIP Surgery's code, ViTs and ResNets, and with the raw map of its repository: their stored answers, from weights and inputs
that a seed makes here again, are what `official=True` runs.

The files are written by benchmarks/official_goldens/from_checkouts/clip_surgery.py, which lists the cases and says what surprises.
"""

from functools import cache

import pytest
import torch
from torch import Tensor

import checkout_goldens as goldens
import resnet_towers
from fastloc.checkpoints import resnet_spec, resnet_weights
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.functional import resnet, vit
from fastloc.functional.output import Output
from fastloc.functional.readout import similarity
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.recipes import Recipe, recipe
from fastloc.reference import first_tokens, parts, readouts, scores
from fastloc.reference import resnet as reference_resnet
from towers import error

NAMES = goldens.names("clip_surgery")


def row_of(name: str) -> Recipe:
    return recipe("clip_surgery" if goldens.golden(name)[0]["surgery"] else "itsm", official=True)


def is_resnet(name: str) -> bool:
    return bool(goldens.golden(name)[0]["tower"] == "resnet")


@cache
def resnet_tower(name: str, dtype: torch.dtype) -> ResNetWeights:
    meta, _ = goldens.golden(name)
    vision = {"head_width": 64, **meta["model"]["vision_cfg"]}
    state = {f"visual.{key}": each for key, each in resnet_towers.network(meta["seed"], **vision).state_dict().items()}
    return resnet_weights.from_open_clip(state, resnet_spec.from_open_clip(resnet_towers.config(**vision))).to(dtype=dtype)


def found(name: str, dtype: torch.dtype = torch.float64) -> Output:
    """The fast path, with its image embedding."""
    pixels = goldens.pixels(name, dtype=dtype)
    if is_resnet(name):
        return resnet.forward(resnet_tower(name, dtype), pixels, row_of(name), cls=True)
    return vit.forward(goldens.tower(name, dtype), pixels, row_of(name), cls=True)


def tokens(out: Output) -> Tensor:
    """[1, 1 + P, E], the image embedding first."""
    assert out.cls is not None
    return torch.cat([out.cls[:, None], out.patches], 1)


def stated(name: str) -> Tensor:
    """The reference's tokens [1, 1 + P, E], the image embedding first."""
    pixels, row = goldens.pixels(name), row_of(name)
    if is_resnet(name):
        kept = first_tokens.keeping_position(resnet_tower(name, torch.float64), pixels)
        return (reference_resnet.clip_surgery if goldens.golden(name)[0]["surgery"] else reference_resnet.raw_map)(kept, pixels)
    embedding, _ = parts.encoder(first_tokens.keeping_position(goldens.tower(name), pixels), pixels, row.position)
    return torch.cat([embedding[:, None], scores.features(goldens.tower(name), pixels, row)], 1)


def expected(name: str, key: str) -> Tensor:
    return torch.from_numpy(goldens.golden(name)[1][key])


def test_all_goldens_are_there() -> None:
    assert len(NAMES) == 11, NAMES


@pytest.mark.parametrize("name", NAMES)
def test_tokens(name: str) -> None:
    assert error(tokens(found(name)), expected(name, "tokens")) < 1e-9
    assert error(stated(name), expected(name, "tokens")) < 1e-9


@pytest.mark.slow("every golden a second time", quick=3)
@pytest.mark.parametrize("name", NAMES)
def test_tokens_in_float32(name: str) -> None:
    assert error(tokens(found(name, torch.float32)), expected(name, "tokens")) < 1e-5


@pytest.mark.parametrize("name", [name for name in NAMES if "raw" not in name])
def test_feature_surgery(name: str) -> None:
    for dtype, limit in goldens.precisions():
        out, texts, row = found(name, dtype), goldens.texts(name, dtype), row_of(name)
        several = similarity(out, texts, row.readout).flatten(2).transpose(1, 2)
        single = similarity(out, texts[:1], row.readout, expected(name, "empty").to(dtype)).flatten(2).transpose(1, 2)
        assert error(several, expected(name, "several")[:, 1:]) < limit, dtype
        assert error(single, expected(name, "single")[:, 1:]) < limit, dtype
    literal, texts = stated(name), goldens.texts(name)
    assert error(readouts.feature_surgery(literal, texts), expected(name, "several")) < 1e-9
    assert error(readouts.minus_empty(literal, texts[:1], expected(name, "empty")), expected(name, "single")) < 1e-9


@pytest.mark.parametrize("name", [name for name in NAMES if "heatmaps" in goldens.golden(name)[1]])
def test_maps(name: str) -> None:
    meta, _ = goldens.golden(name)
    grids = similarity(found(name), goldens.texts(name), row_of(name).readout)[0].numpy()
    geometry = fit(tuple(meta["picture"]), tuple(meta["size"]), 32 if is_resnet(name) else 16)
    maps = heatmaps.heatmaps(grids, geometry, row_of(name).readout.order)[:, :: meta["step"], :: meta["step"]]
    assert error(torch.from_numpy(maps), expected(name, "heatmaps")) < 1e-9


def test_the_row_s_raw_map_on_resnets_is_another() -> None:
    """The row reads each position alone; the released map attends."""
    name = "clip_surgery_raw_resnet"
    alone = resnet.forward(resnet_tower(name, torch.float64), goldens.pixels(name), recipe("itsm"))
    assert error(alone.patches, expected(name, "tokens")[:, 1:]) > 0.1
