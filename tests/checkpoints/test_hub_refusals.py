"""Weights that cannot be downloaded: one line each, soon, and nothing of the client's own on the screen."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from hub_fixtures import (
    BIN,
    NAME,
    SAFE,
    SUBJECT,
    cache_fixture,  # noqa: F401
    environment,
    files,
    point_to,
    refused,
    server_fixture,  # noqa: F401
)
from hub_server import Faults, HubServer

# a look-up that never ends, as without a name server
HANGS = f"""
import socket, threading, time
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
from fastloc.checkpoints import hub, hub_files
start = time.monotonic()
try:
    hub.tagged("ViT-B-16", "tag", "{NAME}/")
except ValueError as error:
    print(time.monotonic() - start < 5, error)
"""


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        ((404, "RepoNotFound"), f"has no repository '{NAME}', or it is private; check the name, or log in with `hf auth login`"),
        ((401, ""), f"has no repository '{NAME}', or it is private"),
        ((403, "GatedRepo"), f"repository '{NAME}' is gated; accept its terms on http://127.0.0.1:"),
        ((404, "RevisionNotFound"), f"repository '{NAME}' has no revision 'main'"),
        ((404, "EntryNotFound"), f"repository '{NAME}' has no '{SAFE}' or '{BIN}'"),
        ((500, ""), "answers 500; try again later, or give pretrained=PATH of a file"),
        ((429, ""), "answers 429; try again later"),
    ],
)
def test_refusals_are_one_line(server: HubServer, cache: Path, refuse: tuple[int, str], message: str):
    server.faults = Faults(refuse=refuse)
    found = refused()
    assert found.startswith(f"{SUBJECT} could not be downloaded: ") and message in found
    # each file is asked for once: the client's own tries take a minute
    assert len(server.asked("HEAD")) <= 2 and files(cache) == []


def test_a_login_page_is_no_hub(server: HubServer):
    server.faults = Faults(login_page=True)
    assert "does not answer as a hub does; is a login page or a proxy in between?" in refused()


@pytest.mark.slow("waits for the limit of the first contact")
def test_a_host_that_does_not_answer_fails_within_5_seconds(server: HubServer, capfd: pytest.CaptureFixture[str]):
    server.faults = Faults(silent=True)
    start = time.monotonic()
    message = refused()
    assert time.monotonic() - start < 5
    assert message == (
        f"{SUBJECT} must be downloaded once, and {server.endpoint[7:]} cannot be reached (no answer within 2.5 s, "
        "HF_HUB_ETAG_TIMEOUT=30 waits longer); connect, or give pretrained=PATH of a file"
    )
    assert capfd.readouterr() == ("", "")


def test_a_refused_connection_and_a_name_that_does_not_resolve(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    point_to(f"http://127.0.0.1:{port}", monkeypatch)
    start = time.monotonic()
    assert f"and 127.0.0.1:{port} cannot be reached (Connection refused); connect, or give" in refused()
    # names under this one never resolve
    point_to("http://hub.invalid", monkeypatch)
    assert "and hub.invalid cannot be reached (its name does not resolve)" in refused()
    assert time.monotonic() - start < 5
    assert capfd.readouterr() == ("", "")


def test_a_look_up_of_the_name_that_hangs_neither_holds_the_call_nor_the_end_of_the_process(server: HubServer, tmp_path: Path):
    command, env = [sys.executable, "-P", "-c", HANGS], environment(server, tmp_path)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.startswith(f"True {SUBJECT} must be downloaded once") and done.stderr == ""


def test_offline_by_the_environment(server: HubServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refused() == f"{SUBJECT} must be downloaded once, and HF_HUB_OFFLINE forbids it; unset it, or give pretrained=PATH of a file"
    assert server.requests == []


@pytest.mark.skipif(os.name != "posix", reason="the system names a file in the place of a folder in another error")
def test_a_cache_that_cannot_be_written(server: HubServer, cache: Path):
    cache.write_text("not a folder")
    assert f"its cache {str(cache)!r} cannot be written (Not a directory); set HF_HOME" in refused()
