"""Weights that are pinned: another file is not read, wherever it comes from."""

import hashlib
import shutil
from pathlib import Path

import pytest

from fastloc.checkpoints import loading, pins
from fastloc.embedded import FOLDER, MODEL
from fastloc.errors import ModelError
from hub_fixtures import NAME, cache_fixture, server_fixture
from hub_server import COMMIT, Faults, HubServer

__all__ = ["cache_fixture", "server_fixture"]

DIGEST = hashlib.sha256(MODEL.read_bytes()).hexdigest()
OTHER = 64 * "0"


@pytest.mark.parametrize(
    ("text", "pretrained", "digest"),
    [
        (None, None, None),
        ("laion2b_s34b_b88k", "laion2b_s34b_b88k", None),
        (f"laion2b_s34b_b88k@sha256:{DIGEST.upper()}", "laion2b_s34b_b88k", DIGEST),
        (f"some folder/a@b.pt@sha256:{DIGEST}", "some folder/a@b.pt", DIGEST),
        (f"sha256:{DIGEST}", None, DIGEST),
    ],
)
def test_a_pin_is_split_from_what_it_pins(text: str | None, pretrained: str | None, digest: str | None) -> None:
    assert pins.split(text) == (pretrained, digest)


@pytest.mark.parametrize("text", ["sha256:", "tag@sha256:12ab", f"sha256:{DIGEST}0", f"tag@sha256:{DIGEST[:-1]}g"])
def test_a_pin_that_is_none(text: str) -> None:
    with pytest.raises(ModelError, match="a pin must be sha256: and 64 hexadecimal digits"):
        loading.load("embedded", text)


def test_weights_that_come_with_a_model(tmp_path: Path) -> None:
    assert loading.load("embedded", f"sha256:{DIGEST}").name == "embedded"
    shutil.copytree(FOLDER, tmp_path / "mine", ignore=shutil.ignore_patterns("samples", "*.onnx", "__pycache__"))
    assert loading.load(str(tmp_path / "mine"), f"sha256:{DIGEST}").name == "mine"
    with (tmp_path / "mine" / MODEL.name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match=rf"must have sha256 {DIGEST}, got [0-9a-f]{{64}}; they are not the ones that were pinned"):
        loading.load(str(tmp_path / "mine"), f"sha256:{DIGEST}")


def test_what_is_not_pinned_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "read_state", lambda path: pytest.fail(f"{path} was read"))
    for read in (loading.load, loading.checkpoint):
        with pytest.raises(ModelError, match="must have sha256"):
            read("embedded", f"sha256:{OTHER}")


def test_weights_that_are_made_have_no_file() -> None:
    with pytest.raises(ModelError, match=f"weights 'random' are made here, and have no file with sha256 {OTHER}"):
        loading.load("ViT-B-16", f"random@sha256:{OTHER}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.pt' cannot be read \(No such file or directory\)"):
        loading.load("ViT-B-16", f"{tmp_path / 'none.pt'}@sha256:{OTHER}")


def test_a_repository_by_commit_and_content(server: HubServer) -> None:
    names = [path for path in sorted(FOLDER.iterdir()) if path.name in ("open_clip_config.json", MODEL.name)]
    files = {"open_clip_model.safetensors" if path == MODEL else path.name: path.read_bytes() for path in names}
    server.repositories[NAME] = files
    model = f"hf-hub:{NAME}@{COMMIT}"
    assert loading.load(model, f"sha256:{DIGEST}").name == model
    with pytest.raises(ModelError, match="are not the ones that were pinned"):
        loading.load(model, f"sha256:{OTHER}")
    assert all(COMMIT in each.path for each in server.asked("GET") if "/resolve/" in each.path)


def test_a_small_file_is_checked_against_git_s_name_of_it(server: HubServer, cache: Path) -> None:
    """Configurations and tokenizers are not in the large storage, and have no sha256 there."""
    server.repositories[NAME] = {"open_clip_config.json": b'{"model_cfg": {}}'}
    server.faults = Faults(damaged=True)
    with pytest.raises(ModelError, match=r"open_clip_config\.json came damaged \(its sha1 is not the hub's\) and is deleted"):
        loading.load(f"hf-hub:{NAME}")
    assert not list(cache.glob("models--*/blobs/*"))
