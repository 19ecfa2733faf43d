"""JSON to typed objects: what fits comes out, and every mistake is one line with the field's name."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastloc.errors import FastlocError, ModelError, TextError
from fastloc.utils import schema


@dataclass
class Inner:
    size: tuple[int, int]
    name: str = "x"

    def __post_init__(self) -> None:
        for side in self.size:
            schema.count("size", side, 100)
        schema.one_line("name", self.name, 20)


@dataclass
class Outer:
    inner: Inner
    scale: float = 1.0
    table: str | float | tuple[tuple[float, ...], ...] | None = None


def test_what_fits_comes_out() -> None:
    found = schema.decode('{"inner": {"size": [3, 4], "more": 1}, "scale": 2, "table": [[1], []]}', Outer, "f")
    assert found == Outer(Inner((3, 4)), 2.0, ((1.0,), ())) and isinstance(found.scale, float)
    assert schema.convert({"inner": {"size": [3, 4]}}, Outer, "f") == Outer(Inner((3, 4)))
    assert schema.plain('{"a": [1, 2.5, "é"]}', "f") == {"a": [1, 2.5, "é"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "f (Input data was truncated)"),
        ("[1]", "f (it must be object, got array)"),
        ("{}", "f ('inner' is missing)"),
        ('{"inner": {}}', "f (inner: 'size' is missing)"),
        ('{"inner": {"size": [1]}}', "f (inner.size must be array of length 2)"),
        ('{"inner": {"size": [1, true]}}', "f (inner.size[1] must be int, got bool)"),
        ('{"inner": {"size": [1, 101]}}', "f (inner: size must be a whole number from 1 to 100, got 101)"),
        ('{"inner": {"size": [1, 1%s]}}' % ("0" * 50), "f (inner: size must be a whole number from 1 to 100, got a number of 167 bits)"),
        ('{"inner": {"size": [1, 1], "name": "a\\nb"}}', "f (inner: name must be one line of at most 20 characters without control "
         "characters, got 'a\\nb')"),
        ('{"inner": {"size": [1, 1]}, "scale": 1e400}', "f (scale: Number out of range)"),
        ('{"inner": {"size": [1, 1]}, "scale": NaN}', "f (JSON is malformed: invalid character (byte 37))"),
        ('{"inner": {"size": [1, 1]}, "table": "\\ud800"}', "f (Input data was truncated)"),
        ('{"x": ' + "[" * 1_000_000, "f (it must not be nested so deep)"),
        ("\ud800", "f ('utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed)"),
        (b"\xff", "f (JSON is malformed: invalid character (byte 0))"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(content: str | bytes, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        schema.decode(content, Outer, "f")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "f (it must be a JSON object, got list)"),
        ('{"a": 1e400}', "f (1e400 is out of range)"),
        ('{"a": -Infinity}', "f (-Infinity is not a number of JSON)"),
        ('{"a": ["\\ud800"]}', "surrogates not allowed"),
        ('{"a": ' + "[" * 1_000_000, "f (it must not be nested so deep)"),
        ('{"a": ' + "9" * 5000 + "}", "f (Exceeds the limit"),
    ],
)
def test_the_same_without_a_schema(content: str, message: str) -> None:
    with pytest.raises(TextError) as caught:
        schema.plain(content, "f", error=TextError)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(b" " * 101)
    assert len(schema.read_file(path, "f", 101)) == 101
    for call in (
        lambda: schema.read_file(path, "f", 100),
        lambda: schema.decode(" " * 101, Outer, "f", 100),
        lambda: schema.plain(" " * 101, "f", 100),
    ):
        with pytest.raises(ModelError, match=r"^f \(it must have at most 100 bytes\)$"):
            call()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="pipe cannot be read: it is not a file"):
        schema.read_file(tmp_path / "pipe", "pipe")
    with pytest.raises(ModelError, match="none cannot be read: No such file"):
        schema.read_file(tmp_path / "none", "none")
    with pytest.raises(ModelError, match="nul cannot be read: embedded null byte"):
        schema.read_file(Path("a\0b"), "nul")


def test_numbers_and_names() -> None:
    schema.number("std", 0.5, 0, 1)
    for value in (float("nan"), -1, 2, True, "x"):
        with pytest.raises(FastlocError, match="std must be a number from 0 to 1, got"):
            schema.number("std", value, 0, 1)  # type: ignore[arg-type]
    for value in (0, 5, 1.0, True, None):
        with pytest.raises(FastlocError, match="batch must be a whole number from 1 to 4, got"):
            schema.count("batch", value, 4)  # type: ignore[arg-type]
    with pytest.raises(FastlocError, match="unknown fit 'strech': did you mean 'stretch'"):
        schema.one_of("fit", "strech", ("stretch", "crop"))
    with pytest.raises(FastlocError) as caught:
        schema.one_of("fit", "x" * 10_000, ("stretch", "crop"))
    assert len(str(caught.value)) < 200


def test_what_a_library_says_becomes_one_plain_line() -> None:
    assert schema.first_line(ValueError("\n\n  two \x1b[31mred\nmore")) == "two ?[31mred"
    assert schema.first_line(KeyError()) == "KeyError"
    assert len(schema.first_line(ValueError("x" * 10_000))) == schema.LINE + 1


SHIPPED = """
import sys
sys.modules["msgspec"] = None
import warnings; warnings.simplefilter("ignore")
from fastloc import embedded
from fastloc.runtime.localizer import OnnxLocalizer
from fastloc.recipes.temperatures import Temperatures
picture = str(next(embedded.SAMPLES.glob("*.webp")))
print(OnnxLocalizer(threads=1)(picture, "cat").points()[0].x > 0, Temperatures.load(embedded.TEMPERATURES).pictures)
"""


def test_what_came_with_fastloc_is_read_without_msgspec() -> None:
    pytest.importorskip("onnxruntime")
    done = subprocess.run([sys.executable, "-c", SHIPPED], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["True", "3"], done.stderr


def test_a_limit_is_no_reservation(tmp_path: Path) -> None:
    """Of a small file with a large limit no more is taken than it has."""
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    tracemalloc.start()
    try:
        assert schema.read_file(path, "a", 1 << 34) == b"{}"
        assert tracemalloc.get_traced_memory()[1] < 2 * schema.PART
    finally:
        tracemalloc.stop()
    # a file of several parts comes whole, and its last byte counts
    path.write_bytes(bytes(range(256)) * (2 * schema.PART // 256) + b"!")
    assert schema.read_file(path, "a", 2 * schema.PART + 1) == path.read_bytes()
    with pytest.raises(ModelError, match="a \\(it must have at most"):
        schema.read_file(path, "a", 2 * schema.PART)
