"""An engine's file and its report.

The engine's file holds only the runtime's serialisation, so that every tool that reads engines reads it (trtexec, Triton, DeepStream). The
report is beside it, in `<engine>.json`, and bound to it by its digest. Other programs write a header in front of the engine, which those
tools then refuse.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastloc.errors import ModelError
from fastloc.onnx_file.manifest import Manifest
from fastloc.utils.atomic_write import destination, replacing
from fastloc.utils.schema import count, decode, one_line, read_file
from fastloc.utils.system import files

__all__ = ["FORMAT", "EngineReport", "IoTensor", "beside", "digest", "publish", "read"]

# raised when a reader of an older version would misread a file
FORMAT = 1
# layers that multiply: they determine an engine's speed and error
PRODUCTS = ("attention_input", "convolution", "einsum", "matrix_multiply")


@dataclass(frozen=True)
class IoTensor:
    """An input or output; mode is "input" or "output", and a side of -1 has a range."""

    name: str
    mode: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EngineReport:
    """The report of an engine: its origin, target and content.

    runtime, runtime_version: the builder, which alone can read it. capabilities: the requested compute capabilities; empty for the
        runtime's own choice. serves: the GPUs in words. gpu: the GPU that it was built on, if there was one.
    engine, bytes, digest: the file's name, size and sha256.
    onnx, onnx_digest: its ONNX file, and the digest of that and of weights beside it (`fastloc.onnx_file.header.Header.digest`).
    shapes: ranges of the inputs that have any, (smallest, usual, largest). options: the builder's other options.
    layers: the number of layers of each type and dtype; the network is strongly typed, so these are the engine's precisions.
    loaded: True if the engine was loaded again on this machine's GPU. warnings: of the runtime. seconds: the time of the build.
    """

    version: str
    runtime: str
    runtime_version: str
    capabilities: tuple[str, ...]
    serves: str
    gpu: str | None
    engine: str
    bytes: int
    digest: str
    onnx: str
    onnx_digest: str
    shapes: Mapping[str, Any]
    options: Mapping[str, Any]
    tensors: tuple[IoTensor, ...]
    layers: Mapping[str, Mapping[str, int]]
    loaded: bool
    warnings: tuple[str, ...]
    seconds: float
    manifest: Manifest
    format: int = FORMAT

    def __post_init__(self) -> None:
        for name in ("version", "runtime", "runtime_version", "serves", "engine", "digest", "onnx", "onnx_digest"):
            one_line(name, getattr(self, name))
        count("bytes", self.bytes, 1 << 48)
        if self.format != FORMAT:
            raise ModelError(f"format must be {FORMAT}, which this fastloc reads, got {self.format}; install a newer fastloc")

    @property
    def products(self) -> dict[str, int]:
        """The number of multiplying layers of each dtype, the most frequent first."""
        counts: dict[str, int] = {}
        for kind in PRODUCTS:
            for dtype, layers in self.layers.get(kind, {}).items():
                counts[dtype] = counts.get(dtype, 0) + layers
        return dict(sorted(counts.items(), key=lambda each: -each[1]))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON."""
        return {**asdict(self), "manifest": json.loads(self.manifest.dumps())}


def beside(engine: Path) -> Path:
    """The path of an engine's report."""
    return engine.with_name(f"{engine.name}.json")


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(part: Path, engine: Path, report: EngineReport) -> None:
    """Rename the built engine to its name and write its report; both or neither if the file system allows that."""
    known = beside(engine)
    try:
        with replacing(known) as trial:
            files.write_text(trial, json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n")
            files.sync_file(part)
            files.rename(part, destination(engine))
    except OSError as error:
        raise ModelError(f"{engine} cannot be written ({error.strerror or error})") from None


def read(engine: str | os.PathLike[str]) -> EngineReport:
    """Read the report of an engine.

    Raises:
        ModelError: no such engine or report, or the report is damaged, of a newer fastloc, or of another engine.
    """
    path = Path(engine)
    if not path.name:
        raise ModelError(f"{path}: no such engine")
    known = beside(path)
    for each, problem in ((path, "no such engine"), (known, f"no such report; copy it with {path}, or build the engine again")):
        if not os.path.isfile(each):
            raise ModelError(f"{each}: {problem}")
    text = read_file(known, str(known))
    number = decode(text, _Format, f"{known}: damaged").format
    if number != FORMAT:
        raise ModelError(f"{known}: format must be {FORMAT}, got {number}; install a newer fastloc, or build the engine again")
    report = decode(text, EngineReport, f"{known}: damaged")
    if digest(path) != report.digest:
        raise ModelError(f"{path} must be the engine that {known.name} describes, got another or a damaged one; build it again")
    return report


@dataclass(frozen=True)
class _Format:
    format: int
