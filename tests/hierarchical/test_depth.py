"""Methods whose own number of changed blocks is more than a tower has: all of these are changed, and a number that is given is kept."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastloc import Localizer
from fastloc.checkpoints.hierarchical import spec
from fastloc.engine.tower_kinds import tower_kind
from fastloc.errors import FastlocWarning, RecipeError
from fastloc.recipes import RECIPES, recipe
from hierarchical_towers import TEXT, config, narrow

NOTE = r"method 'gem' changes the last 6 blocks, and tiny has {} to change: it changes these; blocks={} \(--blocks {}\) says so without"
SHALLOW = {"width": 64, "layers": 3, "head_width": 32, "patch_size": 8, "image_size": 32}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def test_a_last_stage_of_fewer_blocks() -> None:
    weights = narrow("FastViT")
    with pytest.warns(FastlocWarning, match=NOTE.format(2, 2, 2)):
        row = tower_kind(weights).at_depth(recipe("gem"), weights.spec, "tiny")
    assert row == recipe("gem", blocks=2)


@pytest.mark.parametrize("family", ["ConvNeXt", "Swin"])
def test_a_tower_without_such_blocks_refuses_the_method_by_its_name(family: str) -> None:
    weights = narrow(family)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tower_kind(weights).at_depth(recipe("gem"), weights.spec, "tiny") == recipe("gem")
    with pytest.raises(RecipeError, match=f"'gem' is one of plain transformers, and tiny is a {family}"):
        tower_kind(weights).check(recipe("gem"), weights.spec, "tiny")


def test_methods_of_fewer_blocks_stay_as_they_are() -> None:
    weights = narrow("FastViT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for row in (row for row in RECIPES.values() if row.blocks <= 2):
            assert tower_kind(weights).at_depth(row, weights.spec, "tiny") is row


@pytest.mark.parametrize(("name", "blocks"), [("fastvit_mci0", 2), ("fastvit_mci2", 4), ("fastvit_mci3", 2), ("fastvit_mci4", 4)])
def test_blocks_are_those_of_the_last_stage_alone(name: str, blocks: int) -> None:
    vision = {"timm_model_name": name, "timm_pool": "avg", "timm_proj": None, "image_size": 256}
    found = spec.from_open_clip({"embed_dim": 8, "vision_cfg": vision, "text_cfg": {}})
    assert found.attending == blocks


def written(path: Path, vision: dict[str, object]) -> str:
    file = path / "tiny.json"
    file.write_text(json.dumps({"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT}))
    return str(file)


def test_a_shallow_vit(tmp_path: Path) -> None:
    file = written(tmp_path, SHALLOW)
    with pytest.warns(FastlocWarning, match=NOTE.format(3, 3, 3)):
        run = Localizer(file, "random", "gem", size=32)
    assert run.recipe.blocks == 3 and repr(run) == "<Localizer tiny: gem, blocks 3, 32 x 32, fit stretch, float32 on cpu>"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = run.with_method("gem", blocks=3)
        run.with_method("naclip")
    np.testing.assert_array_equal(run(PICTURE, ["a dog"]).similarity, asked(PICTURE, ["a dog"]).similarity)
    with pytest.raises(RecipeError, match="blocks must be at most the 3 of tiny, got 4; give blocks=3"):
        run.with_method("gem", blocks=4)


@pytest.mark.slow("a tower of 11 million parameters")
def test_a_fastvit(tmp_path: Path) -> None:
    file = written(tmp_path, config(timm_model_name="fastvit_mci0", timm_pool="avg", timm_proj=None)["vision_cfg"])
    with pytest.warns(FastlocWarning, match=NOTE.format(2, 2, 2)):
        run = Localizer(file, "random", "gem", size=64)
    assert run.recipe.blocks == 2 and run(PICTURE, ["a dog", "a cat"]).similarity.shape == (2, 2, 2)
    with pytest.raises(RecipeError, match="blocks of 'gem' on a FastViT must be at most the 2 of its last stage, got 3; give blocks=2"):
        run.with_method("gem", blocks=3)
