"""Several pictures in one argument: each once, in a stated order, with a name of its own."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastloc.errors import ImageError
from fastloc.imaging import images
from fastloc.imaging.picture_sources import is_many, paths, pictures

BATCH = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    for name in ("b.png", "a.JPG", "more/c.webp", "[d].png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.md").write_text("no picture")
    return tmp_path


def names(found: list[str], folder: Path) -> list[str]:
    return [os.path.relpath(each, folder) for each in found]


def test_a_folder_gives_its_pictures_by_name(folder: Path) -> None:
    assert names(paths(str(folder)), folder) == ["[d].png", "a.JPG", "b.png"]
    assert names(list(pictures(folder)), folder) == ["[d].png", "a.JPG", "b.png"]


def test_patterns(folder: Path) -> None:
    assert names(paths(f"{folder}/*.png"), folder) == ["[d].png", "b.png"]
    assert names(paths(f"{folder}/**/*.webp"), folder) == ["more/c.webp"]
    # a file of that very name is no pattern
    assert paths(f"{folder}/[d].png") == [f"{folder}/[d].png"]


def test_a_list_file(folder: Path) -> None:
    (folder / "list.txt").write_text("# shots\nb.png\n\nhttps://example.org/x.jpg\n/abs/y.png\nb.png\n")
    assert paths(str(folder / "list.txt")) == [f"{folder}/b.png", "https://example.org/x.jpg", "/abs/y.png", f"{folder}/b.png"]


@pytest.mark.parametrize("single", ["a.png", "https://example.org/*.jpg", "https://example.org/list.txt"])
def test_one_picture_stays_one(single: str) -> None:
    assert not is_many(single) and paths(single) == [single]


def test_nothing_is_an_error(folder: Path) -> None:
    (folder / "none").mkdir()
    (folder / "empty.txt").touch()
    refused = {"none": "must hold pictures", "none/*.png": "no file matches", "empty.txt": "got none", "gone.txt": "No such"}
    for source, words in refused.items():
        with pytest.raises(ImageError, match=words):
            paths(f"{folder}/{source}")


@pytest.mark.parametrize("make", [lambda: BATCH, lambda: np.moveaxis(BATCH, -1, 1), lambda: torch.from_numpy(BATCH).permute(0, 3, 1, 2),
                                  lambda: torch.from_numpy(BATCH), lambda: (each for each in BATCH), lambda: list(BATCH)])  # fmt: skip
def test_batches_and_iterables(make: object) -> None:
    source = make()
    assert is_many(source)
    assert [np.asarray(images.load(each)).tolist() for each in pictures(source)] == BATCH.tolist()


@pytest.mark.parametrize("single", [b"", bytearray(), memoryview(b""), io.BytesIO(), BATCH[0], torch.from_numpy(BATCH[0]), None, {}, 3])
def test_what_is_one_picture_or_none(single: object) -> None:
    assert not is_many(single)


@pytest.mark.parametrize("shape", [(2, 5, 7, 2), (0, 5, 7, 3), (2, 2, 5, 7)])
def test_other_batches_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="a batch must be"):
        list(pictures(np.zeros(shape, np.uint8)))
