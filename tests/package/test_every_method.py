"""Every method on every kind of model: its shape, its numbers, and that neither company nor repetition changes them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

import resnet_towers
import towers
from fastloc import cli
from fastloc.bench.peers.seeded import seeded_pixels
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine.localizer import Localizer
from fastloc.engine.tower_kinds import AnyEngine, tower_kind
from fastloc.errors import RecipeError
from fastloc.export.to_onnx import Options, export
from fastloc.recipes import RECIPES, Recipe
from fastloc.reference import resnet
from fastloc.reference import scores as literal
from repo import SAMPLES

SAMPLE = SAMPLES / "market.webp"
CPU = torch.device("cpu")
WORDS = ["cat", "pizza", "red car"]
GRIDS = {"square": (4, 4), "wide": (3, 5)}
MODELS = ("embedded", "tiny ViT", "tiny ResNet")
Made = tuple[AnyEngine, Tensor, Callable[[Tensor], Tensor]]


@cache
def embedded() -> Localizer:
    return Localizer(dtype="float64")


def on_embedded(method: str) -> Made:
    """The engine, its texts, and the literal scores of pixels."""
    localizer = embedded().with_method(method)
    texts = localizer.source.text(WORDS, localizer.template).double()
    weights = localizer.source.vit.to(dtype=torch.float64)
    return localizer.engine, texts, lambda pixels: literal.scores(weights, pixels, texts, localizer.recipe)


def on_towers(weights: Weights | ResNetWeights, texts: Tensor, method: str) -> Made:
    row, kind = RECIPES[method], tower_kind(weights)
    engine = kind.engine(kind.tower(weights, CPU, "float64"), row, {"dtype": "float64"})
    if isinstance(weights, ResNetWeights):
        return engine, texts, lambda pixels: resnet.scores(weights, pixels, texts, row)
    return engine, texts, lambda pixels: literal.scores(weights, pixels, texts, row)


def made(model: str, method: str) -> Made:
    if model == "embedded":
        return on_embedded(method)
    if model == "tiny ViT":
        return on_towers(towers.tower(), towers.texts(3), method)
    return on_towers(resnet_towers.tower(), resnet_towers.texts(3), method)


def fits(model: str, method: str) -> bool:
    if model != "tiny ResNet":
        return True
    try:
        tower_kind(resnet_towers.tower()).check(RECIPES[method], resnet_towers.tower().spec, model)
    except RecipeError:
        return False
    return True


def expected_pixels(engine: AnyEngine, grid: tuple[int, int]) -> Tensor:
    height, width = engine.tower.weights.spec.patch
    return torch.from_numpy(seeded_pixels((3, 3, grid[0] * height, grid[1] * width), 0)).double()


CASES = [(model, method) for model in MODELS for method in RECIPES if fits(model, method)]


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize(("model", "method"), CASES)
def test_every_method(model: str, method: str, grid: tuple[int, int]) -> None:
    engine, texts, expected = made(model, method)
    pixels = expected_pixels(engine, grid)
    found, scores = engine(pixels, texts)
    assert found.shape == (3, 3, *grid) and torch.isfinite(found).all()
    assert scores is None or (scores.shape == (3, 3) and scores.abs().max() <= 1 + 1e-9)
    assert torch.equal(found, engine(pixels, texts)[0]), "a second call answers something else"
    alone = torch.cat([engine(picture[None], texts)[0] for picture in pixels])
    assert towers.error(alone, found) < 1e-12, "pictures of a batch influence one another"
    assert towers.error(found.flatten(2).transpose(1, 2), expected(pixels)) < 1e-9


def test_which_methods_a_resnet_has() -> None:
    assert {method for model, method in CASES if model == "tiny ResNet"} == {"itsm", "rclip", "clip_surgery", "maskclip", "grad_cam"}


def test_a_method_of_a_known_family_is_one_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The example of docs/contributing/method.md: the row alone runs, is listed, stated literally and exported."""
    row = Recipe("mine", "q-q and v-v attention over three blocks", "nowhere", blocks=3, terms=("qq", "vv"), inv_temp=9.0, unit=True)
    monkeypatch.setitem(RECIPES, "mine", row)
    for model in ("embedded", "tiny ViT"):
        engine, texts, expected = made(model, "mine")
        pixels = expected_pixels(engine, (3, 5))
        assert towers.error(engine(pixels, texts)[0].flatten(2).transpose(1, 2), expected(pixels)) < 1e-9
    assert cli.main(["methods", "--json"]) == 0 and row.summary in capsys.readouterr().out
    assert cli.main(["locate", str(SAMPLE), "-t", "cat", "--method", "mine", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "market.mine.png").exists()
    manifest = export(embedded().with_method("mine"), tmp_path / "mine.onnx", Options(size=(48, 48)))
    assert manifest.recipe == row
