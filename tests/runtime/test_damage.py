"""Exported files whose metadata and graph say different things: refused in one line, before anything of those sizes is made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fastloc import embedded
from fastloc.errors import ModelError
from fastloc.onnx_file import header, text_manifest
from fastloc.onnx_file.golden import picture, unit_texts
from fastloc.onnx_file.text_manifest import TOKENIZER, pack, unpack
from fastloc.runtime.localizer import OnnxLocalizer
from fastloc.runtime.text_encoder import OnnxTextEncoder
from mutations import json_edits, raw
from onnx_files import EMBED, change_metadata, tiny_model

NAMES = ("cat", "dog")


def metadata(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(tiny_model(path, count=2, batch=1).dumps())
    edit(content)
    change_metadata(path, json.dumps(content))


def use(path: Path) -> OnnxLocalizer:
    found = OnnxLocalizer(path, embeddings=(NAMES, unit_texts(1, 2, EMBED)), providers="cpu", threads=1)
    found(picture(0, (32, 40)))
    return found


OTHERS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a larger batch": (lambda content: content["input"].update(batch=4096), r"input 'pixels' must be float32 \[4096, 3, 32, 40\]"),
    "a larger size": (lambda content: content["input"].update(size=[4096, 4096]), r"got float32 \[1, 3, 32, 40\]"),
    "more texts": (lambda content: content["texts"].update(count=60000), r"input 'text_embeddings' must be float32 \[60000, 16\]"),
    "another layout": (lambda content: content["input"].update(layout="NHWC"), r"must be float32 \[1, 32, 40, 3\]"),
    "frames": (lambda content: content["input"].update(kind="frames", frame=[32, 40]), "its graph must have the inputs"),
    "another output": (lambda content: content.update(outputs=["heatmaps"], golden=None), "must have output 'heatmaps' as declared"),
    "another width": (lambda content: content["model"].update(embed=17), r"must be float32 \[2, 17\]"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_graph_that_is_not_what_the_metadata_say(case: str, tmp_path: Path) -> None:
    edit, message = OTHERS[case]
    metadata(tmp_path / "a.onnx", edit)
    with pytest.raises(ModelError, match=message) as caught:
        use(tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    tiny_model(path, count=2, batch=1)
    content = path.read_bytes()
    assert content.count(b"text_embeddings") >= 2
    path.write_bytes(content.replace(b"text_embeddings", b"text_\xff\xfebeddings"))
    with pytest.raises(ModelError, match="a name in its graph must be text"):
        use(path)


def test_an_output_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model(tmp_path / "a.onnx", count=2, batch=1)
    found = use(tmp_path / "a.onnx")
    monkeypatch.setattr(found.session, "run", lambda feeds: {"similarity": np.zeros((1, 1, 4, 5), np.float32)})
    with pytest.raises(ModelError, match="'similarity' must be of 1 pictures and 2 texts"):
        found(picture(0, (32, 40)))


def tower(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the embedded text tower with another tokenizer."""
    for file in (embedded.GEM_TEXT_ONNX, embedded.MODEL):
        shutil.copy(file, folder)
    path = folder / embedded.GEM_TEXT_ONNX.name
    content = json.loads(unpack(header.read(path).metadata[TOKENIZER]))
    edit(content)
    model = onnx.load(path, load_external_data=False)
    for entry in model.metadata_props:
        if entry.key == TOKENIZER:
            entry.value = pack(json.dumps(content))
    path.write_bytes(model.SerializeToString())
    return path


def test_a_text_tower_s_tokenizer_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # one that the library would take, so that no process ends where it is not looked at
    path = tower(tmp_path, lambda content: content["padding"].update(strategy="BatchLongest"))
    with pytest.raises(ModelError, match=r"padding\.strategy must be \{'Fixed': 24\}, got 'BatchLongest'"):
        OnnxTextEncoder(path)
    path = tower(tmp_path, lambda content: None)
    assert OnnxTextEncoder(path, threads=1)(["cat"], "gem").shape == (1, 192)
    monkeypatch.setattr(text_manifest, "TOKENIZER_BYTES", 1 << 20)
    with pytest.raises(ModelError, match="its tokenizer is damaged"):
        OnnxTextEncoder(path)


def test_no_edit_of_the_metadata_ends_in_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    content = json.loads(tiny_model(path, count=2, batch=1, golden=False).dumps())

    def call(made: object) -> None:
        change_metadata(path, json.dumps(made))
        use(path)

    assert raw(json_edits(content, 5, 120), call) == []
