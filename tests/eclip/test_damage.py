"""Damaged checkpoints and shards of the trainer: one line each."""

from __future__ import annotations

import json
import struct
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

from fastloc.eclip import checkpoint
from fastloc.eclip.settings import Settings
from fastloc.eclip.shards import read_shards
from fastloc.eclip.steps import State
from fastloc.errors import FastlocError
from mutations import byte_edits, json_edits, raw

BELONGS = {"model": "sha256:1", "data": "sha256:2"}


def fresh() -> State:
    return State(Settings(), 4, torch.device("cpu"))


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / checkpoint.NAME
    checkpoint.write(path, fresh(), BELONGS)
    checkpoint.resume(path, fresh(), BELONGS)
    return path


def with_metadata(path: Path, content: object) -> None:
    """The file with other metadata of its own."""
    old = path.read_bytes()
    (length,) = struct.unpack("<Q", old[:8])
    head = json.loads(old[8 : 8 + length])
    head["__metadata__"] = {checkpoint.KEY: content if isinstance(content, str) else json.dumps(content)}
    made = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(made)) + made + old[8 + length :])


def metadata(path: Path) -> dict[str, Any]:
    old = path.read_bytes()
    found: dict[str, Any] = json.loads(json.loads(old[8 : 8 + struct.unpack("<Q", old[:8])[0]])["__metadata__"][checkpoint.KEY])
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": "3"}, "step must be a whole number from 0 to"),
        ({"step": -1}, "step must be a whole number from 0 to"),
        ({"settings": []}, "settings must be an object, got []"),
        ({"format": 2}, "metadata of format 2"),
        ({"format": "1"}, "format must be int, got str"),
        ({"model": 3}, "was written with another model"),
    ],
)
def test_metadata(changes: dict[str, Any], message: str, whole: Path) -> None:
    with_metadata(whole, {**metadata(whole), **changes})
    with pytest.raises(FastlocError) as caught:
        checkpoint.resume(whole, fresh(), BELONGS)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_no_edit_of_a_checkpoint_ends_in_anything_else(whole: Path, tmp_path: Path) -> None:
    path, content = tmp_path / "edited.safetensors", metadata(whole)
    edits = byte_edits(whole.read_bytes(), 5, 100)
    assert raw(edits, lambda made: (path.write_bytes(made), checkpoint.resume(path, fresh(), BELONGS))) == []
    path.write_bytes(whole.read_bytes())
    assert raw(json_edits(content, 5, 100), lambda made: (with_metadata(path, made), checkpoint.resume(path, fresh(), BELONGS))) == []


def test_no_edit_of_a_shard_ends_in_anything_else(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole.tar", "w") as archive:
        caption = b'{"caption": ["an owl", "a bird"]}'
        for name, content in (("0.png", b"?" * 600), ("0.json", caption), ("1.png", b"?"), ("1.txt", b"a cat")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    path = tmp_path / "edited.tar"

    def call(made: bytes) -> None:
        path.write_bytes(made)
        for _, read, _ in read_shards([path], lambda why, name: None):
            read()

    call((tmp_path / "whole.tar").read_bytes())
    assert raw(byte_edits((tmp_path / "whole.tar").read_bytes(), 5, 200, 4096), call) == []


def test_a_member_that_is_larger_than_its_shard(tmp_path: Path) -> None:
    member = tarfile.TarInfo("0.png")
    member.size = 1 << 40
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(FastlocError, match=r"a\.tar' (ends within '0\.png'|must be an uncompressed tar file)"):
        list(read_shards([tmp_path / "a.tar"], lambda why, name: None))
