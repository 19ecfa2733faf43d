"""A target has its name once it is whole; after an error what was there before is there still, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fastloc.utils.atomic_write import replacing, replacing_files, replacing_folder


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("before")
    with replacing(target) as part:
        part.write_text("after")
        assert target.read_text() == "before" and part.parent == tmp_path
    assert target.read_text() == "after" and list(tmp_path.iterdir()) == [target]


def test_files_that_belong_together_go_beside_each_other(tmp_path: Path) -> None:
    with replacing_files(tmp_path / "x.onnx") as folder:
        (folder / "x.onnx").write_text("graph")
        (folder / "x.onnx.data").write_text("weights")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"x.onnx": "graph", "x.onnx.data": "weights"}


def test_a_folder_replaces_another_that_is_not_empty(tmp_path: Path) -> None:
    target = tmp_path / "page"
    target.mkdir()
    (target / "old").write_text("old")
    with replacing_folder(target) as part:
        (part / "new").write_text("new")
    assert [file.name for file in target.iterdir()] == ["new"] and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    target, folder = tmp_path / "x.txt", tmp_path / "page"
    target.write_text("before")
    folder.mkdir()

    def broken(way: Callable[[Path], AbstractContextManager[Path]], path: Path, inside: str) -> None:
        with way(path) as part:
            (part / inside).write_text("half")
            raise error

    for way, path, inside in ((replacing, target, ""), (replacing_files, target, "x.txt"), (replacing_folder, folder, "new")):
        with pytest.raises(error):
            broken(way, path, inside)
    assert target.read_text() == "before" and not list(folder.iterdir())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page", "x.txt"]
