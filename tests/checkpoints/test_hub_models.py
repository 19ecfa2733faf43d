"""Models named hf-hub:owner/name, and tags whose weights are not here: which files are fetched, and what runs with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc import embedded
from fastloc.checkpoints import hub
from fastloc.checkpoints.hub_repository import Repository
from fastloc.errors import ModelError
from hub_fixtures import (
    BIN,
    CONTENT,
    NAME,
    SAFE,
    cache_fixture,  # noqa: F401
    environment,
    fetched,
    server_fixture,  # noqa: F401
)
from hub_server import COMMIT, HubServer


@pytest.mark.parametrize("spelled", ["", "name", "a/b/c", "/name", "a/..", "a/b@", "a/b@../c", "a/b.git"])
def test_names_that_are_spelled_wrong(spelled: str):
    with pytest.raises(ModelError, match="hf-hub:owner/name must have an owner and a name, and may have @revision, got"):
        Repository.parse(f"hf-hub:{spelled}")


def test_the_files_of_a_model_are_of_one_commit_and_the_tokenizer_comes_before_the_weights(server: HubServer):
    tokenizer = {"tokenizer.json": b"{}", "tokenizer_config.json": b"{ }"}
    server.repositories[NAME] = {hub.CONFIG: b"{}", SAFE: CONTENT, **tokenizer, "vocab.txt": b"cat", "tokenizer.py": b"raise SystemExit"}
    wants = {"text_cfg": {"hf_tokenizer_name": "bert"}}
    path, repository = hub.config(Repository.parse(f"hf-hub:{NAME}"))
    assert repository.revision == path.parent.name == COMMIT
    assert hub.weights(repository, wants).parent == path.parent
    assert sorted(each.name for each in path.parent.iterdir()) == sorted([hub.CONFIG, SAFE, *tokenizer])
    assert server.asked("GET")[-1].path.startswith("/large/")
    server.requests.clear()
    hub.weights(hub.config(Repository.parse(f"hf-hub:{NAME}"))[1], wants)
    assert server.requests == []
    with pytest.raises(ModelError, match=f"repository '{NAME}' has no revision 'v2'"):
        hub.config(Repository.parse(f"hf-hub:{NAME}@v2"))


def test_a_tokenizer_that_the_repository_lacks(server: HubServer):
    server.repositories[NAME] = {hub.CONFIG: b"{}", SAFE: CONTENT}
    _, repository = hub.config(Repository.parse(f"hf-hub:{NAME}"))
    wants = {"text_cfg": {"hf_tokenizer_name": "owner/bert"}}
    with pytest.raises(ModelError, match=f"the tokenizer of model 'hf-hub:{NAME}' could not be downloaded: .* no repository 'owner/bert'"):
        hub.weights(repository, wants)
    with pytest.raises(ModelError, match=r"hf_tokenizer_name of model 'hf-hub:.*' must be a repository, owner/name, got '\.\./x'"):
        hub.weights(repository, {"text_cfg": {"hf_tokenizer_name": "../x"}})
    # the repository that is named has one
    server.repositories["owner/bert"] = {"tokenizer.json": b"{}"}
    assert hub.weights(repository, wants).name == SAFE
    server.requests.clear()
    assert hub.weights(repository, wants).name == SAFE and server.requests == []


def test_safetensors_go_first_and_other_weights_do_where_there_are_none(server: HubServer):
    server.repositories[NAME] = {BIN: CONTENT, "modeling.py": b"raise SystemExit"}
    assert fetched().name == BIN
    server.requests.clear()
    assert fetched().name == BIN and server.requests == []
    server.repositories[NAME] = {"old.bin": CONTENT, "old.safetensors": CONTENT[::-1]}
    assert hub.tagged("ViT-B-16", "tag", f"{NAME}/old.bin").name == "old.safetensors"


@pytest.fixture
def published(server: HubServer) -> HubServer:
    """The embedded model as a repository, with files beside it that no loader needs."""
    shipped = embedded.FOLDER
    expected = {hub.CONFIG: (shipped / hub.CONFIG).read_bytes(), SAFE: (shipped / "model.safetensors").read_bytes()}
    server.repositories[NAME] = {**expected, "model.py": b"raise SystemExit", "README.md": b""}
    return server


def test_a_model_from_the_hub_is_the_one_from_a_folder(published: HubServer, cache: Path, tmp_path: Path):
    from fastloc import Localizer

    folder = tmp_path / "model"
    folder.mkdir()
    for name in (hub.CONFIG, SAFE):
        (folder / name).write_bytes(published.repositories[NAME][name])
    image = np.random.default_rng(0).integers(0, 256, (80, 96, 3), dtype=np.uint8)
    expected = Localizer(str(folder))(image, ["cat", "red car"]).heatmaps
    localizer = Localizer(f"hf-hub:{NAME}")
    np.testing.assert_array_equal(localizer(image, ["cat", "red car"]).heatmaps, expected)
    assert expected.max() > 0 and localizer.source.name == f"hf-hub:{NAME}"
    assert localizer.logit_scale == pytest.approx(21.80, abs=0.01)
    fetched = {each.path.rpartition("/")[2] for each in published.asked("GET") if "/resolve/" in each.path}
    assert fetched == {hub.CONFIG, SAFE}
    # weights of another layout, which another program has put there
    (next(cache.glob("models--*/snapshots/*")) / "model.safetensors").write_bytes(b"other")
    published.requests.clear()
    np.testing.assert_array_equal(Localizer(f"hf-hub:{NAME}@main")(image, ["cat", "red car"]).heatmaps, expected)
    assert published.requests == []


def test_a_model_that_is_refused_is_not_downloaded(published: HubServer):
    from fastloc.checkpoints.loading import load

    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": {"timm_model_name": "vit"}, "text_cfg": {}}}
    published.repositories[NAME][hub.CONFIG] = json.dumps(config).encode()
    with pytest.raises(ModelError, match=f"model 'hf-hub:{NAME}' is not supported: its image tower is timm's vit"):
        load(f"hf-hub:{NAME}")
    assert not [each for each in published.requests if SAFE in each.path]


def test_a_repository_brings_its_own_weights(published: HubServer):
    from fastloc.checkpoints.loading import load

    with pytest.raises(ModelError, match=f"pretrained must be None with 'hf-hub:{NAME}', whose repository holds the weights, got 'openai'"):
        load(f"hf-hub:{NAME}", "openai")
    assert published.requests == []


@pytest.mark.slow("two commands in processes of their own")
def test_the_command_line_with_a_model_from_the_hub_and_with_a_tag_that_is_not_here(published: HubServer, tmp_path: Path):
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(tmp_path / "picture.png")
    locate = [sys.executable, "-P", "-m", "fastloc", "locate", "picture.png", "-t", "cat"]
    options: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 120, "check": False}
    found = subprocess.run([*locate, "--model", f"hf-hub:{NAME}"], env=environment(published, tmp_path), **options)
    assert found.returncode == 0 and "cat" in found.stdout, found.stderr
    published.stop()
    tag = [*locate, "--model", "ViT-B-16", "--pretrained", "laion2b_s34b_b88k"]
    refused = subprocess.run(tag, env=environment(published, tmp_path), **options)
    assert refused.returncode != 0 and refused.stdout == ""
    assert refused.stderr == (
        f"fastloc: error: weights 'laion2b_s34b_b88k' of ViT-B-16 must be downloaded once, and {published.endpoint[7:]} cannot be reached "
        "(Connection refused); connect, or give pretrained=PATH of a file\n"
    )
