"""Chooses, loads and, where there are none, measures the inverse temperatures of a model."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

from fastloc.checkpoints.digests import digest
from fastloc.checkpoints.loading import Source
from fastloc.errors import FastlocError, ModelError, RecipeError, warn
from fastloc.recipes import Recipe
from fastloc.recipes.measured import OfModel
from fastloc.recipes.temperatures import Temperatures
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.system import files
from fastloc.utils.user_cache import user_cache

# stands in place of a file's name: do not measure a model that comes without a table
NONE = "none"
Given = str | os.PathLike[str] | Temperatures | None
# a recipe -> its temperatures on the model
Measure = Callable[[Recipe], Temperatures]


class MeasuredTemperatures(OfModel[Temperatures]):
    """The temperatures of one model, read or measured when a method asks for them.

    Args:
        model, given: see `OfModel`; "none": a model without a table is not measured.
    """

    def __init__(self, model: str, given: Given) -> None:
        self.measures = isinstance(given, Temperatures) or str(given) != NONE
        super().__init__(Temperatures, model, given if self.measures else None)
        # tables measured in this process, by the name of the file that keeps them
        self.made: dict[str, Temperatures] = {}
        # a table is measured once, however many threads ask for it
        self.lock = renewed_after_fork(RLock())

    def applied(self, row: Recipe, changes: Mapping[str, Any], source: Source, asked: bool, measure: Measure) -> Recipe:
        """The recipe at the model's temperatures if `asked`, or if it has a rho that nothing else meets; else the recipe.

        asked: use the temperatures whatever the recipe's rho.
        measure: called once for a model that has no table: none was given, none came with it, and none is cached.

        Raises:
            ModelError: there are no temperatures, or another model's. RecipeError: they do not fit the recipe.
        """
        meets_rho_itself = row.rho is None or row.inv_temp == "matched" or "inv_temp" in changes
        if meets_rho_itself and not asked:
            return row
        if "inv_temp" in changes:
            raise RecipeError(f"temperatures must be left out with inv_temp, got both (inv_temp {changes['inv_temp']!r})")
        return replace(row, inv_temp=self._of(source, row, measure).table_for(row))

    def _of(self, source: Source, row: Recipe, measure: Measure) -> Temperatures:
        found = self.get(source.name, lambda: digest(source.weights))
        return self._own(source, row, measure) if found is None else found

    def _own(self, source: Source, row: Recipe, measure: Measure) -> Temperatures:
        """The cached temperatures of an earlier run on this machine, or those of a measurement now, which is then cached."""
        if not self.measures:
            raise ModelError(
                f"method {row.name!r} needs inverse temperatures measured on {source.name}, and there are none: leave out "
                f"temperatures={NONE!r} (--temperatures none) to measure them now, or give a file that `fastloc calibrate` wrote"
            )
        tower = digest(source.weights)
        asked = (f"rho{row.rho or 0:g}", f"{row.blocks}x{row.iterations + 1}", *row.streams)
        name = "-".join([tower.rpartition(":")[2][:32], *asked]) + ".json"
        with self.lock:
            if name not in self.made:
                file = user_cache() / "temperatures" / name
                self.made[name] = _kept(file, tower, row) or _measured(file, source.name, row, measure)
            return self.made[name]


def _kept(file: Path, tower: str, row: Recipe) -> Temperatures | None:
    """The table in a file of the cache; None if the file is absent, damaged or for another model."""
    try:
        found = Temperatures.load(file)
        found.table_for(row)
    except FastlocError:
        return None
    return found if found.tower == tower else None


def _measured(file: Path, model: str, row: Recipe, measure: Measure) -> Temperatures:
    begun = time.perf_counter()
    found = measure(row)
    seconds = time.perf_counter() - begun
    try:
        files.make_folder(file.parent, parents=True, exist_ok=True)
        found.save(file)
        kept = f"kept in {file}"
    except (OSError, FastlocError) as error:
        kept = f"not kept: {error}"
    warn(
        f"{model} comes without inverse temperatures: measured for {row.name!r} on {found.pictures} sample pictures in {seconds:.1f} s, "
        f"{kept}; temperatures={NONE!r} (--temperatures none) refuses instead",
        stacklevel=6,
    )
    return found
