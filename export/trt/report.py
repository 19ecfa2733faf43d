"""An engine and what it says of itself.

The engine's file holds what the runtime serialised and nothing else, so that every tool that reads engines reads it (trtexec, Triton,
DeepStream); what fastloc knows of it is beside it, in `<engine>.json`, and bound to it by its digest. Others write a header in front of the
engine, which those tools then refuse.
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

__all__ = ["FORMAT", "EngineReport", "IoTensor", "beside", "digest", "publish", "read"]

# raised when a reader of an older version would misread a file
FORMAT = 1
# layers that multiply: what an engine's speed and error are made of
PRODUCTS = ("attention_input", "convolution", "einsum", "matrix_multiply")


@dataclass(frozen=True)
class IoTensor:
    """What goes in or out; mode "input" or "output", a side of -1 is in a range."""

    name: str
    mode: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EngineReport:
    """What was built, of what, and for whom.

    runtime, runtime_version: what built it, and what alone will read it. capabilities: the compute capabilities asked for; empty for the
        runtime's own choice. serves: in words. gpu: the GPU that it was built on, if there was one.
    engine, bytes, digest: the file's name, size and sha256.
    onnx, onnx_digest: the file it was built of, and the digest of it and of weights beside it (`fastloc.onnx_file.header.Header.digest`).
    shapes: ranges of the inputs that have any, (smallest, usual, largest). options: what else the builder was told.
    layers: how many the network has of each type and dtype; it is strongly typed, so these are the engine's precisions.
    loaded: whether the engine was loaded again on the GPU here. warnings: of the runtime. seconds: it took to build.
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
            raise ModelError(f"format must be {FORMAT}, which this fastloc reads, got {self.format}: install a newer one")

    @property
    def products(self) -> dict[str, int]:
        """How many layers that multiply there are of each dtype, the most frequent first."""
        counts: dict[str, int] = {}
        for kind in PRODUCTS:
            for dtype, layers in self.layers.get(kind, {}).items():
                counts[dtype] = counts.get(dtype, 0) + layers
        return dict(sorted(counts.items(), key=lambda each: -each[1]))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "manifest": json.loads(self.manifest.dumps())}


def beside(engine: Path) -> Path:
    """Where what fastloc knows of an engine is."""
    return engine.with_name(f"{engine.name}.json")


def digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(part: Path, engine: Path, report: EngineReport) -> None:
    """Give the built engine its name and write what is known of it; both or neither where the file system allows."""
    known = beside(engine)
    try:
        with replacing(known) as trial:
            trial.write_text(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            part.replace(destination(engine))
    except OSError as error:
        raise ModelError(f"{engine} cannot be written ({error.strerror or error})") from None


def read(engine: str | os.PathLike[str]) -> EngineReport:
    """What is known of an engine.

    Raises:
        ModelError: no such engine, nothing is beside it, what is there is damaged or of a newer fastloc, or belongs to another engine.
    """
    path = Path(engine)
    if not path.name:
        raise ModelError(f"{path}: no such engine")
    known = beside(path)
    for each, what in ((path, "no such engine"), (known, f"{path} was not built by fastloc, or copied without this file")):
        if not os.path.isfile(each):
            raise ModelError(f"{each}: {what}")
    text = read_file(known, str(known))
    number = decode(text, _Format, f"{known}: damaged").format
    if number != FORMAT:
        raise ModelError(f"{known} has format {number}, and this fastloc reads {FORMAT}: install a newer one, or build the engine again")
    report = decode(text, EngineReport, f"{known}: damaged")
    if digest(path) != report.digest:
        raise ModelError(f"{path} is not the engine that {known.name} describes: one of the two was replaced, or the engine is damaged")
    return report


@dataclass(frozen=True)
class _Format:
    format: int
