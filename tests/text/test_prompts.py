"""Prompts that a model cannot read are said to be so."""

from __future__ import annotations

import warnings

import pytest

from fastloc import Localizer, OnnxLocalizer
from fastloc.embedded import SAMPLES
from fastloc.errors import FastlocWarning
from fastloc.text.prompts import checked

MARKET = SAMPLES / "market.webp"
# what each text's warning says; "cat" has none
TEXTS = {
    "\U0001f431": "holds no word",
    "{}": "holds no word",
    "\u200b": "holds no word",
    "\ud800": "half a surrogate pair",
    "1234": "never saw the word '1234'",
    "cat": None,
}


def notes(localizer: object, text: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        localizer(MARKET, text)
    return [str(each.message) for each in caught if issubclass(each.category, FastlocWarning)]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("engine", [Localizer, OnnxLocalizer])
def test_a_text_without_a_known_word_is_reported(engine: type, text: str) -> None:
    words, found = TEXTS[text], notes(engine(), text)
    assert (words is None and not found) or any(words in each for each in found), found


def test_a_text_that_reads_like_none_is_reported_of_any_model() -> None:
    localizer = Localizer()
    # a model without a vocabulary of its own
    localizer.source.text.words = frozenset()
    assert any("nothing that the model reads" in each for each in notes(localizer, "\u206a"))
    assert not notes(localizer, "cat")


def test_a_surrogate_never_reaches_a_result() -> None:
    with pytest.warns(FastlocWarning, match="half a surrogate pair"):
        assert checked(["a \udcc3 cat"]) == ["a \ufffd cat"]
    # a pair is a character
    assert checked(["\ud83d\udc31"]) == ["\U0001f431"]
