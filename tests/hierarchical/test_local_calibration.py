"""Inverse temperatures of FastViT's last stage: solved, met, measured by the command, and used."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastloc import Localizer
from fastloc.cli import main
from fastloc.engine import calibration
from fastloc.errors import FastlocWarning, ModelError, RecipeError
from fastloc.functional.hierarchical import forms
from fastloc.recipes import recipe
from fastloc.recipes.temperatures import Temperatures
from hierarchical_towers import config, narrow, pixels
from towers import error

GRID = (2, 3)
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))


@pytest.mark.parametrize("iterations", [0, 1])
def test_matched_at_what_one_picture_wants_is_calibrated_on_it(iterations: int) -> None:
    weights, x = narrow("FastViT"), pixels(1, GRID)
    row = recipe("gem_matched", blocks=2, iterations=iterations)
    table = calibration.solved(weights, x, row)
    assert table.shape == (1, 2, 2, 3, iterations + 1) and float(table.std()) > 0
    at_table = recipe("gem_calibrated", blocks=2, iterations=iterations, inv_temp=table[0].tolist())
    assert error(forms.forward(weights, x, row).patches, forms.forward(weights, x, at_table).patches) < 1e-10


def test_shares_of_ones_own_table_are_rho() -> None:
    weights, x, row = narrow("FastViT"), pixels(1, GRID), recipe("gem_matched", rho=0.5, blocks=2, iterations=1)
    own = calibration.solved(weights, x, row)[0]
    assert (calibration.shares(weights, x, row, own) - 0.5).abs().max() < 1e-10
    assert (calibration.shares(weights, x, row, 2 * own)[..., 0] < 0.5).all()


def test_folding_changes_no_temperature() -> None:
    weights, x, row = narrow("FastViT"), pixels(1, GRID), recipe("gem_matched", blocks=1)
    assert error(calibration.solved(weights.folded(), x, row), calibration.solved(weights, x, row)) < 1e-10


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(RecipeError, match="blocks must be 1 to 2 for this model, got 3"):
        calibration.solved(narrow("FastViT"), pixels(1, GRID), recipe("gem_matched", blocks=3))


def written(path: Path, name: str) -> str:
    file = path / "tiny.json"
    file.write_text(json.dumps(config(timm_model_name=name, timm_pool="avg", timm_proj=None)))
    return str(file)


@pytest.mark.slow("a tower of 11 million parameters, measured twice")
def test_a_measured_file_is_what_the_method_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, table = written(tmp_path, "fastvit_mci0"), tmp_path / "t.json"
    asked = ["calibrate", "--from", "noise", "--count", "1", "--model", file, "--pretrained", "random", "--size", "128", "-o", str(table)]
    assert main(asked) == 0
    assert "rho met" in capsys.readouterr().out
    found = Temperatures.load(table)
    assert found.blocks == 2 and found.model == "tiny"
    with pytest.warns(FastlocWarning, match="method 'gem_calibrated' changes the last 6 blocks"):
        run = Localizer(file, "random", "gem_calibrated", temperatures=table, size=128)
    assert run.recipe.inv_temp == found.table_for(recipe("gem_calibrated", blocks=2)) and run.recipe.blocks == 2
    result = run(PICTURE, ["a dog", "a cat"])
    assert result.similarity.shape == (2, 4, 4) and np.isfinite(result.similarity).all()
    # without a file they are measured on the sample scenes
    with pytest.warns(FastlocWarning, match="tiny comes without inverse temperatures: measured for 'gem_calibrated' on 3 sample pictures"):
        own = Localizer(file, "random", "gem_calibrated", blocks=2, size=128)
    assert np.asarray(own.recipe.inv_temp).shape == (2, 16, 3, 1)


def test_other_towers_are_refused_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(config()))
    localizer = Localizer(str(file), "random", "itsm", size=64)
    with pytest.raises(ModelError, match="must have blocks that attend over its whole grid, got tiny, a ConvNeXt: temperatures"):
        calibration.calibrate(localizer, [PICTURE])


def test_the_temperatures_of_another_model(tmp_path: Path) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(config()))
    table = Temperatures(
        table=((((1.0,),),),), rho=0.7, streams=("vv",), sizes=((64, 64),), pictures=1, source="none", model="another", tower="sha256:0"
    )
    with pytest.raises(ModelError, match="temperatures were measured on another"):
        Localizer(str(file), "random", "itsm", temperatures=table, size=64)


def test_temperatures_are_those_of_the_dtype() -> None:
    weights, x, row = narrow("FastViT"), pixels(1, GRID), recipe("gem_matched", blocks=2)
    single = calibration.solved(weights.to(dtype=torch.float32), x.float(), row)
    assert single.dtype == torch.float32 and error(single, calibration.solved(weights, x, row)) < 1e-3
