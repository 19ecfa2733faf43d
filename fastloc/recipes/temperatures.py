"""Inverse temperatures measured on one model, in a file: made once by `fastloc calibrate`, refused by another model's image tower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fastloc.errors import ModelError, RecipeError
from fastloc.recipes.measured import Measured, shipped_file
from fastloc.recipes.schema import TERMS, Recipe, Table
from fastloc.recipes.validation import is_table
from fastloc.utils.schema import number, one_of, shown

__all__ = ["Temperatures", "shipped_with"]

# terms that have a temperature of their own
STREAMS = tuple(term for term in TERMS if term not in ("identity", "procrustes"))


@dataclass(frozen=True)
class Temperatures(Measured):
    """A table of inverse temperatures; the fields of `Measured` name the model and the pictures that it was measured on.

    Attributes:
        table: inverse temperatures, nested tuples [blocks][heads][streams][passes]; the last block last
        rho: the share of the tokens that rows were matched to, see `fastloc.functional.methods.entropy_matching`
        streams: the terms of the table's third axis, such as ("vv", "kk", "qq")

    The table is the geometric mean over the pictures.
    """

    WHAT: ClassVar[str] = "temperatures"
    NAME: ClassVar[str] = "temperatures"
    COMMAND: ClassVar[str] = "calibrate"

    table: Table
    rho: float
    streams: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        number("rho", self.rho, 1e-6, 1)
        for term in self.streams:
            one_of("stream", term, STREAMS)
        if len(set(self.streams)) < len(self.streams):
            raise ModelError(f"streams must be named once each, got {shown(self.streams)}")
        if not is_table(self.table, (None, None, len(self.streams), None)):
            raise ModelError(f"table must be of numbers above 0, [blocks][heads][streams {len(self.streams)}][passes]")

    @property
    def blocks(self) -> int:
        """The number of last blocks that were measured."""
        return len(self.table)

    @property
    def iterations(self) -> int:
        """Passes before the last one."""
        return len(self.table[0][0][0]) - 1

    def table_for(self, recipe: Recipe) -> Table:
        """The part of the table that a recipe reads: fewer blocks, streams or passes are there too, as none depends on those left out.

        Raises:
            RecipeError: the recipe does not attend by unit self-self terms, solves its temperatures itself, or reads blocks, streams or
                passes that were not measured.
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


def shipped_with(model: str) -> Path | None:
    """The file of temperatures shipped with a model: with fastloc, or in the model's own folder. None where there is none."""
    return shipped_file(model, Temperatures)
