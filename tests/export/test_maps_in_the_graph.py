"""Maps and labels in a graph are those of `fastloc.imaging.heatmaps` for the same similarities, in every order."""

import numpy as np
import pytest
import torch

import literal_readouts
from fastloc.export.outputs import Place, heatmaps, labels
from fastloc.imaging import heatmaps as maps
from fastloc.imaging.geometry import fit
from fastloc.recipes import ReadOut

GEOMETRIES = {"the input": None, **{name: fit((40, 70), 64, 8, name) for name in ("stretch", "crop", "letterbox", "own-up")}}


@pytest.mark.parametrize("where", GEOMETRIES)
@pytest.mark.parametrize("order", maps.ORDERS)
def test_every_order(order: str, where: str) -> None:
    geometry = GEOMETRIES[where]
    size = (64, 64) if geometry is None else geometry.input
    grid = size[0] // 8, size[1] // 8
    place, readout = Place(geometry, size, grid), ReadOut(order=order, logit_scale=7.0)
    over = geometry or fit(size, size, 8)
    for texts in (1, 4):
        values = np.random.default_rng(texts).standard_normal((2, texts, *grid))
        found = heatmaps(torch.from_numpy(values), place, readout).numpy()
        expected = np.stack([maps.heatmaps(each, over, order, 7.0) for each in values])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9, err_msg=f"{texts} texts")
        best = labels(torch.from_numpy(values), place, readout).numpy()
        named = np.stack([literal_readouts.labels(each, over, order=order) for each in values])
        np.testing.assert_array_equal(best, named.astype(np.uint8))
