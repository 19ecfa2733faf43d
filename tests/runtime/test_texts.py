"""The texts of an exported file: baked in, given as embeddings, or encoded by a tower beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fastloc.errors import FastlocError, ModelError, TextError
from fastloc.onnx_file.golden import picture
from fastloc.runtime.localizer import OnnxLocalizer
from fastloc.text.embeddings import TextEmbeddings
from onnx_files import EMBED, change_metadata, tiny_model
from tiny_localizer import NAMES, TOWER, tiny, vectors


def test_baked_texts_are_those_and_no_others(tmp_path: Path):
    localizer, image = tiny(tmp_path, names=NAMES), picture(0, (32, 40))
    assert localizer.texts == NAMES and localizer(image).texts == NAMES
    np.testing.assert_array_equal(localizer(image, list(NAMES)).similarity, localizer(image).similarity)
    for texts in ("cat", ["dog", "cat", "a red car"], ["horse"]):
        with pytest.raises(TextError, match="texts must be left out, or be those baked into the file, in order: cat, dog, a red car"):
            localizer(image, texts)
    for source in ({"embeddings": (NAMES, vectors())}, {"text": "tower.onnx"}):
        with pytest.raises(FastlocError, match=r"must be left out for .*, whose texts are baked in: cat, dog, a red car"):
            OnnxLocalizer(tmp_path / "tiny.onnx", **source)
    with pytest.raises(TextError, match=r"embeddings must be left out for .* baked in"):
        localizer.similarity(np.zeros((1, 3, 32, 40), np.float32), vectors())


def test_embeddings_come_in_many_forms(tmp_path: Path):
    tiny_model(tmp_path / "tiny.onnx")
    embeddings = TextEmbeddings(NAMES, vectors(), "gem", TOWER)
    embeddings.save(tmp_path / "texts.npz")
    expected = OnnxLocalizer(tmp_path / "tiny.onnx", embeddings=embeddings)(picture(0, (32, 40)), ["dog", "cat"])
    assert expected.texts == ("dog", "cat")
    for form in (tmp_path / "texts.npz", dict(zip(NAMES, vectors(), strict=True)), (NAMES, vectors()), (list(NAMES), vectors().tolist())):
        localizer = OnnxLocalizer(tmp_path / "tiny.onnx", embeddings=form)
        assert localizer.texts == NAMES
        np.testing.assert_array_equal(localizer(picture(0, (32, 40)), ["dog", "cat"]).similarity, expected.similarity)


def test_embeddings_that_do_not_fit_are_reported(tmp_path: Path):
    tiny_model(tmp_path / "tiny.onnx")
    stranger = TextEmbeddings(NAMES, vectors(), "gem", "c" * 64)
    stranger.save(tmp_path / "texts.npz")
    cases: list[tuple[Any, type[Exception], str]] = [
        (stranger, ModelError, "bbbbbbbbbbbb.*got cccccccccccc"),
        (tmp_path / "texts.npz", ModelError, "cccccccccccc"),
        (tmp_path / "nothing.npz", ModelError, "no such file"),
        ((NAMES, vectors()[:2]), FastlocError, rf"embeddings must be \[3, {EMBED}\], .*, got \[2, {EMBED}\]"),
        ((NAMES, 2 * vectors()), FastlocError, "unit vectors, got lengths from 2 to 2"),
        (vectors(), FastlocError, r"embeddings must be .*, got a ndarray"),
        ((NAMES, ["a", "b", "c"]), FastlocError, "embeddings must be numbers"),
        ({"cat": [0.0], "dog": [1.0, 0.0]}, FastlocError, "embeddings must be numbers"),
        ((NAMES, np.full((3, EMBED), np.nan)), FastlocError, "must be unit vectors"),
    ]
    for source, kind, message in cases:
        with pytest.raises(kind, match=message):
            OnnxLocalizer(tmp_path / "tiny.onnx", embeddings=source)
    with pytest.raises(FastlocError, match="texts must come from text or from embeddings, got both"):
        OnnxLocalizer(tmp_path / "tiny.onnx", embeddings=(NAMES, vectors()), text="tower.onnx")
    with pytest.raises(TextError, match="unknown text 'dgo': did you mean 'dog'"):
        OnnxLocalizer(tmp_path / "tiny.onnx", embeddings=(NAMES, vectors()))(picture(0, (32, 40)), "dgo")


def test_a_file_without_a_source_of_texts_says_what_to_give(tmp_path: Path):
    tiny_model(tmp_path / "tiny.onnx")
    localizer = OnnxLocalizer(tmp_path / "tiny.onnx")
    with pytest.raises(TextError, match=r"embeddings='file.npz' .*, or text='tower.text.onnx' \(.*; tiny.text.onnx beside the file"):
        localizer(picture(0, (32, 40)), "cat")
    assert localizer.similarity(np.zeros((1, 3, 32, 40), np.float32), vectors()).shape == (1, 3, 4, 5)


def test_fewer_texts_than_a_static_file_takes_are_filled_up_where_that_changes_nothing(tmp_path: Path):
    image, loose = picture(0, (32, 40)), tiny(tmp_path)
    expected = loose(image, ["dog"])
    found = tiny(tmp_path, count=3)(image, ["dog"])
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-6)
    tiny_model(tmp_path / "two.onnx", count=2)
    with pytest.raises(TextError, match=r"texts must be 2 or fewer for .*two.onnx, got 3; export it for more"):
        OnnxLocalizer(tmp_path / "two.onnx", embeddings=(NAMES, vectors()))(image)
    with pytest.raises(TextError, match=r"texts must be exactly 3 for .*, got 1; method 'clip_surgery' compares all texts"):
        tiny(tmp_path, count=3, method="clip_surgery")(image, ["dog"])
    with pytest.raises(TextError, match=r"texts must be exactly 3 for .*, got 1; method 'grad_cam' compares all texts"):
        tiny(tmp_path, count=3, method="grad_cam")(image, ["dog"])
    with pytest.raises(TextError, match=r"exactly 3 .*; its heatmaps are a softmax over all texts"):
        tiny(tmp_path, count=3, method="sclip", outputs=("similarity", "heatmaps"))(image, ["dog"])
    assert tiny(tmp_path, count=3, method="sclip")(image, ["dog"]).texts == ("dog",)


class Tower:
    """Stand-in for `fastloc.runtime.text_encoder.OnnxTextEncoder`: knows three texts."""

    digest = TOWER
    asked: ClassVar[list[Any]] = []

    def __init__(self, path: Path, providers: str) -> None:
        self.asked.append((path, providers))

    def __call__(self, texts: list[str], template: str) -> np.ndarray:
        self.asked.append(template)
        return vectors()[[NAMES.index(text) for text in texts]]


def test_a_text_tower_is_found_beside_the_file_and_must_be_the_file_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = tiny_model(tmp_path / "tiny.onnx")
    change_metadata(tmp_path / "tiny.onnx", replace(made, texts=replace(made.texts, template="a {}.")).dumps())
    monkeypatch.setattr("fastloc.runtime.text_encoder.OnnxTextEncoder", Tower)
    expected = OnnxLocalizer(tmp_path / "tiny.onnx", embeddings=(NAMES, vectors()))(picture(0, (32, 40)), ["dog", "cat"])
    (tmp_path / "tiny.text.onnx").write_bytes(b"")
    for text, path in ((None, tmp_path / "tiny.text.onnx"), (tmp_path / "other.onnx", tmp_path / "other.onnx")):
        localizer = OnnxLocalizer(tmp_path / "tiny.onnx", text=text)
        assert localizer.texts is None
        np.testing.assert_array_equal(localizer(picture(0, (32, 40)), ["dog", "cat"]).similarity, expected.similarity)
        assert Tower.asked[-2:] == [(path, "cpu"), "a {}."]
    with pytest.raises(TextError, match="no prompts"):
        localizer(picture(0, (32, 40)))
    localizer.warm_up(texts=2)
    monkeypatch.setattr(Tower, "digest", "c" * 64)
    with pytest.raises(ModelError, match=r"tiny.text.onnx must come from text tower bbbbbbbbbbbb .* model tiny, got cccccccccccc"):
        OnnxLocalizer(tmp_path / "tiny.onnx")
