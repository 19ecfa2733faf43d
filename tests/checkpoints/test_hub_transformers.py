"""Models named hf:owner/name whose repository is a folder of transformers': which files are fetched, in which order, and once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from fastloc import embedded
from fastloc.checkpoints import hub, loading
from fastloc.errors import ModelError
from hub_fixtures import (
    NAME,
    cache_fixture,  # noqa: F401
    environment,
    server_fixture,  # noqa: F401
)
from hub_server import Faults, HubServer, Request
from transformers_folders import SIDE, golden, preprocessor, write

pytest.importorskip("tokenizers")


def published(server: HubServer, folder: Path) -> None:
    """Put a folder's files into the repository."""
    server.repositories[NAME] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def fetched(server: HubServer) -> list[str]:
    return [each.path.rpartition("/")[2] for each in server.asked("GET") if "/resolve/" in each.path]


@pytest.mark.parametrize(("prefix", "shards"), [("hf:", 1), ("hf-hub:", 2)])
def test_a_repository_of_transformers(prefix: str, shards: int, server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write(tmp_path / "model", "siglip", shards=shards)
    preprocessor(folder, size={"height": SIDE, "width": SIDE}, image_mean=[0.1] * 3, image_std=0.2, resample=2)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "SiglipTokenizer", "pad_token": "<pad>"}')
    published(server, folder)
    server.repositories[NAME] |= {"modeling.py": b"raise SystemExit", "pytorch_model.bin": b"never", "README.md": b""}
    source = loading.load(f"{prefix}{NAME}")
    spec = source.vit.spec
    assert (spec.mean, spec.interpolation, source.text.tokenizer.kind) == ((0.1,) * 3, "bilinear", "canonicalize")
    assert source.logit_scale == pytest.approx(float(golden("siglip").state["logit_scale"].exp()))
    names = fetched(server)
    assert names[:2] == ["config.json", "preprocessor_config.json"] and "modeling.py" not in names and "pytorch_model.bin" not in names
    assert sorted(names[2:4]) == ["tokenizer.json", "tokenizer_config.json"]
    assert len(names) == 5 if shards == 1 else names[4] == "model.safetensors.index.json" and len(names) == 7
    # the second use makes no request, not even for the files that there are not
    server.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert loading.load(f"{prefix}{NAME}@main").name == f"{prefix}{NAME}@main"
    assert server.requests == []


def test_a_repository_with_both_configurations_is_read_by_open_clip_s(server: HubServer, tmp_path: Path):
    published(server, write(tmp_path / "model", "clip"))
    shipped = {name: (embedded.FOLDER / name).read_bytes() for name in (hub.CONFIG, "model.safetensors")}
    server.repositories[NAME] |= {hub.CONFIG: shipped[hub.CONFIG], hub.WEIGHTS[0]: shipped["model.safetensors"]}
    source = loading.load(f"hf:{NAME}")
    assert source.vit.spec.width == 192 and fetched(server) == [hub.CONFIG, hub.WEIGHTS[0]]




@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"config.json": b'{"model_type": "bert"}'}, "unknown model_type 'bert'"),
        ({"tokenizer.json": None}, f"model 'hf:{NAME}' could not be downloaded: repository '{NAME}' has no 'tokenizer.json'"),
        ({"config.json": None}, f"repository '{NAME}' has no 'open_clip_config.json' or 'config.json'"),
        ({"model.safetensors": None}, f"repository '{NAME}' has no 'model.safetensors' or 'model.safetensors.index.json'"),
        ({"model-00002-of-00002.safetensors": None}, f"repository '{NAME}' has no 'model-00002-of-00002.safetensors'"),
    ],
)
def test_refusals(edit: dict[str, bytes | None], message: str, server: HubServer, tmp_path: Path):
    published(server, write(tmp_path / "model", "clip", shards=2 if "model-00002-of-00002.safetensors" in edit else 1))
    files = server.repositories[NAME]
    for name, content in edit.items():
        files.pop(name, None)
        if content is not None:
            files[name] = content
    with pytest.raises(ModelError) as caught:
        loading.load(f"hf:{NAME}")
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        ((403, "GatedRepo"), f"model 'hf:{NAME}' could not be downloaded: repository '{NAME}' is gated; accept its terms on http"),
        ((404, "RepoNotFound"), f"has no repository '{NAME}', or it is private; check the name, or log in with `hf auth login`"),
    ],
)
def test_gated_and_unknown_repositories(refuse: tuple[int, str], message: str, server: HubServer):
    server.faults = Faults(refuse=refuse)
    with pytest.raises(ModelError) as caught:
        loading.load(f"hf:{NAME}")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_that_is_refused_is_not_downloaded(server: HubServer, tmp_path: Path):
    folder = write(tmp_path / "model", "clip")
    preprocessor(folder, image_mean=[0.5])
    published(server, folder)
    server.repositories[NAME]["config.json"] = json.dumps({"model_type": "clip", "vision_config": {"num_channels": 4}}).encode()
    with pytest.raises(ModelError, match="num_channels must be 3"):
        loading.load(f"hf:{NAME}")
    asked: list[Request] = [each for each in server.requests if "safetensors" in each.path]
    assert asked == []


@pytest.mark.slow("a command in a process of its own")
def test_the_command_line(server: HubServer, tmp_path: Path):
    published(server, write(tmp_path / "model", "tipsv2"))
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(tmp_path / "picture.png")
    command = [sys.executable, "-P", "-m", "fastloc", "locate", "picture.png", "-t", "w9", "--method", "itsm", "--template", "{}"]
    env = environment(server, tmp_path)
    for model in (f"hf:{NAME}", str(tmp_path / "model")):
        done = subprocess.run([*command, "--model", model], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 and "w9" in done.stdout, done.stderr
