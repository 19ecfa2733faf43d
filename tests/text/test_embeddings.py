"""Encoded texts in files: what is saved comes back, and whatever is not that is refused in one line."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fastloc.bench.peers.seeded import seeded_texts
from fastloc.errors import FastlocError, ModelError, TextError
from fastloc.text import embeddings
from fastloc.text.embeddings import FORMATS, TextEmbeddings
from mutations import byte_edits, raw

TOWER, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
NAMES = ("red car", 'a "quoted" 日本語 🎉', "cat\nnip")


def made(**changes: Any) -> TextEmbeddings:
    return TextEmbeddings(**{"names": NAMES, "vectors": seeded_texts(3, 8, 0), "template": "a drawing of a {}", "tower": TOWER, **changes})


@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_saved_comes_back(ending: str, tmp_path: Path):
    path = tmp_path / f"words{ending}"
    made().save(path)
    found = TextEmbeddings.load(path, TOWER)
    assert (found.names, found.template, found.tower) == (NAMES, "a drawing of a {}", TOWER)
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, made().vectors)
    # saving again writes over it, and leaves nothing beside it
    made(names=("x", "y", "z")).save(path)
    assert TextEmbeddings.load(str(path)).names == ("x", "y", "z")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", FORMATS)
def test_another_text_tower_is_refused(ending: str, tmp_path: Path):
    path = tmp_path / f"words{ending}"
    made().save(path)
    with pytest.raises(ModelError, match=r"words.* made by text tower aaaaaaaaaaaa, and the model's is bbbbbbbbbbbb"):
        TextEmbeddings.load(path, OTHER)
    with pytest.raises(ModelError, match="these text embeddings: made by text tower"):
        made().check(OTHER)
    made().check(TOWER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ()}, "must be of one text or more"),
        ({"names": ("cat",)}, r"text embeddings must be float32 \[1, E\], got float32 \[3, 8\]"),
        ({"vectors": seeded_texts(3, 8, 0).astype(np.float64)}, r"got float64 \[3, 8\]"),
        ({"vectors": seeded_texts(3, 8, 0)[0]}, r"got float32 \[8\]"),
        ({"vectors": seeded_texts(3, 8, 0) * np.array([[1], [1.1], [1]], np.float32)}, "must have unit length, got 1.1"),
        ({"vectors": seeded_texts(3, 8, 0) * 0}, "'red car' must have unit length, got 0"),
        ({"vectors": np.where(np.eye(3, 8) > 0, np.nan, 0.5).astype(np.float32)}, "'red car' must be finite"),
    ],
)
def test_vectors_that_are_no_embeddings(changes: dict[str, Any], message: str):
    with pytest.raises(TextError, match=message):
        made(**changes)


def npz(path: Path, **arrays: Any) -> Path:
    whole = {"vectors": made().vectors, "format": "1", "names": '["a", "b", "c"]', "template": "gem", "tower": TOWER} | arrays
    np.savez(path, **{name: np.asarray(array) for name, array in whole.items() if array is not None})
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, None),
        ({"vectors": None}, "it has no 'vectors'"),
        ({"names": None}, "holds no text embeddings of fastloc's .*names"),
        ({"names": "not JSON"}, "holds no text embeddings of fastloc's"),
        ({"names": "3"}, "holds no text embeddings of fastloc's"),
        ({"tower": None}, "holds no text embeddings of fastloc's .*tower"),
        ({"format": "2"}, "of format 2; this fastloc reads format 1"),
        ({"format": "new"}, "holds no text embeddings of fastloc's"),
        ({"vectors": made().vectors * 2}, "must have unit length, got 2"),
        ({"vectors": made().vectors[:2]}, r"float32 \[3, E\], got float32 \[2, 8\]"),
        ({"vectors": np.full((3, 8), np.inf, np.float32)}, "must be finite"),
        ({"vectors": np.array([object()])}, "Object arrays cannot be loaded"),
    ],
)
def test_files_of_other_things(arrays: dict[str, Any], message: str | None, tmp_path: Path):
    path = npz(tmp_path / "words.npz", **arrays)
    if message is None:
        assert TextEmbeddings.load(path).names == ("a", "b", "c")
        return
    with pytest.raises(ModelError, match=rf"words\.npz: .*{message}") as caught:
        TextEmbeddings.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", FORMATS)
def test_damaged_files(ending: str, tmp_path: Path):
    whole = tmp_path / f"whole{ending}"
    made().save(whole)
    content = whole.read_bytes()
    for name, damaged in (("short", content[: len(content) // 2]), ("empty", b""), ("text", b"hello, this is no tensor")):
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=rf"{name}\{ending}: is not .* or is damaged") as caught:
            TextEmbeddings.load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", FORMATS)
def test_no_edit_ends_in_anything_else(ending: str, tmp_path: Path):
    whole, path = tmp_path / f"whole{ending}", tmp_path / f"edited{ending}"
    made().save(whole)
    assert raw(byte_edits(whole.read_bytes(), 5, 200), lambda content: (path.write_bytes(content), TextEmbeddings.load(path))) == []


@pytest.mark.parametrize(
    "arrays",
    [{"template": "a\nb"}, {"tower": "\x1b[31m"}, {"names": '["\\ud800"]'}, {"format": "9" * 99}, {"format": [1]},
     {"names": "[" * 100_000}, {"tower": b"x"}],
)  # fmt: skip
def test_what_no_message_could_show(arrays: dict[str, Any], tmp_path: Path):
    with pytest.raises(ModelError, match="holds no text embeddings of fastloc's") as caught:
        TextEmbeddings.load(npz(tmp_path / "words.npz", **arrays))
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_an_array_larger_than_its_file_is_refused(tmp_path: Path):
    about = {"format": "1", "names": "[]", "template": "gem", "tower": TOWER}
    np.savez_compressed(tmp_path / "words.npz", vectors=np.zeros((1 << 10, 1 << 13), np.float32), **about)
    assert (tmp_path / "words.npz").stat().st_size < 50_000
    with pytest.raises(ModelError, match="unpack to at most 16,777,216 bytes"):
        TextEmbeddings.load(tmp_path / "words.npz")


def test_a_safetensors_file_of_a_model_holds_no_texts(tmp_path: Path):
    save_file({"vectors": made().vectors}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="holds no text embeddings of fastloc's"):
        TextEmbeddings.load(tmp_path / "a.safetensors")
    save_file({"weight": made().vectors}, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match=r"is not a \.safetensors file of text embeddings"):
        TextEmbeddings.load(tmp_path / "b.safetensors")
    # others read ours
    made().save(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(load_file(tmp_path / "c.safetensors")["vectors"], made().vectors)


def test_paths_that_cannot_be_used(tmp_path: Path):
    for path in (tmp_path / "words.pt", tmp_path / "words"):
        with pytest.raises(FastlocError, match=r"unknown file ending '.*': .*known file endings: \.npz, \.safetensors"):
            made().save(path)
        with pytest.raises(FastlocError, match="unknown file ending"):
            TextEmbeddings.load(path)
    with pytest.raises(ModelError, match=r"nowhere\.npz: no such file"):
        TextEmbeddings.load(tmp_path / "nowhere.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ModelError, match="is a folder"):
        TextEmbeddings.load(tmp_path / "folder.npz")
    with pytest.raises(FastlocError, match="cannot be written"):
        made().save(tmp_path / "nowhere" / "words.npz")
    with pytest.raises(FastlocError, match="cannot be written"):
        made().save(tmp_path / "folder.npz")
    assert [each.name for each in tmp_path.iterdir()] == ["folder.npz"]


def test_an_interrupted_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "words.npz"
    made().save(path)

    def full(found: TextEmbeddings, part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(embeddings.FORMATS, ".npz", (full, FORMATS[".npz"][1]))
    with pytest.raises(FastlocError, match=r"cannot be written \(No space left on device\)"):
        made(template="plain").save(path)
    assert TextEmbeddings.load(path).template == "a drawing of a {}"
    assert list(tmp_path.iterdir()) == [path]


def test_safetensors_is_needed_for_its_own_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made().save(tmp_path / "words.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    made().save(tmp_path / "words.npz")
    for act in (made().save, TextEmbeddings.load):
        with pytest.raises(FastlocError, match="safetensors is not installed"):
            act(tmp_path / "words.safetensors")
