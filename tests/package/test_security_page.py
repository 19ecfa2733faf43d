"""SECURITY.md: the tests that it names exist, and its numbers are those of the code."""

from __future__ import annotations

import re

import pytest

from fastloc.checkpoints.foreign import big_vision, torchscript
from fastloc.imaging import geometry, picture_files, picture_formats
from fastloc.live.limits import WORDS, Limits
from fastloc.onnx_file import header, limits, text_manifest
from fastloc.results.result import Result
from fastloc.serve.settings import Settings
from fastloc.utils import npz, schema
from repo import REPO

TEXT = (REPO / "SECURITY.md").read_text(encoding="utf-8")
LIVE, SERVE = Limits(), Settings()


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"\b(?:tests/)?([a-z_]+/test_\w+)(?:\.py)?", TEXT)
    assert len(named) > 20 and [each for each in named if not (REPO / "tests" / f"{each}.py").is_file()] == []


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("pixels of a file that is decoded", [f"{picture_files.MAX_PIXELS:,}"]),
        ("scans of a JPEG", [str(picture_formats.SCANS)]),
        ("bytes of what does not say its size", [f"{picture_files.MAX_BYTES >> 20} MiB"]),
        ("seconds that an address may be silent", [f"{picture_files.PATIENCE:g}"]),
        ("pixels, and patches, of a model's input", [f"2^{each.bit_length() - 1}" for each in (geometry.MAX_INPUT, geometry.MAX_PATCHES)]),
        ("bytes of all heatmaps", [f"{Result.max_map_bytes >> 30} GiB"]),
        ("JSON of a file", [f"{schema.JSON_BYTES >> 20} MiB"]),
        ("metadata of an ONNX file", [f"{header.METADATA_BYTES >> 20} MiB", f"{text_manifest.TOKENIZER_BYTES >> 20} MiB"]),
        ("a TorchScript archive's `data.pkl`", [f"{torchscript.PICKLE_BYTES >> 20} MiB", f"{torchscript.NAMES:,}", str(torchscript.DEPTH)]),
        ("sizes and counts of a manifest", [str(limits.SIDE), str(limits.PATCH), str(limits.BATCH), str(limits.TEXTS), str(limits.EMBED)]),
        ("an `.npz`, unpacked", [f"{npz.LEAST >> 20} MiB", f"{npz.RATIO} times", str(npz.ARRAYS), str(big_vision.ARRAYS)]),
        ("clients; frames a second", [str(LIVE.clients), f"{LIVE.fps:g}", f"{LIVE.pixels:,}"]),
        ("bytes of a frame; letters", [f"{LIVE.message // 10**6} MB", f"{WORDS:,}"]),
        ("texts; letters of one; methods", [str(LIVE.texts), str(LIVE.letters), str(LIVE.methods)]),
        ("connections; of one network", [str(LIVE.connections)]),
        ("seconds for a request's head", [f"{LIVE.head:g}"]),
        ("seconds until an answer is taken", [f"{LIVE.stuck:g}", f"{LIVE.idle:g}"]),
        ("bytes of a request; pictures", [f"{SERVE.size // 10**6} MB", str(SERVE.pictures), f"{SERVE.pixels:,}", f"{SERVE.cells:,}"]),
        ("texts; letters of one |", [str(SERVE.texts), str(SERVE.letters)]),
        ("pictures that wait", [str(SERVE.queue)]),
        ("seconds for a request's body", [f"{SERVE.body:g}", f"{SERVE.seconds:g}"]),
        ("connections; of one address", [str(SERVE.connections), str(SERVE.clients)]),
    ],
)
def test_its_numbers_are_those_of_the_code(row: str, numbers: list[str]) -> None:
    (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {row}")]
    stated = line.split("|")[2]
    assert all(number in stated for number in numbers), line
