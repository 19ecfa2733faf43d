"""Numbers that cannot be answered are refused in one line that names the picture or the text, by every way in."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastloc.checkpoints.text_encoder import TextEncoder
from fastloc.engine import examples
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError, FastlocWarning, ImageError, ModelError, TextError
from fastloc.functional.frames.formats import MOST
from fastloc.imaging.example import Example
from fastloc.text.embeddings import TextEmbeddings
from repo import SAMPLES
from tiny_localizer import NAMES, tiny, vectors

MARKET = SAMPLES / "market.webp"


@cache
def engine() -> Localizer:
    return Localizer(size=96)


def planted(value: float) -> np.ndarray:
    """A picture of floats with one odd one."""
    array = np.full((40, 50, 3), 0.5, np.float32)
    array[7, 8, 1] = value
    return array


ODD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", ODD)
def test_a_picture_of_floats(value: float) -> None:
    with pytest.raises(ImageError, match="array: holds NaN or infinite values"):
        engine()(planted(value), "cat")
    with pytest.raises(ImageError, match="tensor: holds NaN or infinite values"):
        engine()(torch.from_numpy(planted(value)), "cat")
    good = planted(0.5)
    # among several, its number
    with pytest.raises(ImageError, match="picture 1: holds NaN or infinite values"):
        engine()([good, planted(value), good], "cat")
    found = list(engine().attempts([good] * 9 + [planted(value), good], "cat"))
    assert [isinstance(each, ImageError) for each in found] == [False] * 9 + [True, False]
    assert str(found[9]) == "picture 9: holds NaN or infinite values"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [*ODD, 1e4])
def test_normalised_pixels(value: float, dtype: torch.dtype) -> None:
    pixels = torch.zeros(3, 3, 96, 96, dtype=dtype)
    pixels[2, 1, 50, 60] = value
    for call in (engine().similarity, engine().scored_similarity):
        with pytest.raises(ImageError, match=f"pixels of picture 2 must be finite and within {MOST:g} of 0, got .*; normalise them by"):
            call(pixels, ["cat"])
    grids, _ = engine().similarity(pixels[:2], ["cat"])
    assert grids.isfinite().all()


@pytest.mark.parametrize("value", [*ODD, 1e4])
def test_an_exported_file_s_own_input(value: float, tmp_path: Path) -> None:
    localizer = tiny(tmp_path)
    array = np.zeros((2, 3, 32, 40), np.float32)
    array[1, 0, 3, 4] = value
    for given in (array, torch.from_numpy(array)):
        for call in (localizer.run, localizer.similarity):
            with pytest.raises(ImageError, match="picture 1 must be finite and within 1000 of 0, got "):
                call(given)
    assert np.isfinite(localizer.similarity(array[:1])).all()


BAD_ROWS: dict[str, Callable[[np.ndarray], None]] = {
    "NaN": lambda rows: rows.__setitem__((1, 3), np.nan),
    "infinite": lambda rows: rows.__setitem__((1, 3), np.inf),
    "zero": lambda rows: rows.__setitem__(1, 0.0),
    "denormal": lambda rows: rows.__setitem__(1, 1e-40),
    "huge": lambda rows: rows.__setitem__(1, 1e30),
}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("kind", BAD_ROWS)
def test_embeddings(kind: str, tmp_path: Path) -> None:
    rows = vectors().copy()
    BAD_ROWS[kind](rows)
    with pytest.raises(TextError, match=f"the embedding of '{NAMES[1]}' must (be finite|have unit length), got"):
        TextEmbeddings(NAMES, rows, "plain", "b" * 64)
    localizer = tiny(tmp_path)
    for call in (lambda: localizer.run(np.zeros((1, 3, 32, 40), np.float32), rows), lambda: tiny_with(tmp_path, (NAMES, rows))):
        with pytest.raises(FastlocError, match="embeddings must be unit vectors, got lengths from"):
            call()


def tiny_with(folder: Path, embeddings: Any) -> Any:
    from fastloc.runtime.localizer import OnnxLocalizer

    return OnnxLocalizer(folder / "tiny.onnx", embeddings=embeddings)


class Broken(torch.nn.Module):
    """A text tower whose embeddings are one value throughout."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.weight = value, torch.nn.Parameter(torch.zeros(1))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.full((len(tokens), 8), self.value)


@pytest.mark.parametrize("value", [*ODD, 0.0])
def test_a_text_tower_that_says_nothing(value: float) -> None:
    encoder = TextEncoder(Broken(value), lambda texts: torch.ones(len(texts), 4, dtype=torch.int64))
    with pytest.raises(ModelError, match=r"the text tower's embedding of .*cat.* must be finite and not all zero, got length"):
        encoder(["cat"], "plain")


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_an_example_without_an_embedding(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    made = examples._of_patches

    def broken(*given: Any) -> torch.Tensor:
        return made(*given) * value

    monkeypatch.setattr(examples, "_of_patches", broken)
    with pytest.raises(FastlocError, match=r"the embedding of .* must be finite and not all zero, got length"):
        examples.example_embedding(engine(), Example(MARKET))


def test_half_precision_that_overflows_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """The NaN of an overflow on a device is refused as the result is made."""
    localizer = engine().with_method("gem")

    def overflowed(*given: Any, **more: Any) -> Any:
        grids, cosines = engine().engine(*given, **more)
        return grids * float("nan"), cosines

    parts = {"__call__": staticmethod(overflowed), "plan": staticmethod(localizer.engine.plan)}
    monkeypatch.setattr(localizer, "engine", type("Engine", (), parts)())
    with pytest.raises(FastlocError, match="similarity of method 'gem' must be finite, got NaN or infinite values"):
        localizer(MARKET, "cat")


def test_pictures_of_one_colour_have_maps_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    for value in (0, 255):
        result = engine()(np.full((30, 40, 3), value, np.uint8), ["cat", "dog"])
        assert np.isfinite(result.heatmaps).all() and result.heatmaps.min() >= 0 and result.heatmaps.max() <= 1
        json.dumps(result.to_dict(), allow_nan=False)
    assert not [each for each in recwarn if issubclass(each.category, (RuntimeWarning, FastlocWarning))]


@pytest.mark.parametrize("value", [1e300, -5.0])
def test_floats_out_of_range_are_no_picture(value: float) -> None:
    with pytest.raises(ImageError, match=r"array: floats must lie within \[0, 1\], got"):
        engine()(planted(0.5).astype(np.float64) * value, "cat")


@pytest.mark.parametrize("value", [1e-320, 1e-45, -0.0])
def test_denormal_floats_are_black(value: float) -> None:
    dark, black = np.full((30, 40, 3), value), np.zeros((30, 40, 3))
    np.testing.assert_array_equal(engine()(dark, "cat").similarity, engine()(black, "cat").similarity)
