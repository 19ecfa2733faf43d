"""CLIPer's background words: they reach the softmax over texts, from a class file to the engine."""

import torch

from fastloc.engine.localizer import Localizer
from fastloc.evaluation.running.entrants import Asked, entrants
from fastloc.functional.similarity import grids
from golden_evaluations import Set
from towers import array

TEXTS, WORDS = ["mug", "key"], ["table", "wall", "floor"]


def test_words_stand_for_the_background() -> None:
    localizer = Localizer(method="cliper", dtype="float32")
    pixels = array("pixels", 1, 3, 48, 64).float()
    found, _ = localizer.similarity(pixels, TEXTS, words=WORDS)
    texts, words = (torch.from_numpy(localizer.embeddings(each).vectors) for each in (TEXTS, WORDS))
    wanted, _ = grids(localizer.weights, pixels, texts, localizer.recipe, words)
    torch.testing.assert_close(found, wanted)
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
