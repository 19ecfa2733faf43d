"""Damaged headers, graphs and manifests of exported files: one line that names the file, whatever was done to them, and little memory."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastloc import embedded
from fastloc.errors import FastlocError, ModelError
from fastloc.onnx_file import graph, header, text_manifest
from fastloc.onnx_file.golden import Golden, Sample
from fastloc.onnx_file.manifest import KEY, Manifest
from fastloc.onnx_file.text_manifest import TOKENIZER, TextManifest
from mutations import byte_edits, json_edits, outcome, raw


def number(value: int) -> bytes:
    """A varint."""
    made = b""
    while True:
        made += bytes([(value & 127) | (128 if value > 127 else 0)])
        value >>= 7
        if not value:
            return made


def field(index: int, content: bytes, length: int | None = None) -> bytes:
    return number(index << 3 | 2) + number(len(content) if length is None else length) + content


def whole(index: int, value: int) -> bytes:
    return number(index << 3) + number(value)


HEAD = whole(1, 8)


def weights(**entries: bytes) -> bytes:
    """A graph with one tensor whose numbers are elsewhere."""
    pairs = b"".join(field(13, field(1, key.encode()) + field(2, value)) for key, value in ({"location": b"a"} | entries).items())
    return HEAD + field(7, field(5, pairs))


def node(content: bytes) -> bytes:
    return HEAD + field(7, field(1, content))


FILES: dict[str, tuple[bytes, str]] = {
    "a key of 2^40 bytes": (HEAD + field(7, b"") + field(14, field(1, b"k", 2**40)), "a field is longer than what it is in"),
    "an operator of 2^63 bytes": (node(field(4, b"", 2**63)), "a field is longer than what it is in"),
    "an operator of 300 bytes": (node(field(4, b"x" * 300)), "a name must have at most 256 bytes, got 300"),
    "an offset that is no number": (weights(offset=b"x"), "the offset of its weights must be a number of bytes, got 'x'"),
    "a length below 0": (weights(length=b"-1"), "the length of its weights must be a number of bytes, got '-1'"),
    "a length of 5000 digits": (weights(length=b"9" * 5000), "a name must have at most 1024 bytes"),
    "a length of 30 digits": (weights(length=b"9" * 30), "the length of its weights must be a number of bytes"),
    "weights of 10^19 bytes": (weights(location=b"model.onnx", length=b"9" * 19), "is truncated: it has"),
    "a location of 5000 letters": (weights(location=b"x" * 5000), "a name must have at most 1024 bytes, got 5000"),
    "a location of 300 letters": (weights(location=b"x" * 300), "the location of its weights must be a path below the file's folder"),
    "weights elsewhere": (weights(location=b"/etc/passwd"), "must be a path below the file's folder, got '/etc/passwd'"),
    "weights above": (weights(location=b"a/../../b"), "must be a path below the file's folder, got 'a/../../b'"),
    "weights on another drive": (weights(location=b"C:\\weights"), "must be a path below the file's folder"),
    "a location with a NUL": (weights(location=b"a\0b"), "must be a path below the file's folder"),
    "a location that is not there": (weights(location=b""), "must be a path below the file's folder"),
    "a location that is a folder": (weights(location=b"."), "which is missing"),
}


@pytest.mark.parametrize("case", FILES)
def test_headers(case: str, tmp_path: Path) -> None:
    content, message = FILES[case]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        header.read(path)
    line = str(caught.value)
    assert message in line and line.startswith(str(tmp_path)) and "\n" not in line and len(line) < 500


GRAPHS: dict[str, tuple[bytes, str]] = {
    # of a number as a name Python would make a text of so many zeros
    "a name that is a number": (node(whole(3, 2**40) + field(4, b"Add")), ""),
    "no operator": (node(whole(4, 2**40)), "a node without an operator"),
    "a name that is no text": (node(field(4, b"\xff\xfe")), "a name is not text"),
    "graphs inside one another": (HEAD, "more than 16 graphs inside one another"),
    "a shape of many axes": (HEAD + field(7, field(5, whole(1, 9) * 100)), "a tensor of shape (9, 9"),
    "a shape below 0": (HEAD + field(7, field(5, whole(1, 2**64 - 5))), "a tensor of shape (-5,)"),
    "a shape beyond all numbers": (HEAD + field(7, field(5, whole(1, 2**62) * 8)), "a tensor of shape (4611686018427387904,"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs(case: str, tmp_path: Path) -> None:
    content, message = GRAPHS[case]
    if case == "graphs inside one another":
        inner = field(1, field(4, b"If"))
        for _ in range(40):
            inner = field(1, field(4, b"If") + field(5, field(6, inner)))
        content += field(7, inner)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    if not message:
        assert graph.read(path).graph.nodes[0].name == ""
        return
    with pytest.raises(ModelError) as caught:
        graph.read(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_fields_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.onnx").write_bytes(HEAD + field(7, field(1, field(4, b"A")) * 100))
    assert len(graph.read(tmp_path / "a.onnx").graph.nodes) == 100
    # one of each node and one of its operator, the graph and two at the top
    monkeypatch.setattr(graph, "MOST_FIELDS", 201)
    with pytest.raises(ModelError, match="its graph is damaged: it has more than 201 fields"):
        graph.read(tmp_path / "a.onnx")


def test_metadata_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.onnx").write_bytes(HEAD + field(7, b"") + field(14, field(1, b"k") + field(2, b"x" * 600)) * 2)
    assert header.read(tmp_path / "a.onnx").metadata == {"k": "x" * 600}
    monkeypatch.setattr(header, "METADATA_BYTES", 1000)
    with pytest.raises(ModelError, match="must have at most 1,000 bytes of metadata"):
        header.read(tmp_path / "a.onnx")


# manifests

MANIFEST: dict[str, Any] = json.loads(header.read(embedded.GEM_ONNX).metadata[KEY])


def changed(path: str, value: object) -> str:
    content = json.loads(json.dumps(MANIFEST))
    *first, last = path.split(".")
    inner = content
    for part in first:
        inner = inner[part]
    inner[last] = value
    return json.dumps(content)


FIELDS: dict[str, tuple[object, str]] = {
    "input.batch": (2**31, "input: batch must be a whole number from 1 to 4096, got 2147483648"),
    "input.size": ([10**6, 10**6], "input: size must be a whole number from 1 to 16384, got 1000000"),
    "input.usual": ([16384, 16384], "input: pixels of batch and usual must be a whole number from 1 to 134217728, got 268435456"),
    "input.kind": ("frames", "input: frame must be the camera's size, (height, width), got None"),
    "input.layout": ("HWC", "unknown layout 'HWC'"),
    "input.fit": ("x", "unknown fit 'x'"),
    "model.text": (1, "model.text must be str, got int"),
    "model.name": ("a\nb", "model: name must be one line"),
    "model.mean": (["x"] * 3, "model.mean[0] must be float, got str"),
    "model.std": ([0, 1, 1], "model: std must be a number from 1e-06 to 1e+06, got 0"),
    "model.patch": ([0, 8], "model: patch must be a whole number from 1 to 1024, got 0"),
    "model.embed": (2**40, "model: embed must be a whole number from 1 to 65536"),
    "model.interpolation": ("cubic", "unknown interpolation 'cubic'"),
    "texts.count": ({}, "texts.count must be int | null, got object"),
    "texts.names": (["a", 3], "texts.names[1] must be str, got int"),
    "golden.size": ([], "golden.size must be array of length 2"),
    "golden.seed": (-1, "golden: seed of the golden must be a whole number from 0 to"),
    "golden.batch": (2**20, "golden: batch of the golden must be a whole number from 1 to 4096"),
    "recipe": ("x", "recipe must be object, got str"),
    "recipe.terms": (["vvv"], "recipe: unknown attention term 'vvv'"),
    "recipe.readout": ({"score": "x"}, "recipe.readout: unknown score 'x'"),
    "outputs": ([None], "outputs[0] must be str, got null"),
    "dtype": ("float4", "unknown dtype 'float4'"),
    "opset": (-1, "opset must be a whole number from 1 to 1000, got -1"),
    "format": (2, "metadata of format 2; this fastloc reads format 1"),
    "version": ([], "version must be str, got array"),
}


@pytest.mark.parametrize("path", FIELDS)
def test_fields_of_a_manifest(path: str) -> None:
    value, message = FIELDS[path]
    with pytest.raises(ModelError) as caught:
        Manifest.loads(changed(path, value), "a.onnx")
    line = str(caught.value)
    assert message in line and line.startswith("a.onnx") and "\n" not in line and len(line) < 500


def test_a_manifest_that_is_nested_too_deep() -> None:
    with pytest.raises(ModelError, match="nested so deep"):
        Manifest.loads('{"format": 1, "model": ' + "[" * 1_000_000, "a.onnx")


def test_fields_that_contradict_one_another() -> None:
    good = Manifest.loads(json.dumps(MANIFEST))
    assert good.golden is not None
    with pytest.raises(FastlocError, match="numbers of all text embeddings must be"):
        replace(good, texts=replace(good.texts, count=1 << 16), model=replace(good.model, embed=1 << 16))
    with pytest.raises(FastlocError, match="outputs must be named once each"):
        replace(good, outputs=("similarity", "similarity"))
    with pytest.raises(FastlocError, match="outputs of the golden must be among scores"):
        replace(good, outputs=("scores",))
    with pytest.raises(FastlocError, match="count of texts must be that of the baked ones, 1, got 2"):
        replace(good.texts, names=("cat",), count=2)


def test_the_numbers_of_a_golden() -> None:
    with pytest.raises(FastlocError, match="values of 8 numbers of float32 must be 44 characters, got 3"):
        Sample((2, 4), 1, "float32", "abc")
    with pytest.raises(FastlocError, match="unknown dtype of a golden 'object'"):
        Sample((1,), 1, "object", "AAAAAAAAAAA=")
    with pytest.raises(ModelError, match="values of a golden must be base64"):
        Sample((3,), 1, "float32", "AAAAAAAAAAAAAAA!").numbers()
    with pytest.raises(FastlocError, match="pixels of the golden must be"):
        Golden(0, 4096, (4096, 4096), 1, {})


# what came with fastloc is read without the schema, and says the same by it


def test_shipped_manifests_fit_the_schema() -> None:
    found = header.read(embedded.GEM_ONNX)
    assert found.shipped and found.manifest() == Manifest.loads(found.metadata[KEY])
    metadata = header.read(embedded.GEM_TEXT_ONNX).metadata
    assert TextManifest.of(metadata, "a", shipped=True) == TextManifest.of(metadata, "a")


def test_a_copy_is_not_shipped(tmp_path: Path) -> None:
    for name in (embedded.GEM_ONNX, embedded.MODEL):
        shutil.copy(name, tmp_path)
    assert not header.read(tmp_path / embedded.GEM_ONNX.name).shipped


# the definition of a tokenizer


def test_a_tokenizer_is_unpacked_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = text_manifest.pack(" " * (32 << 20))
    assert len(packed) < 50_000 and text_manifest.unpack(text_manifest.pack("{}")) == "{}"
    monkeypatch.setattr(text_manifest, "TOKENIZER_BYTES", 1 << 20)
    tracemalloc.start()
    with pytest.raises(ModelError, match=r"a\.onnx: its tokenizer is damaged \(it must have at most 1,048,576 bytes\)"):
        text_manifest.unpack(packed, "a.onnx")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "change",
    [lambda packed: "", lambda packed: packed[:40], lambda packed: packed + "AAAA", lambda packed: "é" + packed, lambda packed: "AAAA",
     lambda packed: packed[:-8] + "AAAAAAA="],
)  # fmt: skip
def test_a_damaged_tokenizer(change: Callable[[str], str]) -> None:
    with pytest.raises(ModelError, match=r"a\.onnx: its tokenizer is damaged"):
        text_manifest.unpack(change(text_manifest.pack('{"model": {}}' * 9)), "a.onnx")


# small edits at random


def test_no_edit_of_a_file_ends_in_anything_else(tmp_path: Path) -> None:
    shutil.copy(embedded.MODEL, tmp_path)
    path = tmp_path / "a.onnx"

    def call(content: bytes) -> None:
        path.write_bytes(content)
        read = outcome(lambda: header.read(path))
        assert not read.startswith("RAW"), read
        graph.read(path)

    assert raw(byte_edits(embedded.GEM_ONNX.read_bytes(), 5, 60), call) == []


def test_no_edit_of_a_manifest_ends_in_anything_else() -> None:
    assert raw(json_edits(MANIFEST, 5, 400), lambda made: Manifest.loads(json.dumps(made), "a").golden_inputs()) == []


def test_no_edit_of_a_text_manifest_ends_in_anything_else() -> None:
    metadata = header.read(embedded.GEM_TEXT_ONNX).metadata
    content = json.loads(metadata[text_manifest.KEY])

    def call(made: object) -> None:
        TextManifest.of({text_manifest.KEY: json.dumps(made), TOKENIZER: ""}, "a").sentences("gem")

    assert raw(json_edits(content, 5, 400), call) == []
