"""A tower that a configuration describes field by field."""

from dataclasses import fields
from typing import Any

import pytest

from fastloc.checkpoints.families.vit_schema import Vit
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.errors import FastlocError

# the configuration says these elsewhere
ELSEWHERE = {"embed", "mean", "std", "interpolation"}
TOWER: dict[str, Any] = {"width": 32, "layers": 2, "heads": 4, "patch": (8, 8), "image": (32, 32)}


def test_its_fields_and_their_defaults_are_those_of_the_spec() -> None:
    expected = {field.name: field.default for field in fields(ModelSpec) if field.name not in ELSEWHERE}
    assert {field.name: field.default for field in fields(Vit)} == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "heads must divide the width, 32"), ({"class_token": False}, "pool must be 'avg' or 'attn' without a class token"),
        ({"pool": "attn"}, "pool_heads must be 1 or more"), ({"norm": "post", "layer_scale": True}, "layer_scale must be false"),
        ({"image": (4, 32)}, "image must be one patch or more"), ({"stem": "conv"}, "patch must be 16 with stem 'conv'"),
        ({"norm": "post", "fc_norm": True}, "fc_norm must be false"), ({"stem_width": 8}, "stem_width must be 0 with stem 'patch', got 8"),
        ({"stem": "mbconv", "patch": (16, 16)}, "stem_width must be 1 or more with stem 'mbconv', got 0"),
        ({"stem": "mbconv", "stem_width": 8}, "patch must be 16 with stem 'mbconv'"),
        ({"activation": "relu"}, "activation"), ({"registers": 65}, "registers"), ({"relative": -1}, "relative"),
    ],
)  # fmt: skip
def test_fields_that_cannot_go_together(changes: dict[str, Any], message: str) -> None:
    Vit(**TOWER)
    with pytest.raises(FastlocError, match=message):
        Vit(**{**TOWER, **changes})
