"""Bring a student into its teacher's space from cached vectors: recipe, batches, loop, checkpoints."""

from leafkit.training.distiller import DistilReport, distil
from leafkit.training.recipe import Recipe, preset

__all__ = ["DistilReport", "Recipe", "distil", "preset"]
