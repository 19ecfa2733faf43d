"""One parser of untrusted bytes, as a row of the table of targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzzing.mutators import Mutator, edited

__all__ = ["Target", "written"]


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        name: of the row
        run: reads an input; files may be written to the folder that comes with it. It may raise FastlocError and its subclasses alone
        seeds: makes right inputs, and some that nearly are
        mutate: a mutator of the inputs' format
        covers: the parser's modules, whose lines are counted
        memory: MiB of resident memory that an input may take; four times as much may be reserved
        imports: modules that take long to import, once for all children
    """

    name: str
    run: Callable[[bytes, Path], object]
    seeds: Callable[[], list[bytes]]
    mutate: Mutator = edited
    covers: tuple[str, ...] = ()
    memory: int = 128
    imports: tuple[str, ...] = ()


def written(folder: Path, name: str, content: bytes) -> Path:
    """The file of an input."""
    path = folder / name
    path.write_bytes(content)
    return path
