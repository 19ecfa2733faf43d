"""Parity with the code of CLIP-ES, Grad-ECLIP and Bi-Modal: their stored answers, from weights and inputs that a seed makes here again.

The files are written by benchmarks/official_goldens/from_checkouts; its scripts list the cases and say what surprises in the code.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import checkout_goldens as goldens
from fastloc.functional.similarity import grids
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.recipes import Recipe, recipe
from fastloc.reference import relevance
from towers import error

# (file, array, method, changes): the array is what the method says with these changes
MAPS: list[tuple[str, str, str, dict[str, Any]]] = [
    *((name, "grids", "grad_cam_clip_es", {}) for name in goldens.names("clip_es")),
    *(
        (name, array, method, changes)
        for name in goldens.names("grad_eclip")
        for array, method, changes in (
            ("evaluation", "grad_eclip", {}), ("notebook", "grad_eclip", {"compares": "plain"}), ("grad_cam", "grad_cam_input", {}),
        )
    ),
    *(
        (name, "relevance", "bi_modal_last" if goldens.golden(name)[0]["start"] else "bi_modal", {})
        for name in goldens.names("bi_modal")
    ),
]  # fmt: skip


def row_of(name: str, method: str, changes: dict[str, Any]) -> Recipe:
    return recipe(method, official=True, **changes).at_scale(goldens.golden(name)[0].get("logit_scale", 1.0))


def size_of(name: str) -> tuple[int, int]:
    meta, _ = goldens.golden(name)
    return tuple(meta["size"]) if "size" in meta else (8 * meta["grid"], 8 * meta["grid"])  # type: ignore[return-value]


def found(name: str, row: Recipe, dtype: torch.dtype) -> Tensor:
    pixels = goldens.pixels(name, size_of(name), dtype)
    return grids(goldens.tower(name, dtype), pixels, goldens.texts(name, dtype), row)[0][0]


def test_all_goldens_are_there() -> None:
    assert len(MAPS) == 3 + 9 + 4


@pytest.mark.slow("every golden in two precisions", quick="array")
@pytest.mark.parametrize(("name", "array", "method", "changes"), MAPS, ids=str)
def test_maps(name: str, array: str, method: str, changes: dict[str, Any]) -> None:
    row, expected = row_of(name, method, changes), torch.from_numpy(goldens.golden(name)[1][array])
    for dtype, limit in goldens.precisions():
        assert error(found(name, row, dtype), expected) < limit, dtype
    literal = relevance.relevance(goldens.tower(name), goldens.pixels(name, size_of(name)), goldens.texts(name), row)[0].T
    assert error(literal.reshape(expected.shape), expected) < 1e-9


@pytest.mark.parametrize("name", goldens.names("clip_es"))
def test_clip_es_scales_on_the_grid(name: str) -> None:
    maps = found(name, row_of(name, "grad_cam_clip_es", {}), torch.float64).numpy()
    # it adds 1e-7 to the range, in float32
    assert np.abs(heatmaps.minmax(maps) - goldens.golden(name)[1]["scaled"]).max() < 1e-5


def test_chefer_s_example_scales_on_the_picture() -> None:
    name = "bi_modal_example"
    meta, arrays = goldens.golden(name)
    row = row_of(name, "bi_modal", {})
    shown = heatmaps.heatmaps(found(name, row, torch.float64).numpy(), fit((224, 224), 224, 32), row.readout.order)
    assert error(torch.from_numpy(shown[:, :: meta["step"], :: meta["step"]]), torch.from_numpy(arrays["heatmaps"])) < 1e-9


@pytest.mark.parametrize(
    ("name", "array", "method", "changes"),
    [("grad_eclip_wide", "evaluation", "grad_eclip", {"compares": "plain"}), ("grad_eclip_wide", "notebook", "grad_eclip", {}),
     ("grad_eclip_square", "evaluation", "grad_eclip", {"one_head": False}), ("bi_modal_notebook", "relevance", "bi_modal", {}),
     ("clip_es_wide", "grids", "grad_cam_clip_es", {"position": "bicubic"}),
     ("clip_es_square", "grids", "grad_cam_clip_es", {"target": "softmax"})],
)  # fmt: skip
def test_the_goldens_would_notice_another_form(name: str, array: str, method: str, changes: dict[str, Any]) -> None:
    expected = torch.from_numpy(goldens.golden(name)[1][array])
    assert error(found(name, row_of(name, method, changes), torch.float64), expected) > 1e-3
