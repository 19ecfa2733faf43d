"""Your own class names: a line or an entry for each class, several names of one class split at commas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastloc.errors import FastlocError
from fastloc.evaluation.sets.files import text_lines
from fastloc.utils import schema

__all__ = ["Classes", "read"]

# labels are int16, and an index mask has 16 bits
MOST = 30_000
_JSON: Any = list[str | list[str]] | dict[str, str | list[str]]


@dataclass(frozen=True)
class Classes:
    """Classes in the order of their labels: the names of each, and the number that masks hold for it."""

    names: tuple[tuple[str, ...], ...]
    values: tuple[int, ...]

    @property
    def plain(self) -> tuple[str, ...]:
        """The first name of each class."""
        return tuple(names[0] for names in self.names)


def read(path: Path) -> Classes:
    """The classes of a file.

      names.txt    a class a line, the first has the number 0 in masks: "person, man, woman"
      names.json   a list likewise, of names or lists of names; or an object, the number in masks -> name: {"1": "person", "3": "car"}

    Raises FastlocError: it cannot be read, or two classes share a number or their first name.
    """
    if path.suffix.lower() != ".json":
        return _checked(path, list(enumerate(text_lines(path))))
    found = schema.decode(schema.read_file(path, str(path), error=FastlocError), _JSON, f"{path} is damaged", error=FastlocError)
    if isinstance(found, list):
        return _checked(path, list(enumerate(found)))
    return _checked(path, sorted((_value(path, key), names) for key, names in found.items()))


def _checked(path: Path, rows: list[tuple[int, str | list[str]]]) -> Classes:
    if not 0 < len(rows) <= MOST:
        raise FastlocError(f"{path} must name 1 to {MOST:,} classes, got {len(rows):,}")
    made: dict[str, int] = {}
    every = []
    for value, entry in rows:
        parts = entry.split(",") if isinstance(entry, str) else entry
        names = tuple(name for part in parts if (name := part.strip()))
        if not names:
            raise FastlocError(f"{path} must have a name for each class, got none for {value}; give it one or leave it out of the masks")
        for name in names:
            schema.one_line(f"a name in {path}", name)
        if names[0] in made:
            raise FastlocError(f"{path} must name each class once, got {names[0]!r} for {made[names[0]]} and {value}")
        made[names[0]] = value
        every.append(names)
    values = tuple(value for value, _ in rows)
    if len(set(values)) < len(values):
        raise FastlocError(f"{path} must give each number once, got {next(each for each in values if values.count(each) > 1)} twice")
    return Classes(tuple(every), values)


def _value(path: Path, key: str) -> int:
    if not (key.isascii() and key.isdecimal() and len(key) <= 5 and int(key) <= 0xFFFF):
        raise FastlocError(f"{path} must have numbers from 0 to 65535 as keys, got {schema.shown(key)}")
    return int(key)
