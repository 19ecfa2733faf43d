"""The choice between read-out and relevance, and the image embedding's cosines beside the maps."""

from typing import Any

import pytest
import torch

import towers
from fastloc.errors import TextError
from fastloc.functional import readout
from fastloc.functional.folding import fold
from fastloc.functional.output import Output
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.similarity import answer, grids
from fastloc.functional.vit import forward, positions
from fastloc.recipes import recipe
from towers import error

GRID = (2, 3)
PIXELS, TEXTS, EMPTY = towers.pixels(2, GRID), towers.texts(3), towers.texts(1, seed=9)[0]
EXACT = 1e-12


@pytest.mark.parametrize("name", ["gem", "clip_surgery"])
def test_patches_are_read_out(name: str) -> None:
    """Feature surgery of several texts reads the image embedding, and so it is returned; cosines do not."""
    weights, row = towers.tower(), recipe(name)
    out = forward(weights, PIXELS, row, cls=True)
    found, scores = grids(weights, PIXELS, TEXTS, row)
    assert found.shape == (2, 3, *GRID) and error(found, readout.similarity(out, TEXTS, row.readout)) < EXACT
    if name == "gem":
        assert scores is None
    else:
        expected = readout.scores(out, TEXTS)
        assert scores is not None and expected is not None and error(scores, expected) < EXACT


def test_one_text_needs_the_empty_one_and_no_image_embedding() -> None:
    weights, row = towers.tower(), recipe("clip_surgery")
    found, scores = grids(weights, PIXELS, TEXTS[:1], row, EMPTY)
    assert scores is None and error(found, readout.similarity(forward(weights, PIXELS, row), TEXTS[:1], row.readout, EMPTY)) < EXACT
    with pytest.raises(TextError, match="the embedding of the empty string must be given"):
        grids(weights, PIXELS, TEXTS[:1], row)


@pytest.mark.parametrize("name", ["gem", "clip_surgery", "grad_cam"])
def test_the_background_is_a_last_cosine(name: str) -> None:
    weights, row = towers.tower(), recipe(name)
    found, scores = grids(weights, PIXELS, TEXTS, row, EMPTY, background=True)
    plain, _ = grids(weights, PIXELS, TEXTS, row, EMPTY)
    cls = forward(weights, PIXELS, row if row.reads == "patches" else recipe("gem"), cls=True).cls
    assert cls is not None and scores is not None and torch.equal(found, plain)
    assert error(scores, readout.image_scores(cls, torch.cat([TEXTS, EMPTY[None]]))) < EXACT


@pytest.mark.parametrize("cls", [None, False, True])
@pytest.mark.parametrize(("name", "count", "default"), [("gem", 3, False), ("clip_surgery", 3, True), ("clip_surgery", 1, False)])
def test_the_image_embedding_where_it_is_asked_for(name: str, count: int, default: bool, cls: bool | None) -> None:
    prepared = fold(towers.tower(), recipe(name))
    tokens, grid = patch_tokens(prepared.weights, PIXELS)
    seen: list[bool] = []

    def read(out: Output, words: torch.Tensor) -> torch.Tensor:
        seen.append(out.cls is not None)
        return words

    given: dict[str, Any] = {} if cls is None else {"cls": cls}
    found, scores = answer(prepared, tokens, positions(prepared.weights, grid, prepared.recipe), grid, TEXTS[:count], read, **given)
    expected = default if cls is None else cls
    assert found.shape == (count, towers.EMBED) and seen == [expected] and (scores is not None) is expected
