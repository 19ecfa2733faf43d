"""Models as judges ask them: the same similarities whatever a file takes in, and what a file cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.running.subjects import EngineSubject, FileSubject, check_size, subject_of, with_template
from fastloc.onnx_file.golden import unit_texts
from fastloc.runtime.localizer import OnnxLocalizer
from onnx_files import EMBED, tiny_model

TEXTS = ("a cat", "a dog", "a bone")


def subject(path: Path, **changes: Any) -> FileSubject:
    tiny_model(path, size=(32, 40), **changes)
    found = subject_of(OnnxLocalizer(path, embeddings=(TEXTS, unit_texts(0, len(TEXTS), EMBED))))
    assert isinstance(found, FileSubject)
    return found


@pytest.mark.parametrize("changes", [{}, {"bgr": True}, {"kind": "bytes"}, {"kind": "bytes", "bgr": True}, {"batch": 2}])
def test_a_file_is_asked_in_its_own_form(tmp_path: Path, changes: dict[str, Any]) -> None:
    asked = subject(tmp_path / "tiny.onnx", **changes)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 40, 3), np.uint8)
    pixels = torch.from_numpy(((pictures / 255 - asked.mean) / asked.std).astype(np.float32).transpose(0, 3, 1, 2))
    laid_out = asked.manifest.input.laid_out(pictures, asked.manifest.model)
    # pictures one by one, as files of one or of many take them
    expected = np.concatenate([asked.localizer.similarity(laid_out[i : i + 1], TEXTS) for i in range(5)])
    found = asked.similarity(pixels, TEXTS)
    assert found.shape == (5, 3, 4, 5) and found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # other texts, in another order
    np.testing.assert_allclose(asked.similarity(pixels[:1], TEXTS[::-1]), expected[:1, ::-1], rtol=1e-4, atol=1e-5)
    assert asked.digest.startswith("sha256:") and asked.digest != asked.manifest.model.weights


def test_frames_and_files_without_similarity_are_refused(tmp_path: Path) -> None:
    odd: dict[str, dict[str, Any]] = {
        "got frames of a camera": {"kind": "frames", "frame": (64, 80)}, "the output similarity, got scores": {"outputs": ("scores",)},
    }  # fmt: skip
    for line, changes in odd.items():
        tiny_model(tmp_path / "odd.onnx", **changes)
        with pytest.raises(FastlocError, match=line):
            subject_of(OnnxLocalizer(tmp_path / "odd.onnx"))


def test_a_localizer_is_asked_with_its_own_numbers() -> None:
    localizer = Localizer(method="naclip", device="cpu")
    asked = subject_of(localizer)
    assert isinstance(asked, EngineSubject) and (asked.method, asked.model, asked.size) == ("naclip", "embedded", None)
    pixels = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    found = asked.similarity(pixels, TEXTS)
    assert torch.equal(found, localizer.similarity(pixels, TEXTS)[0])
    # maps that are inside out are turned
    turned = localizer.with_method("naclip", order="grid", reverse=True)
    assert torch.equal(EngineSubject(turned).similarity(pixels, TEXTS), -found)


def test_a_picture_lies_in_both_kinds_of_model_as_their_localizers_have_it() -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8))
    engine, file = EngineSubject(Localizer(device="cpu")), FileSubject(OnnxLocalizer())
    made = {each: each.pixels(picture, each.geometry((90, 120))) for each in (engine, file)}
    np.testing.assert_allclose(made[engine], made[file], atol=1e-6)
    result = engine.localizer(picture, list(TEXTS))
    np.testing.assert_allclose(engine.similarity(made[engine][None], TEXTS)[0], result.similarity, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "size"),
    [({"crop": 224}, "224"), ({"crop": 0}, "dynamic"), ({"crop": 0, "resize": "square", "short_side": 448}, "448")],
)
def test_a_file_s_size_is_held_against_the_protocol_s(tmp_path: Path, fields: dict[str, Any], size: str) -> None:
    asked = subject(tmp_path / "tiny.onnx")
    with pytest.raises(FastlocError, match=f"`fastloc export --size {size} --batch dynamic`"):
        check_size(asked, Protocol(paper="p", data="d", source="", **fields), "tiny.onnx")
    check_size(asked, Protocol(paper="p", data="d", source="", resize="fit", crop=0), "tiny.onnx")


@pytest.mark.slow("80 sentences in two runtimes")
def test_texts_of_a_file_s_tower_are_in_the_protocol_s_template() -> None:
    plain, other = OnnxLocalizer(), with_template(OnnxLocalizer(), "openai80")
    assert not np.allclose(plain.encode_texts(["cat"]).vectors, other.encode_texts(["cat"]).vectors)
    ours = Localizer(template="openai80").embeddings(["cat"]).vectors
    np.testing.assert_allclose(other.encode_texts(["cat"]).vectors, ours, atol=1e-4)
