"""How long work tells that it goes on: one value, one callback. Drawing it is the caller's affair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a long job.

    ``done`` and ``total`` count what ``stage`` names (texts, steps); ``note`` is a short line of figures.
    """

    stage: str
    done: int
    total: int
    note: str = ""


OnProgress = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Draw nothing."""
