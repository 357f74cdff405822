"""FP8 and FP4 scaling recipes, as published."""

from precision_lab.lowprecision.recipes.recipes import RECIPES, Recipe, get_recipe

__all__ = ["RECIPES", "Recipe", "get_recipe"]
