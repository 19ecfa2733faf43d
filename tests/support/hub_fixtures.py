"""Fixtures of the hub's tests: an empty cache, and a server on loopback. A test module that imports one uses it by its name there."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from fastloc.checkpoints import hub
from fastloc.errors import ModelError
from hub_server import HubServer

NAME = "laion/CLIP-tiny"
SAFE, BIN = hub.WEIGHTS
CONTENT = random.Random(0).randbytes(600_000)
SUBJECT = "weights 'tag' of ViT-B-16"


@pytest.fixture(name="cache")
def cache_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty."""
    path = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # transfers are written in pieces of this size, and broken off between them
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 65_536)
    for name in [each for each in os.environ if each.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return path


@pytest.fixture(name="server")
def server_fixture(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({NAME: {SAFE: CONTENT}}) as found:
        point_to(found.endpoint, monkeypatch)
        # the client waits a second before it goes on with a broken transfer
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        yield found
    close_session()


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    # no connection of another test's
    close_session()


def fetched() -> Path:
    return hub.tagged("ViT-B-16", "tag", f"{NAME}/")


def refused() -> str:
    """The message of a download that fails."""
    with pytest.raises(ModelError) as caught:
        fetched()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files(cache: Path) -> list[str]:
    """The contents in the cache, whole or not."""
    return sorted(path.name for path in cache.glob("models--*/blobs/*"))


def environment(server: HubServer, tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and not name.startswith("HF_")}
    return {**kept, "HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", **more}
