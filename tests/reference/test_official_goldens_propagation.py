"""Parity with PEARL's own propagation: its stored answers, for the pictures, scores and texts that lie beside them.

The files are written by benchmarks/official_goldens/from_checkouts/pearl_propagation.py, which lists the cases and says what surprises in
the official code. They are float64.
"""

import json
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.imaging.propagation import Propagation, propagate, self_affinity
from fastloc.results.result import Result
from literal_propagation import class_affinity, propagated
from repo import GOLDENS

NAMES = sorted(path.stem for path in GOLDENS.glob("pearl_propagation_*.npz"))
Floats = npt.NDArray[Any]


@cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, Floats]]:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return json.loads(str(file["meta"])), {key: file[key] for key in file.files if key != "meta"}


def enlarged(name: str, dtype: type = np.float64) -> Floats:
    """The scores at the picture's size."""
    _, arrays = golden(name)
    size = arrays["picture"].shape[:2]
    return heatmaps.upsample(arrays["similarity"].astype(dtype), fit(size, size, 1))


def settings(name: str, **changes: Any) -> Propagation:
    meta, arrays = golden(name)
    return Propagation(**{"grid": meta["grid"], "affinity": self_affinity(arrays["texts"]), **changes})


def error(name: str, found: Floats) -> float:
    """The largest difference from the golden over its largest value."""
    meta, arrays = golden(name)
    shown = found[:, :: meta["step"], :: meta["step"]]
    assert shown.shape == arrays["maps"].shape
    return float(np.abs(shown - arrays["maps"]).max() / np.abs(arrays["maps"]).max())


def test_all_goldens_are_there() -> None:
    assert len(NAMES) == 4, NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_fast_path_is_the_official_answer(name: str) -> None:
    picture = golden(name)[1]["picture"]
    assert error(name, propagate(enlarged(name), picture, settings(name))) < 1e-9
    single = propagate(enlarged(name, np.float32), picture, settings(name))
    assert single.dtype == np.float32 and error(name, single) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_the_official_answer(name: str) -> None:
    meta, arrays = golden(name)
    found = propagated(enlarged(name), arrays["picture"], class_affinity(arrays["texts"]), grid=meta["grid"])
    assert error(name, found) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_the_official_answer(name: str) -> None:
    meta, arrays = golden(name)
    picture = Image.fromarray(arrays["picture"])
    texts = tuple(map(str, range(meta["texts"])))
    size = arrays["picture"].shape[:2]
    result = Result(picture=picture, texts=texts, similarity=arrays["similarity"], geometry=fit(size, (7, 9), 1), order="none")
    refined = result.refined("propagate", grid=meta["grid"], affinity=self_affinity(arrays["texts"]))
    assert error(name, refined.heatmaps) < 1e-5


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("default", {"grid": 44}), ("default", {"iterations": 24}), ("default", {"affinity": (0.9, 0.9, 0.9)}), ("sure", {"grid": 27})],
)
def test_the_goldens_would_notice_another_setting(name: str, wrong: dict[str, Any]) -> None:
    name = f"pearl_propagation_{name}"
    found = propagate(enlarged(name), golden(name)[1]["picture"], settings(name, **wrong))
    assert error(name, found) > 1e-8, "another setting would go unnoticed"
