"""Checkpoints: the state that training goes on from, whole or absent."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafkit.blocks import FileEntry
from leafkit.errors import CorruptData, RecipeError
from leafkit.io.atomic import new_folder
from leafkit.training.optimizer import MovingAverage

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

CARD, STATE = "checkpoint.json", "training.pt"
KEPT = 2  # the newest, and the one before it should a disk have lost part of the newest


@dataclass(frozen=True)
class Position:
    """How far a run is: steps done, seconds of training, texts seen."""

    step: int = 0
    seconds: float = 0.0
    texts: int = 0


def save_checkpoint(
    folder: Path,
    model: SentenceTransformer,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage,
    position: Position,
    *,
    identity: str,
) -> None:
    """Write ``folder/step-N``, whole or not at all, and remove all but the two newest."""
    import torch

    with new_folder(folder / f"step-{position.step:08}") as scratch:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average.weights}
        torch.save(state, scratch / STATE)
        sums = {STATE: vars(FileEntry.of(scratch / STATE))}
        card = {"position": vars(position), "identity": identity, "files": sums}
        (scratch / CARD).write_text(json.dumps(card, indent=1), encoding="utf-8")
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def load_newest(
    folder: Path,
    model: SentenceTransformer,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage,
    *,
    identity: str,
) -> Position | None:
    """Put the newest whole checkpoint into model, optimizer and average; None if the run has none yet.

    A broken one is passed over with a warning that names the file.

    Raises:
        CorruptData: there are checkpoints and every one is broken: a run never starts anew unasked.
        RecipeError: the checkpoint is of another recipe, or was trained on other texts.
    """
    import torch

    broken: CorruptData | None = None
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            card = _checked_card(path)
        except CorruptData as exc:
            warnings.warn(f"{exc}: going on from the checkpoint before it", stacklevel=2)
            broken = exc
            continue
        if card["identity"] != identity:
            raise RecipeError(
                f"{path}: of run {card['identity']}, this one is {identity}: the recipe or the texts are others."
                " Give the options and stores the run was started with, or remove the run's folder to start anew"
            )
        state = torch.load(path / STATE, weights_only=True, map_location=model.device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights = state["average"]
        return Position(**card["position"])
    if broken is not None:
        raise broken
    return None


def _checked_card(path: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((path / CARD).read_bytes())
        entries = {name: FileEntry(**entry) for name, entry in card["files"].items()}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CorruptData(path / CARD, expected="a checkpoint's card", found=repr(exc)) from exc
    for name, expected in entries.items():
        found = FileEntry.of(path / name) if (path / name).is_file() else None
        if found != expected:
            size = "no file" if found is None else f"{found.size_bytes} bytes, XXH3-128 {found.xxh3_128}"
            raise CorruptData(
                path / name, expected=f"{expected.size_bytes} bytes, XXH3-128 {expected.xxh3_128}", found=size
            )
    return card
