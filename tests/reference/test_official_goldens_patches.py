"""Parity with the code of MaskCLIP, CLIPtrase and TagCLIP: their stored answers, from weights and inputs that a seed makes here again.

The files are written by benchmarks/official_goldens/from_checkouts; its scripts list the cases and say what surprises in the code.
"""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import checkout_goldens as goldens
from fastloc.functional import vit
from fastloc.functional.similarity import grids
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import Geometry, fit
from fastloc.imaging.preprocess import prepare
from fastloc.recipes import RECIPES, Recipe, recipe
from fastloc.recipes.official import OFFICIAL
from fastloc.reference import scores
from towers import error

NAMES = goldens.names("maskclip", "cliptrase", "tagclip")
# OpenAI's, with which TagCLIP's pictures are normalised
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def method_of(name: str) -> str:
    return name.partition("_")[0]


def row_of(name: str, **changes: Any) -> Recipe:
    return recipe(method_of(name), official=True, **changes).at_scale(goldens.golden(name)[0].get("logit_scale", 1.0))


def geometry_of(name: str) -> Geometry:
    """The picture's place in the input."""
    meta, arrays = goldens.golden(name)
    if "picture" in arrays:
        return fit(arrays["picture"].shape[:2], OFFICIAL["tagclip"].size, 16, OFFICIAL["tagclip"].fit or "")  # type: ignore[arg-type]
    return fit(tuple(meta.get("picture", meta["size"])), tuple(meta["size"]), 16)


def inputs(name: str, dtype: torch.dtype) -> Tensor:
    _, arrays = goldens.golden(name)
    if "picture" not in arrays:
        return goldens.pixels(name, dtype=dtype)
    shown = prepare(Image.fromarray(arrays["picture"]), geometry_of(name), MEAN, STD, "bicubic")
    return torch.from_numpy(shown)[None].to(dtype)


def expected(name: str) -> Tensor:
    found = torch.from_numpy(goldens.golden(name)[1]["patches"])
    return found if found.ndim == 3 else found[None]


def seen(name: str, patches: Tensor) -> Tensor:
    """Patches in the golden file's form: of unit length for CLIPtrase."""
    return torch.nn.functional.normalize(patches, dim=-1) if method_of(name) == "cliptrase" else patches


def allowed(name: str, limit: float) -> float:
    # pictures are float32 on their way to the model
    return max(limit, 1e-6) if "picture" in goldens.golden(name)[1] else limit


def test_all_goldens_are_there() -> None:
    assert len(NAMES) == 10, NAMES


@pytest.mark.parametrize("name", NAMES)
def test_features(name: str) -> None:
    for dtype, limit in goldens.precisions():
        found = vit.forward(goldens.tower(name, dtype), inputs(name, dtype), row_of(name)).patches
        assert error(seen(name, found), expected(name)) < allowed(name, limit), dtype
    literal = scores.features(goldens.tower(name), inputs(name, torch.float64), row_of(name))
    assert error(seen(name, literal), expected(name)) < allowed(name, 1e-9)


@pytest.mark.slow("every golden by the row's own statement", quick="method")
@pytest.mark.parametrize(("method", "name"), [(method_of(name), name) for name in NAMES if "same_count" not in name])
def test_the_row_has_the_official_features(method: str, name: str) -> None:
    """Position tables apart, a form changes how maps are read out and no feature: the published statement of the row is theirs too."""
    row = RECIPES[method].at_scale(goldens.tower(name).logit_scale)
    found = scores.features(goldens.tower(name), inputs(name, torch.float64), row)
    assert error(seen(name, found), expected(name)) < allowed(name, 1e-9)


@pytest.mark.slow("every golden's maps in two precisions", quick="method")
@pytest.mark.parametrize(("method", "name"), [(method_of(name), name) for name in NAMES])
def test_maps(method: str, name: str) -> None:
    meta, arrays = goldens.golden(name)
    for dtype, limit in goldens.precisions():
        row = row_of(name)
        found = grids(goldens.tower(name, dtype), inputs(name, dtype), goldens.texts(name, dtype), row)[0]
        limit = allowed(name, limit)
        if "cosines" in arrays:
            assert error(found, torch.from_numpy(arrays["cosines"])) < limit
        readout = row.readout
        if method == "cliptrase":
            # no softmax is taken there: the logits are compared
            logits = readout.scale * heatmaps.heatmaps(found[0].numpy(), geometry_of(name), "none")  # type: ignore[operator]
            assert error(torch.from_numpy(logits[:, :: meta["step"], :: meta["step"]]), torch.from_numpy(arrays["logits"])) < limit
        elif len(goldens.texts(name)) == 1:
            assert np.all(arrays["shares"] == 1), "one text's share is 1 wherever one looks"
        elif method == "maskclip":
            made = np.stack([heatmaps.heatmaps(each.numpy(), geometry_of(name), readout.order, readout.scale) for each in found])
            shown = made[..., :: meta["step"], :: meta["step"]]
            assert error(torch.from_numpy(shown), torch.from_numpy(arrays["shares"])) < limit
        else:
            # a picture of one pixel a patch
            size = found.shape[-2], found.shape[-1]
            cells = fit(size, (size[0] * 16, size[1] * 16), 16)
            made = heatmaps.heatmaps(found[0].numpy(), cells, readout.order, readout.scale)
            shares = arrays["shares"].T.reshape(made.shape)
            assert error(torch.from_numpy(made), torch.from_numpy(shares)) < limit * float(readout.scale or 1)


@pytest.mark.parametrize("name", goldens.names("tagclip"))
def test_tagclip_s_pictures_keep_their_size(name: str) -> None:
    assert list(geometry_of(name).input) == goldens.golden(name)[0]["size"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [("maskclip_wide", {"logit_scale": 40.0}), ("maskclip_trained", {"order": "softmax"}), ("tagclip_square", {"order": "softmax"})],
)
def test_the_goldens_would_notice_another_read_out(name: str, changes: dict[str, Any]) -> None:
    readout, other = (row_of(name, **each).readout for each in ({}, changes))
    found = grids(goldens.tower(name), inputs(name, torch.float64), goldens.texts(name), row_of(name))[0][0].numpy()
    maps = [heatmaps.heatmaps(found, fit((75, 90), (64, 64), 16), each.order, each.scale) for each in (readout, other)]
    assert error(*map(torch.from_numpy, maps)) > 1e-4


@pytest.mark.parametrize("name", goldens.names("maskclip_same", "cliptrase_same"))
def test_as_many_patches_keep_the_table(name: str) -> None:
    resized = vit.forward(goldens.tower(name), inputs(name, torch.float64), row_of(name, keep_position=False)).patches
    assert error(seen(name, resized), expected(name)) > 1e-3
