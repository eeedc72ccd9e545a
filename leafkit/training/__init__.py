"""Bring a student into its teacher's space from cached vectors: recipe, batches, loop, gates, checkpoints."""

from leafkit.training.distiller import DistilReport, distil
from leafkit.training.recipe import Recipe, Source, preset

__all__ = ["DistilReport", "Recipe", "Source", "distil", "preset"]
