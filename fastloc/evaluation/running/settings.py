"""Settings of a run: those that its rows depend on, and the machine and versions at its start."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from fastloc._version import __version__
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.samples import Item

__all__ = ["FORMAT", "RunFile", "Settings", "keys_hash", "machine", "versions"]

# of a run's folder; raised when a reader of an older version would misread one
FORMAT = 1
_PACKAGES = ("fastloc", "numpy", "torch", "onnxruntime", "Pillow", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that change rows; one folder holds rows of one.

    data, root, options, task: the set, the folder that it is read from, and options of its reader.
    classes: their plain names; names: the texts of the run, one list a class; background: class 0 holds the pixels of no other class.
    pictures, keys: the number that is evaluated, and the SHA-256 of their keys in order.
    model, pretrained, method, digest: as requested; the digest of the weights or of the file, "sha256:…".
    encoder: the model's own name, such as "ViT-B-16/openai"; of an exported file that of its source.
    official: the method exactly as in its authors' code.
    protocol: with the changes of its fields; changed: the fields that are not the paper's.
    device, dtype, model_options: of the model. chunk: pictures that are judged together.
    """

    data: str
    root: str
    options: Mapping[str, str]
    task: str
    classes: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    background: bool
    pictures: int
    keys: str
    model: str
    pretrained: str
    method: str
    digest: str
    encoder: str = ""
    official: bool
    protocol: Protocol
    changed: tuple[str, ...]
    device: str
    dtype: str
    model_options: Mapping[str, str]
    chunk: int


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """The content of run.json: settings, and the machine and the versions of installed packages when the run began."""

    settings: Settings
    format: int = FORMAT
    fastloc: str = __version__
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""


def keys_hash(items: Sequence[Item]) -> str:
    """The SHA-256 of the keys in their order, in hexadecimal digits."""
    return hashlib.sha256("\0".join(item.key for item in items).encode("utf-8", "surrogateescape")).hexdigest()


def versions() -> dict[str, str]:
    """Versions of the installed packages, by name."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The system and the number of cores."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count() or 1} cores"
