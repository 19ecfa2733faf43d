"""Transfers from the Hugging Face hub, against a server on loopback: first and second use, broken transfers, full disks."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from fastloc.checkpoints import hub_files
from fastloc.checkpoints.hub_repository import Repository
from hub_fixtures import (
    CONTENT,
    NAME,
    SAFE,
    SUBJECT,
    cache_fixture,  # noqa: F401
    environment,
    fetched,
    files,
    refused,
    server_fixture,  # noqa: F401
)
from hub_server import Faults, HubServer

ALONE = f"""
import sys
from fastloc.checkpoints import hub
print(hub.tagged("ViT-B-16", "tag", "{NAME}/"))
assert "torch" not in sys.modules
"""


def test_the_first_use_downloads_and_the_second_makes_no_request(server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch):
    assert fetched().read_bytes() == CONTENT
    assert len([each for each in server.asked("GET") if each.path.startswith("/large/")]) == 1
    server.requests.clear()
    assert fetched().read_bytes() == CONTENT
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetched().name == SAFE
    assert server.requests == []


def test_a_token_goes_to_the_hub_and_not_to_its_storage(server: HubServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetched()
    assert {each.authorized for each in server.asked("GET") if each.path.startswith("/large/")} == {False}
    assert {each.authorized for each in server.asked("HEAD")} == {True}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_breaks_off_goes_on_within_the_call(server: HubServer, ranges: bool):
    server.faults = Faults(cut_at=300_000, cuts=1, no_ranges=not ranges)
    assert fetched().read_bytes() == CONTENT
    starts = [each.range for each in server.asked("GET") if each.path.startswith("/large/")]
    assert len(starts) == 2 and starts[0] is None and starts[1].startswith("bytes=") and starts[1] != "bytes=0-"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_is_reset_goes_on_in_the_next_call(server: HubServer, cache: Path, ranges: bool):
    server.faults = Faults(cut_at=300_000, cuts=1, reset=True, no_ranges=not ranges)
    message = refused()
    assert message.startswith(f"{SUBJECT} could not be downloaded: {SAFE} broke off after ")
    assert message.endswith("(Connection reset by peer); another try goes on from there")
    (partial,) = cache.glob("models--*/blobs/*.incomplete")
    have = partial.stat().st_size
    assert 0 < have <= 300_000
    server.requests.clear()
    assert fetched().read_bytes() == CONTENT
    assert server.asked("GET")[-1].range == f"bytes={have}-"
    assert not partial.exists()


def test_a_process_that_is_killed_leaves_what_the_next_one_goes_on_with(server: HubServer, tmp_path: Path):
    # so much is in a piece that the client writes at once
    server.repositories[NAME] = {SAFE: CONTENT * 40}
    server.faults = Faults(cut_at=22_000_000, cuts=1, pause=True)
    command = [sys.executable, "-P", "-c", ALONE]
    options: dict[str, Any] = {"env": environment(server, tmp_path), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **options) as first:
        assert server.paused.wait(30)
        blobs = tmp_path / "home" / "hub" / "models--laion--CLIP-tiny" / "blobs"
        until = time.monotonic() + 10
        while sum(path.stat().st_size for path in blobs.glob("*")) < 20_000_000 and time.monotonic() < until:
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=30)
    (partial,) = blobs.iterdir()
    have = partial.stat().st_size
    assert have >= 20_000_000
    second = subprocess.run(command, **options, timeout=60, check=True)
    assert server.asked("GET")[-1].range == f"bytes={have}-"
    assert Path(second.stdout.strip()).read_bytes() == CONTENT * 40


def test_the_progress_bar_stays_and_the_hub_s_remarks_on_a_broken_transfer_do_not(server: HubServer, tmp_path: Path):
    server.faults = Faults(cut_at=300_000, cuts=1)
    # the hub's own way of asking for the bar where there is no terminal
    env = environment(server, tmp_path, TQDM_POSITION="-1")
    done = subprocess.run([sys.executable, "-P", "-c", ALONE], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert f"{SAFE}: 100%" in done.stderr and "resume" not in done.stderr and server.faults.cuts == 0


def test_a_file_that_is_cut_short_is_not_taken(server: HubServer, cache: Path):
    server.faults = Faults(cut_at=500_000)
    assert f"{SAFE} broke off after " in refused()
    server.faults = Faults(short_by=1_000)
    assert f"{SAFE} broke off after 599,000 of 600,000 bytes (the hub sent no more)" in refused()
    assert [name.endswith(".incomplete") for name in files(cache)] == [True]
    assert hub_files.cached(Repository(NAME, SUBJECT, ""), [SAFE]) is None
    server.faults = Faults()
    assert fetched().read_bytes() == CONTENT


def test_other_content_is_deleted(server: HubServer, cache: Path):
    server.faults = Faults(damaged=True)
    assert refused() == f"{SUBJECT} could not be downloaded: {SAFE} came damaged (its sha256 is not the hub's) and is deleted; try again"
    assert files(cache) == []
    server.faults = Faults()
    assert fetched().read_bytes() == CONTENT


def test_what_is_left_of_a_longer_file_is_thrown_away(server: HubServer, cache: Path):
    server.faults = Faults(cut_at=300_000, cuts=1, reset=True)
    refused()
    (partial,) = cache.glob("models--*/blobs/*.incomplete")
    partial.write_bytes(bytes(700_000))
    assert fetched().read_bytes() == CONTENT


def test_a_link_under_the_name_of_what_is_left_is_not_followed(server: HubServer, cache: Path, tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    server.faults = Faults(cut_at=300_000, cuts=1, reset=True)
    refused()
    (partial,) = cache.glob("models--*/blobs/*.incomplete")
    partial.unlink()
    partial.symlink_to(victim)
    assert fetched().read_bytes() == CONTENT and victim.read_text() == "precious"


def test_a_disk_that_is_too_small_is_reported_before_the_download(server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch):
    usage = type(shutil.disk_usage("/"))(10**9, 10**9 - 5_000, 5_000)
    monkeypatch.setattr(hub_files.shutil, "disk_usage", lambda _: usage)
    assert refused() == (
        f"{SUBJECT} could not be downloaded: 600,000 bytes are needed, and the disk of {str(cache)!r} has 5,000 free; "
        "make space, or set HF_HOME to a folder elsewhere"
    )
    assert server.asked("GET") == []


def test_a_disk_that_fills_up_during_the_download(server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch):
    def fills_up(url: str, file: Any, **_: Any) -> None:
        file.write(CONTENT[:200_000])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(hub_files, "http_get", fills_up)
        assert f"600,000 bytes are needed, and the disk of {str(cache)!r} is full; make space" in refused()
    assert [name.endswith(".incomplete") for name in files(cache)] == [True]
    assert fetched().read_bytes() == CONTENT
    assert server.asked("GET")[-1].range == "bytes=200000-"


@pytest.fixture
def small_disk(cache: Path) -> Iterator[Path]:
    """The cache on a file system of 2 MB."""
    cache.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(cache)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield cache
    subprocess.run(["umount", str(cache)], check=True)


def test_a_real_disk_that_fills_up(server: HubServer, small_disk: Path, monkeypatch: pytest.MonkeyPatch):
    roomy = type(shutil.disk_usage("/"))(10**9, 0, 10**9)
    server.repositories[NAME] = {SAFE: CONTENT * 5}
    assert "3,000,000 bytes are needed, and the disk of " in refused()
    with monkeypatch.context() as patch:
        # another program may take the space after it was measured
        patch.setattr(hub_files.shutil, "disk_usage", lambda _: roomy)
        assert f"the disk of {str(small_disk)!r} is full" in refused()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert fetched().read_bytes() == CONTENT * 5
