"""Grad-CAM, Grad-CAM++ and LayerCAM of every stage of every family, against autograd through everything."""

import pytest

from fastloc.functional.hierarchical import forms
from fastloc.recipes import recipe
from fastloc.recipes.schema import CAMS
from fastloc.reference import hierarchical as reference
from hierarchical_towers import narrow, pixels, texts
from towers import error

GRID = (1, 2)


@pytest.mark.parametrize("cam", CAMS)
@pytest.mark.parametrize(
    ("family", "start"), [("FastViT", -1), ("FastViT", -2), ("FastViT", -5), ("Swin", -1), ("Swin", -3), ("ConvNeXt", -3)]
)
def test_every_stage_is_autograd_s(family: str, start: int, cam: str) -> None:
    weights, x, words = narrow(family), pixels(2, GRID), texts(2)
    row = recipe("grad_cam", cam=cam, start=start, target_scale=5.0)
    maps, _ = forms.relevance(forms.prepare(weights, row), x, words)
    expected = reference.grad_cam(weights, x, words, "softmax", 5.0, start, cam)
    assert maps.shape == expected.shape and float(expected.max()) > 0
    # Grad-CAM++ divides by 2 g^2 + sum(A g^3), which comes near 0 in the first stage here: its roundings are a thousand times the others'
    assert error(maps, expected) < (1e-9 if (cam, start) == ("grad-cam++", -5) else 1e-10)
