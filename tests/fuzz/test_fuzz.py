"""Fuzzing of the parsers: every past crash, the machinery on planted faults, and a minute of all targets."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from fastloc.errors import FastlocError, ModelError
from forked import needs_fork
from fuzzing import campaign as campaigns
from fuzzing import mutators
from fuzzing.campaign import Process, campaign, minimised
from fuzzing.lines import Lines
from fuzzing.target import Target
from fuzzing.targets import TARGETS
from repo import REPO

HERE = Path(__file__).parent
# the line that each input ends in now; "" where it is accepted
CRASHES = {
    "batch-parts/a-footer-of-noise.bin": "",
    "batch-parts/a-name-that-is-not-text.bin": "",
    "coco/empty.bin": "Input data was truncated",
    "embeddings-npz/a-number-that-is-no-character.npz": "damaged (a text has numbers that are no characters)",
    "graph-check/a-shape-of-many-axes.json": "got float32 ['texts', 'texts',",
    "http-heads/a-query-that-is-not-utf-8.bin": "",
    "manifest/a-version-of-a-thousand-letters.json": f"was exported by fastloc '{'v' * 59}… with",
    "model-config/a-list-as-a-timm-name.json": "vision_cfg (timm_model_name must be str | null, got array)",
    "model-config/a-projection-that-is-a-list.json": "vision_cfg (timm_proj must be str | null, got array)",
    "parquet/a-column-with-control-characters.bin": "must have a column 'image, bytes, jpg,",
    "pictures/a-damaged-profile-of-a-high-picture.bin": "",
    "results/a-picture-outside-the-input.json": "corner must leave a part of the picture in the input, from 0 to 20, got -5",
    "tar/a-name-of-a-terabyte.bin": "must be an uncompressed tar file",
    "tokenizer/a-piece-that-is-no-special-token.json": "pieces around a text must be among special_tokens, got '<start>'",
    "tokenizer/a-text-four-times.json": "times that a text is put among its pieces must be a whole number from 0 to 1, got 4",
    "tokenizer-folder/a-language-that-is-a-list.json": "the language must be one of its tokens, such as eng_Latn, got [1000000, 1000000]",
    "tokenizer-folder/a-word-of-a-huge-id.json": "largest id of a word must be a whole number from 0 to 3145728, got 2147483648",
    "torch-file/a-word-of-gigabytes.bin": "is not a .safetensors or torch file, or is damaged (EOFError)",
    "torch-file/an-archive-at-its-end-alone.bin": "is not a .safetensors or torch file, or is damaged (",
    "torchscript/a-part-of-four-gigabytes.bin": "is not a .safetensors or torch file, or is damaged (",
    "videos/a-table-of-gigabytes.bin": "FFmpeg finds no memory for what it says of itself; it is damaged",
    "weights-index/a-list-as-a-file.json": "a file must be a .safetensors or .bin beside it, got ['b']",
}


def test_every_crash_is_in_the_table() -> None:
    kept = {f"{path.parent.name}/{path.name}" for path in (HERE / "crashes").glob("*/*")}
    assert kept == set(CRASHES) and {name.partition("/")[0] for name in kept} <= set(TARGETS)
    assert all((HERE / "crashes" / name).stat().st_size <= 4096 for name in kept)


@pytest.mark.parametrize("name", CRASHES)
def test_past_crashes(name: str, tmp_path: Path) -> None:
    """Run in this process; `run.py --only TARGET --repeat FILE` measures its memory as well."""
    content, line = (HERE / "crashes" / name).read_bytes(), CRASHES[name]
    run = TARGETS[name.partition("/")[0]].run
    if not line:
        run(content, tmp_path)
        return
    with pytest.raises(FastlocError) as caught:
        run(content, tmp_path)
    found = str(caught.value)
    assert line in found and found.isprintable() and len(found) < 600


def planted(content: bytes, folder: Path) -> object:
    """A parser with one fault of each kind."""
    kind = content[:1]
    if kind == b"r":
        raise KeyError("planted")
    if kind == b"l":
        raise ModelError("two\nlines")
    if kind == b"m":
        return len(bytes(bytearray(b"x") * (48 << 20)))
    if kind == b"w":
        for number in range(9):
            warnings.warn(f"planted {number}", UserWarning, stacklevel=1)
    if kind == b"h":
        while True:
            pass
    if kind == b"d":
        import os

        os._exit(7)
    if kind == b"n":
        raise ModelError("it must be another letter")
    return content


PLANTED = Target("planted", planted, lambda: [b"seed"], covers=("fuzzing.target",), memory=32)


@needs_fork
def test_each_kind_of_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "HANG", 1.0)
    with Process(PLANTED) as process:
        ends = {kind: process.run(kind.encode()).kind for kind in "srlmwhdn"}
        # a child that is gone was replaced
        assert process.run(b"seed").kind == "ok"
    assert ends == {"s": "ok", "r": "raw", "l": "lines", "m": "memory", "w": "flood", "h": "hang", "d": "died", "n": "refused"}


@needs_fork
def test_memory_that_was_free_is_counted() -> None:
    """A child has what its parent has freed, and this keeps it after an input."""
    blocks = [bytes(100_000) for _ in range(2000)]
    above = bytes(100_000)
    del blocks
    with Process(PLANTED) as process:
        peaks = [process.run(b"m").peak >> 20 for _ in range(3)]
    assert above and all(94 <= peak <= 100 for peak in peaks), peaks


@needs_fork
def test_a_campaign_reports_a_fault_once_and_small() -> None:
    flips = Target("planted", planted, lambda: [b"seed"], lambda draw, content, others: b"r" + draw.randbytes(50))
    report = campaign(flips, 0.3, seed=0)
    assert report.inputs > 3 and report.accepted == 1
    assert [(found.outcome.kind, found.content) for found in report.faults] == [("raw", b"r")]


def test_a_failing_input_becomes_small() -> None:
    content = b"a" * 100 + b"<" + b"b" * 50 + b">" + b"c" * 30
    assert minimised(content, lambda made: b"<" in made and b">" in made) == b"<>"
    # no budget, no change
    assert minimised(content, lambda made: True, runs=0) == content


@pytest.mark.parametrize("mutate", [
    mutators.edited, mutators.json_text, mutators.protobuf, mutators.safetensors, mutators.zipped(), mutators.tar, mutators.png,
])  # fmt: skip
def test_mutators_repeat_and_take_anything(mutate: mutators.Mutator) -> None:
    inputs = [b"", b"\0", b'{"a": [1, {"b": "c"}]}', b"PK\x03\x04", b"\x0a\x02ab", b"x" * 600]
    for content in inputs:
        first, second = ([mutate(random.Random(seed), content, inputs) for seed in range(30)] for _ in range(2))
        assert first == second and len(set(first)) > 1


def test_json_stays_json_mostly_and_lengths_stay_right() -> None:
    content: Any = {"a": [1, 2.5, None], "b": {"c": "text"}}
    made = [mutators.json_text(random.Random(seed), json.dumps(content).encode(), []) for seed in range(100)]

    def reads(text: bytes) -> bool:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return False
        return True

    assert sum(map(reads, made)) > 60
    # a message in a message keeps the outer length whatever happens inside
    inner = mutators._varint(1 << 3 | 2) + b"\x03abc"
    outer = mutators._varint(7 << 3 | 2) + bytes([len(inner)]) + inner
    changed = [mutators.protobuf(random.Random(seed), outer, []) for seed in range(200)]
    assert sum(bool(mutators._fields(each)) for each in changed) > 100


def test_nested_json_may_be_nested_again() -> None:
    """A corpus keeps deep inputs, and nesting one of them passes what Python's json can write."""
    deep = b"[" * 700 + b"0" + b"]" * 700
    for seed in range(40):
        assert isinstance(mutators.json_text(random.Random(seed), deep, [deep]), bytes)


def test_lines_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parsed_lines.py").write_text("def parse(x):\n    if x:\n        return 1\n    return 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    import importlib

    module, lines = importlib.import_module("parsed_lines"), Lines(["parsed_lines"])
    before = sys.gettrace()
    lines.begin()
    module.parse(1)
    sys.settrace(before)
    assert sorted(line for _, line in lines.seen) == [2, 3] and sorted(line for _, line in lines.known) == [2, 3, 4]


@pytest.mark.slow("imports every parser", quick=1)
@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_accepted(name: str, tmp_path: Path) -> None:
    """Mutations of what is refused at once would reach little."""
    for seed in TARGETS[name].seeds():
        TARGETS[name].run(seed, tmp_path)


@pytest.mark.slow("a minute of all targets")
@needs_fork
def test_all_targets() -> None:
    command = [sys.executable, str(HERE / "run.py"), "--seconds", "60"]
    run = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    assert [line.split()[0] for line in run.stdout.splitlines()[:-1]] == list(TARGETS)
