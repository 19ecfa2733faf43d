"""Chooses and loads the measured temperatures of a model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastloc.checkpoints.digests import digest
from fastloc.checkpoints.loading import Source
from fastloc.errors import RecipeError
from fastloc.recipes import Recipe
from fastloc.recipes.measured import OfModel
from fastloc.recipes.temperatures import Temperatures


class MeasuredTemperatures(OfModel[Temperatures]):
    """The temperatures of one model, read when a method asks for them."""

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
        return replace(row, inv_temp=self.get(row.name, source.name, lambda: digest(source.vit)).table_for(row))
