"""Settings of a method that a protocol has: CLIPer's background words, its scale and cutoff, and a paper's weights by data set."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocWarning
from fastloc.evaluation.running.entrants import Asked, entrants
from fastloc.functional.similarity import grids
from fastloc.onnx_file.golden import unit_texts
from golden_evaluations import Set
from onnx_files import EMBED, tiny_model
from towers import array

TEXTS, WORDS = ["mug", "key"], ["door", "fork", "food"]


@pytest.mark.slow("CLIPer reads every block, twice")
def test_words_stand_for_the_background() -> None:
    localizer = Localizer(method="cliper", dtype="float32")
    pixels = array("pixels", 1, 3, 48, 64).float()
    found, _ = localizer.similarity(pixels, TEXTS, words=WORDS)
    texts, words = (torch.from_numpy(localizer.embeddings(each).vectors) for each in (TEXTS, WORDS))
    expected, _ = grids(localizer.weights, pixels, texts, localizer.recipe, words)
    torch.testing.assert_close(found, expected)
    plain, _ = localizer.similarity(pixels, TEXTS)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_other_methods_leave_them_alone() -> None:
    localizer = Localizer(method="sclip")
    pixels = array("pixels", 1, 3, 48, 64).float()
    assert torch.equal(localizer.similarity(pixels, TEXTS, words=WORDS)[0], localizer.similarity(pixels, TEXTS)[0])


def test_a_protocol_sets_scale_and_cutoff() -> None:
    asked = Asked(methods=("cliper",), changes={"names": "plain", "logit_scale": "50", "thresholds": "0.7,0.6,0.25"}, options={})
    (found,) = entrants(Set(("background", *TEXTS), True, "voc21"), asked)
    row = found.localizer.recipe
    assert (row.target_scale, row.cutoff) == (50.0, 0.25)
    assert found.judge.words == ("background",)


@pytest.mark.slow("a localizer a case", quick=1)
@pytest.mark.parametrize(
    ("method", "data", "field", "own", "usual"),
    # the embedded model has too few blocks for ResCLIP's letter, and runs its row
    [("pearl", "ade20k", "procrustes_weight", 0.3, 0.08), ("resclip", "cityscapes", "cross_weight", 0.2, 0.3)],
)
def test_a_paper_s_weights_are_for_its_own_method(method: str, data: str, field: str, own: float, usual: float) -> None:
    for paper, options, expected in ((None, {}, own), ("sclip", {"official": True}, usual)):
        row = localizer_of(method, data, paper, options).recipe
        assert getattr(row, field) == expected


def test_a_file_of_other_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pearl.onnx"
    tiny_model(path, method="pearl", size=None)
    options = {"embeddings": (tuple(TEXTS), unit_texts(0, len(TEXTS), EMBED))}
    with pytest.warns(FastlocWarning, match=r"pearl.onnx has procrustes_weight 0.08, and the protocol pearl on ade20k has 0.3: "):
        entrants(Set(tuple(TEXTS), False, "ade20k"), Asked(model=path, changes={"names": "plain"}, options=options))


def localizer_of(method: str, data: str, paper: str | None, options: dict[str, Any]) -> Localizer:
    (found,) = entrants(Set(tuple(TEXTS), False, data), Asked(methods=(method,), paper=paper, changes={"names": "plain"}, options=options))
    return found.localizer
