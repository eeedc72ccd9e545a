"""Bring a student into its teacher's space from cached vectors: recipe, batches, loop, gates, checkpoints."""

from typing import TYPE_CHECKING

from leafkit.training.distiller import distil
from leafkit.training.log import RunLog, open_log, read_runs
from leafkit.training.objectives import Objective
from leafkit.training.recipe import Recipe, Source, preset
from leafkit.training.report import DistilReport

if TYPE_CHECKING:
    from leafkit.training.alignment import (
        AlignmentLoss,
        ContrastiveLoss,
        ListwiseKLLoss,
        MarginMSELoss,
        RelationalLoss,
        RelativeSimilarityLoss,
        ScoreMSELoss,
    )

__all__ = [
    "AlignmentLoss",
    "ContrastiveLoss",
    "DistilReport",
    "ListwiseKLLoss",
    "MarginMSELoss",
    "Objective",
    "Recipe",
    "RelationalLoss",
    "RelativeSimilarityLoss",
    "RunLog",
    "ScoreMSELoss",
    "Source",
    "distil",
    "open_log",
    "preset",
    "read_runs",
]


def __getattr__(name: str) -> object:
    if not name.endswith("Loss"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from leafkit.training import alignment  # torch modules by inheritance: torch loads with them

    return getattr(alignment, name)
