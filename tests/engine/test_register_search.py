"""Register neurons: found where one was planted, not found where there are no outliers, and what they take away."""

from pathlib import Path
from typing import Any

import pytest
import torch

import planted_outliers
from fastloc.engine import calibration
from fastloc.engine.localizer import Localizer
from fastloc.engine.registers.search import Rule, outliers_left, search
from fastloc.errors import FastlocError, RecipeError
from fastloc.functional.vit import forward
from fastloc.recipes import recipe
from fastloc.recipes.register_neurons import RegisterNeurons

SIZE = (96, 96)
SCENES = calibration.scenes(3, SIZE)
PLANTED = ((planted_outliers.BLOCK, (planted_outliers.NEURON,)),)


@pytest.fixture(scope="module")
def plain() -> Localizer:
    return Localizer(method="itsm", size=SIZE, device="cpu")


@pytest.fixture(scope="module")
def planted(plain: Localizer, tmp_path_factory: pytest.TempPathFactory) -> Localizer:
    pixels = torch.cat(list(calibration.inputs(plain, SCENES)))
    folder = planted_outliers.folder(tmp_path_factory.mktemp("models") / "planted", pixels)
    return Localizer(str(folder), method="itsm", size=SIZE, device="cpu")


@pytest.fixture(scope="module")
def found(planted: Localizer) -> RegisterNeurons:
    return search(planted, SCENES, Rule(top=1)).neurons


def test_the_planted_neuron_is_found(planted: Localizer, found: RegisterNeurons) -> None:
    assert found.neurons == PLANTED
    assert (found.registers, found.pictures, found.sizes) == (1, 3, (SIZE,))
    assert found.outliers == "patches longer than 3 times the median patch of their picture" and found.tokens > 3
    # by a length too, of a neuron that is one of several
    several = search(planted, SCENES, Rule(threshold=3 * median(planted), top=10), registers=2)
    assert several.neurons.registers == 2
    scored = {
        (block, neuron): score
        for (block, neurons), scores in zip(several.neurons.neurons, several.scores, strict=True)
        for neuron, score in zip(neurons, scores, strict=True)
    }
    assert len(scored) == 10 and max(scored, key=scored.__getitem__) == (planted_outliers.BLOCK, planted_outliers.NEURON)


def median(localizer: Localizer) -> float:
    pixels = torch.cat(list(calibration.inputs(localizer, SCENES)))
    last = f"block{localizer.source.vit.spec.layers - 1}"
    return float(forward(localizer.source.vit, pixels, recipe("itsm"), capture=(last,)).captured[last].norm(dim=-1).median())


def test_registers_take_the_outliers_out_of_the_picture(plain: Localizer, planted: Localizer, found: RegisterNeurons) -> None:
    before, after = outliers_left(planted, SCENES, Rule(), found)
    assert before == found.tokens and after == 0
    pixels, last = torch.cat(list(calibration.inputs(planted, SCENES))), "block5"
    row = recipe("itsm", registers=1, neurons=found.neurons)
    healthy, sick, repaired = (
        forward(each.source.vit, pixels, method, capture=(last,))
        for each, method in ((plain, recipe("itsm")), (planted, recipe("itsm")), (planted, row))
    )
    lengths = repaired.captured[last].norm(dim=-1)
    # the register is long in their place
    assert (lengths[:, 1] > 3 * lengths[:, 2:].median()).all()
    outliers = torch.stack([Rule().outliers(each, 1)[1:] for each in sick.captured[last]])

    def alike(patches: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(patches, healthy.patches, dim=-1)[outliers].mean())

    assert int(outliers.sum()) == before and alike(repaired.patches) > alike(sick.patches) + 0.2


def test_the_embedded_model_has_no_outliers(plain: Localizer) -> None:
    message = r"embedded has no outlier tokens in the pictures given \(3\): the longest patch is \d\.\d+ times the median, and outliers are"
    with pytest.raises(FastlocError, match=message):
        search(plain, SCENES)
    with pytest.raises(FastlocError, match=r"the longest token is \d+\.?\d*, and outliers are tokens longer than 1000 behind block -2; it"):
        search(plain, SCENES, Rule(threshold=1000, at=-2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at": 6}, "block 6 must be one of the model's, 0 … 5"),
        ({"depth": 0.1}, "depth must leave a block before the last of the model's 6, got 0.1"),
    ],
)
def test_what_the_model_does_not_have(changes: dict[str, Any], message: str, plain: Localizer) -> None:
    with pytest.raises(RecipeError, match=message):
        search(plain, SCENES, Rule(**changes))


@pytest.mark.parametrize("changes", [{"threshold": 0.0}, {"ratio": 1.0}, {"depth": 1.5}, {"top": 0}, {"threshold": float("nan")}])
def test_a_rule_that_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(FastlocError, match=f"{next(iter(changes))} must be a"):
        Rule(**changes)


def test_no_picture(plain: Localizer) -> None:
    with pytest.raises(RecipeError, match="pictures to look for outliers in must be one or more"):
        search(plain, [])


# in a localizer


def test_registers_that_are_given_are_every_methods(planted: Localizer, found: RegisterNeurons, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    found.save(file)
    localizer = Localizer(planted._arguments["model"], method="gem", size=SIZE, device="cpu", registers=file)
    assert (localizer.recipe.registers, localizer.recipe.neurons) == (1, PLANTED)
    assert localizer.with_method("bi_modal").recipe.neurons == PLANTED
    # a method's own word counts
    assert localizer.with_method("gem", registers=0).recipe == planted.with_method("gem").recipe
    assert localizer.with_method("gem", registers=3).recipe.registers == 3
    texts = ["cat", "pizza"]
    shown, other = (each(SCENES[0], texts).similarity for each in (localizer, localizer.with_method("gem", registers=0)))
    assert shown.shape == other.shape and abs(shown - other).max() > 1e-3


def test_what_lies_beside_a_model_is_for_methods_that_ask(planted: Localizer, found: RegisterNeurons) -> None:
    assert planted.with_method("gem").recipe.registers == 0
    with pytest.raises(FastlocError, match=r"'gem' needs register neurons of .*, and there are none: `fastloc registers`"):
        planted.with_method("gem", registers=1)
    beside = Path(planted._arguments["model"]) / "registers.json"
    found.save(beside)
    try:
        assert planted.with_method("gem", registers=1).recipe.neurons == PLANTED
    finally:
        beside.unlink()


def test_another_models_are_refused(found: RegisterNeurons) -> None:
    with pytest.raises(FastlocError, match=r"register neurons were measured on .*, and the model is embedded \(.*`fastloc registers`"):
        Localizer(registers=found)


def test_a_number_is_no_file() -> None:
    with pytest.raises(FastlocError, match="registers must be a file or RegisterNeurons, got 2; `fastloc registers` writes such files"):
        Localizer(registers=2)  # type: ignore[arg-type]
