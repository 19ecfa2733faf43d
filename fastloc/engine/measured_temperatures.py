"""Chooses and loads the measured temperatures of a model."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastloc.checkpoints.digests import digest
from fastloc.checkpoints.loading import Source
from fastloc.errors import ModelError, RecipeError
from fastloc.recipes import Recipe
from fastloc.recipes.temperatures import Temperatures, shipped_with

Given = str | os.PathLike[str] | Temperatures | None


class MeasuredTemperatures:
    """The temperatures of one model, read when a method asks for them.

    Args:
        model: as `fastloc.checkpoints.loading.load` takes it; a table may lie in its folder.
        given: a file or a table to be read in that one's place.

    Raises:
        ModelError: the file is none.
    """

    def __init__(self, model: str, given: Given) -> None:
        self.model = model
        self.given = given is not None
        self.found = given if given is None or isinstance(given, Temperatures) else Temperatures.load(given)
        self.checked = False

    def applied(self, row: Recipe, changes: Mapping[str, Any], source: Source, asked: bool) -> Recipe:
        """The recipe at the model's temperatures if these are `asked` for, or if it has a rho that nothing else meets; else the recipe.

        Raises:
            ModelError: there are no temperatures, or another model's. RecipeError: they do not fit the recipe.
        """
        meets_rho_itself = row.rho is None or row.inv_temp == "matched" or "inv_temp" in changes
        if meets_rho_itself and not asked:
            return row
        if "inv_temp" in changes:
            raise RecipeError(f"inv_temp {changes['inv_temp']!r} and temperatures are given: give one of them")
        return replace(row, inv_temp=self._of(source, row.name).table_for(row))

    def _of(self, source: Source, method: str) -> Temperatures:
        if self.found is None:
            path = shipped_with(self.model)
            if path is None:
                raise ModelError(
                    f"method {method!r} needs inverse temperatures measured on {source.name}, and there are none: "
                    "`fastloc calibrate` measures them; then give temperatures=FILE (--temperatures FILE)"
                )
            self.found = Temperatures.load(path)
        if not self.checked:
            self.found.check_tower(source.name, digest(source.vit))
            self.checked = True
        return self.found
