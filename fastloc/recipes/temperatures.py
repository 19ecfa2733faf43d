"""Inverse temperatures measured on one model, in a file: made once by `fastloc calibrate`, refused by another model's image tower."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fastloc import embedded
from fastloc._version import __version__
from fastloc.errors import ModelError, RecipeError
from fastloc.recipes.schema import TERMS, Recipe, Table
from fastloc.recipes.validation import frozen, is_table
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.hashing import short
from fastloc.utils.schema import count, number, one_line, one_of, read_file, shown
from fastloc.utils.versioned_json import read

__all__ = ["NAME", "Temperatures", "shipped_with"]

# raised when a reader of an older version would misread a file
FORMAT = 1
# terms that have a temperature of their own
STREAMS = tuple(term for term in TERMS if term not in ("identity", "procrustes"))
# of the file that a model's folder may hold
NAME = "temperatures.json"


@dataclass(frozen=True)
class Temperatures:
    """A table and what it was measured on.

    table       inverse temperatures, nested tuples [blocks][heads][streams][passes]; the last block last
    rho         the share of the tokens that rows were matched to, see `fastloc.functional.methods.entropy_matching`
    streams     the terms of the table's third axis, such as ("vv", "kk", "qq")
    sizes       the model's inputs while measuring, (height, width) in pixels, each once
    pictures    how many pictures the table is the geometric mean of
    source      what these were, in words
    model       the model's name
    tower       digest of its image tower, see `fastloc.utils.hashing`
    """

    table: Table
    rho: float
    streams: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    pictures: int
    source: str
    model: str
    tower: str

    def __post_init__(self) -> None:
        for name in ("source", "model", "tower"):
            one_line(name, getattr(self, name))
        number("rho", self.rho, 1e-6, 1)
        for term in self.streams:
            one_of("stream", term, STREAMS)
        if len(set(self.streams)) < len(self.streams):
            raise ModelError(f"streams must be named once each, got {shown(self.streams)}")
        for side in (side for size in self.sizes for side in size):
            count("sizes", side, 1 << 14)
        count("pictures", self.pictures, 1 << 40)
        if not is_table(self.table, (None, None, len(self.streams), None)):
            raise ModelError(f"table must be of numbers above 0, [blocks][heads][streams {len(self.streams)}][passes]")

    @property
    def blocks(self) -> int:
        """How many of the last blocks were measured."""
        return len(self.table)

    @property
    def iterations(self) -> int:
        """Passes before the last one."""
        return len(self.table[0][0][0]) - 1

    def table_for(self, recipe: Recipe) -> Table:
        """The part of the table that a recipe reads: fewer blocks, streams or passes are there too, as none depends on those left out.

        Raises:
            RecipeError: the recipe does not attend by unit self-self terms, solves its temperatures itself, or wants what was not measured.
        """
        for wrong, message in self._against(recipe):
            if wrong:
                raise RecipeError(f"temperatures of {self.model} do not fit method {recipe.name!r}: {message}")
        places = [self.streams.index(term) for term in recipe.streams]
        blocks = self.table[self.blocks - recipe.blocks :]
        return tuple(tuple(tuple(head[i][: recipe.iterations + 1] for i in places) for head in block) for block in blocks)

    def _against(self, r: Recipe) -> list[tuple[bool, str]]:
        missing = [term for term in r.streams if term not in self.streams]
        return [
            (not r.unit or not r.streams, "they are for attention of unit vectors to themselves, as in 'gem'"),
            (r.inv_temp == "matched", "it solves its own for every picture"),
            (bool(missing), f"{', '.join(missing)} was not measured, only {', '.join(self.streams)}"),
            (r.blocks > self.blocks, f"it changes {r.blocks} blocks, and {self.blocks} were measured"),
            (r.iterations > self.iterations, f"it has {r.iterations} iterations, and {self.iterations} were measured"),
            (r.rho not in (None, self.rho), f"its rho is {r.rho}, and they were measured at {self.rho}"),
        ]

    def check_tower(self, name: str, digest: str) -> None:
        """Raise ModelError for another model's image tower than the one that was measured."""
        if digest != self.tower:
            raise ModelError(
                f"temperatures were measured on {self.model} (image tower {short(self.tower)}), and the model is {name} ({short(digest)}): "
                "run `fastloc calibrate` on it"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, whole or not at all. Raises FastlocError where that cannot be done."""
        content = {"format": FORMAT, "version": __version__, **asdict(self)}
        text = json.dumps(content) + "\n"
        write_whole(Path(path), lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Temperatures:
        """Read a file.

        Raises:
            ModelError: it cannot be read, is damaged, is of a newer format, or holds no such table.
        """
        name = str(path)
        text = read_file(Path(path), f"temperatures file {name!r}")
        if not embedded.holds(path):
            return read(text, NAME.removesuffix(".json"), FORMAT, name, cls)
        # fastloc's own, without the schema, which needs msgspec
        content = json.loads(text)
        return cls(**{field.name: frozen(content[field.name]) for field in fields(cls)})


def shipped_with(model: str) -> Path | None:
    """The file of temperatures that came with a model: with fastloc, or in the model's own folder. None where there is none."""
    folder = embedded.FOLDER if model == "embedded" else Path(model.removeprefix("local-dir:"))
    path = folder / NAME
    return path if os.path.isfile(path) else None
