"""A FastViT that a configuration describes field by field: the fields that it may have, and the range of each."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastloc import embedded
from fastloc.checkpoints import config_schema, loading
from fastloc.checkpoints.hierarchical import described, fastvit, spec
from fastloc.errors import FastlocError, ModelError

FIELDS: dict[str, Any] = {"depths": [2, 2], "dims": [48, 96], "ratio": 3, "attending": 1, "stem_scales": False}


def content() -> dict[str, Any]:
    """The embedded model's configuration with a FastViT in the place of its image tower, to be changed."""
    found: dict[str, Any] = json.loads(embedded.CONFIG.read_text(encoding="utf-8"))
    found["model_cfg"]["vision_cfg"] = {"image_size": 96, "timm_pool": "avg", "timm_proj": None, "fastvit": dict(FIELDS)}
    return found


def test_timm_s_sizes_can_be_described() -> None:
    arch = fastvit.architecture("fastvit_mci0")
    fields = {"depths": [2, 6, 10, 2], "dims": [64, 128, 256, 512], "excites": [2, 3]}
    assert described.arch_of(fields) == arch
    assert described.arch_of({**FIELDS, "more": 1}) == fastvit.Arch((2, 2), (48, 96), 3, 1, (), layer_norm=False, stem_scales=False)
    assert described.arch_of(FIELDS).stride == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": [2]}, "depths must be one number for each of the 2 dims, got 1"),
        ({"dims": []}, "stages of dims must be"),
        ({"dims": [48, 100]}, "dims must each be a multiple of the one before, 48, got 100"),
        ({"dims": [24, 48]}, "dims of stages with attention must be multiples of 32, a head's channels, got 48"),
        ({"dims": [4, 32]}, "dims must be"),
        ({"attending": 3}, "attending must be"),
        ({"excites": [0]}, "excites must be"),
        ({"ratio": 0}, "ratio must be"),
        ({"depths": [2, 1000]}, "depths must be"),
    ],
)
def test_a_field_out_of_its_range_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FastlocError) as caught:
        described.arch_of({**FIELDS, **change})
    assert message in str(caught.value) and "\n" not in str(caught.value)
    made = content()
    made["model_cfg"]["vision_cfg"]["fastvit"] = {**FIELDS, **change}
    with pytest.raises(ModelError) as caught:
        config_schema.check(made, made["model_cfg"], "a.json")
    assert "model configuration 'a.json' is damaged" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damaged", [3, [1], {"depths": "2", "dims": [48]}])
@pytest.mark.parametrize("field", ["fastvit", "timm_proj", "timm_pool", "timm_model_name"])
def test_a_description_of_another_kind_is_damaged(damaged: Any, field: str, tmp_path: Path) -> None:
    made = content()
    made["model_cfg"]["vision_cfg"][field] = damaged
    (tmp_path / "open_clip_config.json").write_text(json.dumps(made))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="is damaged"):
        loading.load(str(tmp_path))


def test_an_input_must_be_of_whole_cells() -> None:
    made = content()["model_cfg"]
    made["vision_cfg"]["image_size"] = 100
    with pytest.raises(ModelError, match=r"image_size must be a multiple of the stride of fastvit, 8, got \(100, 100\)"):
        spec.from_open_clip(made)


def test_its_spec_has_cells_of_the_last_stage() -> None:
    made = spec.from_open_clip(content()["model_cfg"])
    assert (made.family, made.name, made.head) == ("FastViT", "fastvit", "trunk")
    assert (made.patch, made.grid, made.channels) == ((8, 8), (12, 12), 192)


def test_no_random_weights_are_made_for_a_description(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content()))
    with pytest.raises(ModelError, match="describes its tower field by field, which no random weights are made for"):
        loading.load(str(tmp_path / "a.json"), "random")
