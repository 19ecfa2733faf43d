"""Resizes against mmcv's and mmsegmentation's own answers."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from fastloc.evaluation.segmentation.resize import linear, short_side
from fastloc.imaging.geometry import fit
from repo import GOLDENS

Pair = tuple[int, int]


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(GOLDENS / "mmseg_resize.npz") as file:
        return {key: file[key] for key in file.files} | {"meta": json.loads(str(file["meta"]))}


def resized(size: Pair, short: int, most: int, seed: int) -> np.ndarray[Any, Any]:
    picture = np.random.RandomState(seed).randint(0, 256, (*size, 3), np.uint8)
    return linear(picture, short_side(size, short, most))


def test_bytes_are_those_of_mmcv(golden: dict[str, Any]) -> None:
    for number, (size, short) in enumerate(golden["meta"]["small"]):
        found = resized(tuple(size), short, golden["meta"]["long"][0], number)
        assert np.array_equal(found, golden[f"small_{number}"]), (size, short)


@pytest.mark.slow("whole pictures are resized, 0.5 s", quick=2)
@pytest.mark.parametrize("number", range(6))
def test_bytes_of_whole_pictures_are_those_of_mmcv(golden: dict[str, Any], number: int) -> None:
    size, short = golden["meta"]["large"][number]
    found = resized(tuple(size), short, golden["meta"]["long"][1], number)
    assert found.shape[:2] == tuple(golden["large_sizes"][number])
    assert hashlib.sha256(found.tobytes()).hexdigest() == golden["large_digests"][number]


def test_maps_are_resized_as_mmsegmentation_does(golden: dict[str, Any]) -> None:
    logits, expected = golden["logits"][0], golden["logits_resized"][0]
    rows, columns = fit(expected.shape[1:], logits.shape[1:], (1, 1), "stretch").resampling(logits.shape[1:])
    assert np.abs(rows @ logits @ columns.T - expected).max() < 5e-6
