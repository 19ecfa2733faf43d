"""Objects that pickle as the arguments they were made with."""

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from fastloc.utils.described import Described


class Made(Described):
    """Holds what cannot be pickled, and what it was made with."""

    def __init__(self, path: Any, *, size: int = 1, **changes: Any) -> None:
        self._describe(locals(), more="changes")
        self.path, self.size, self.changes, self.loaded = path, size, changes, open(os.devnull, encoding="utf-8")  # noqa: SIM115

    def __del__(self) -> None:
        self.loaded.close()


def test_arguments_go_and_what_was_loaded_is_loaded_again() -> None:
    made = Made("name", size=3, blocks=2)
    for other in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert (other.path, other.size, other.changes) == ("name", 3, {"blocks": 2}) and other.loaded is not made.loaded
    assert copy.copy(made).loaded is made.loaded


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        (Path("w.pt"), Path("{}/w.pt")),
        (Path("none.pt"), Path("{}/none.pt")),
        ("w.pt", "{}/w.pt"),
        ("w.pt@sha256:00", "{}/w.pt@sha256:00"),
        ("models", "{}/models"),
        ("local-dir:models", "local-dir:{}/models"),
        # names, though there are files and folders that are called so
        ("ViT-B-16", "ViT-B-16"),
        ("embedded", "embedded"),
        ("none.pt", "none.pt"),
        ("hf-hub:owner/name@main", "hf-hub:owner/name@main"),
    ],
)
def test_paths_mean_the_same_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, kept: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("w.pt", "ViT-B-16"):
        (tmp_path / name).touch()
    for name in ("models", "embedded"):
        (tmp_path / name).mkdir()
    pickled = pickle.dumps(Made(path))
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).path == type(kept)(str(kept).replace("{}", str(tmp_path)))
