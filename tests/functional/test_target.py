"""The differentiated score's closed form against autograd, for each target, with rivals and alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import towers
from fastloc.functional.target import at_unit_embedding
from fastloc.recipes import Recipe, recipe


def of(target: str) -> Recipe:
    return recipe("grad_cam", target=target, target_scale=30.0)


@pytest.mark.parametrize("texts", [1, 2, 5])
@pytest.mark.parametrize("target", ["cosine", "logit", "softmax"])
def test_direction_times_strength_is_the_gradient(target: str, texts: int) -> None:
    row = of(target)
    z = towers.array("z", 3, 16)
    words = F.normalize(towers.array("texts", texts, 16), dim=-1)
    unit = F.normalize(z, dim=-1).requires_grad_()
    cosines = unit @ words.T
    scores = {"cosine": cosines, "logit": row.target_scale * cosines, "softmax": torch.softmax(row.target_scale * cosines, -1)}[target]
    if target == "softmax" and texts == 1:
        # the share of one text alone is always 1: its logit is differentiated, times that share
        scores = row.target_scale * cosines
    expected = torch.stack([torch.autograd.grad(scores[:, i].sum(), unit, retain_graph=True)[0] for i in range(texts)], 1)
    direction, strength = at_unit_embedding(z, words, row)
    found = (direction * strength[..., None]).expand_as(expected)
    assert (found - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_a_saturated_share_keeps_its_direction() -> None:
    """Next to a share of 1, 1 - share is all rounding in float32; the rivals give the map all the same."""
    words = F.normalize(towers.array("texts", 3, 16), dim=-1)
    z = words[:1] + 0.01 * words[1:2]
    row = recipe("grad_cam", target="softmax", target_scale=200.0)
    exact, _ = at_unit_embedding(z, words, row)
    found, _ = at_unit_embedding(z.float(), words.float(), row)
    assert (F.normalize(found.double(), dim=-1) - F.normalize(exact, dim=-1)).abs().max() < 1e-4
