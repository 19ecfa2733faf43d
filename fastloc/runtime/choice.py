"""The choice of a runtime for a file on this machine: the candidates' times, the fastest, and the file in the cache that keeps them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastloc._version import __version__
from fastloc.errors import FastlocError
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.hardware import cpu, packages, processors
from fastloc.utils.schema import decode, one_line, read_file
from fastloc.utils.system import files
from fastloc.utils.user_cache import user_cache

if TYPE_CHECKING:
    # its numpy is more than `fastloc doctor` loads
    from fastloc.onnx_file.header import Header

__all__ = ["Choice", "Timed", "keep", "kept", "kept_choices", "key_of"]

FORMAT = 1
# bytes of a choice's file at most, and files that are looked at
LIMIT, MOST = 100_000, 100
DIGITS = 24
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "openvino")


@dataclass(frozen=True)
class Timed:
    """One way to run the file. `ms`: the median of its calls in milliseconds, None for one that cannot run it, with the reason."""

    provider: str
    threads: int | None
    ms: float | None = None
    calls: int = 0
    reason: str = ""

    def __str__(self) -> str:
        where = self.provider + (f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.threads else "")
        return f"{where}: {self.ms:.1f} ms" if self.ms is not None else f"{where}: {self.reason}"


@dataclass(frozen=True)
class Choice:
    """A choice: the measured candidates, the chosen one first. `day`: when."""

    format: int
    key: str
    model: str
    machine: str
    versions: dict[str, str]
    day: str
    ways: tuple[Timed, ...]

    def __post_init__(self) -> None:
        for name, value in (("key", self.key), ("model", self.model), ("machine", self.machine), ("day", self.day)):
            one_line(name, value)
        if self.format != FORMAT or not self.ways or self.ways[0].ms is None:
            raise FastlocError(f"a choice must have format {FORMAT} and a fastest way, got format {self.format} and {len(self.ways)} ways")

    @property
    def fastest(self) -> Timed:
        """The chosen way."""
        return self.ways[0]

    def __str__(self) -> str:
        return f"{'; '.join(map(str, self.ways))} (a call with one picture, {self.day})"


def key_of(header: Header, threads: int | None) -> str:
    """The name of a choice in the cache: of the file, its size, the machine and its processors for this process, and all versions."""
    facts = [sorted(header.metadata.items()), header.path.stat().st_size, cpu(), processors(), threads, versions()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:DIGITS]


def versions() -> dict[str, str]:
    return {"fastloc": __version__, **packages(RUNTIMES)}


def kept(key: str) -> Choice | None:
    """The choice of this name in the cache; None if there is none, or the file is damaged."""
    file = _folder() / f"{key}.json"
    try:
        found = decode(read_file(file, str(file), LIMIT), Choice, str(file), LIMIT)
    except FastlocError:
        return None
    return found if found.key == key else None


def kept_choices() -> list[Choice]:
    """The choices in the cache that were measured on this machine with these versions, the latest first."""
    there = sorted(_folder().glob("*.json"))[:MOST]
    found = [each for file in there if (each := kept(file.stem)) and each.machine == cpu() and each.versions == versions()]
    return sorted(found, key=lambda each: each.day, reverse=True)


def keep(choice: Choice) -> None:
    """Write it into the cache, where that can be written to."""
    file = _folder() / f"{choice.key}.json"
    try:
        files.make_folder(file.parent, parents=True, exist_ok=True)
        write_whole(file, lambda out: out.write(json.dumps(asdict(choice), indent=1).encode()))
    except (OSError, FastlocError):
        # it is measured again next time
        return


def _folder() -> Path:
    return user_cache() / "choices"
