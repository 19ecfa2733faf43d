"""Methods as data: the schema of a recipe, the table of all recipes, and temperatures measured for them. Without torch.

    from fastloc.recipes import RECIPES, Recipe, ReadOut, recipe
"""

from fastloc.recipes.readout import ReadOut
from fastloc.recipes.schema import Recipe
from fastloc.recipes.table import RECIPES, recipe

__all__ = ["RECIPES", "ReadOut", "Recipe", "recipe"]
