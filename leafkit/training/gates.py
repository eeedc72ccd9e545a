"""Checks while a run goes on: how close the student is, which weights were the best, and when a run is broken."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import CorruptData, TrainingStopped
from leafkit.io.atomic import new_folder, write_file
from leafkit.rotation import Rotation
from leafkit.space import KINDS, EmbeddingSpace
from leafkit.students import write_student
from leafkit.teachers import Teacher
from leafkit.training.data import TrainingTexts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BAD_STEPS = 3  # losses in a row that are not finite before the run stops
# Before both, the rate has just come up, Adam's averages hold little, and the cosine may dip and recover: from 0.762 to
# 0.633 after some ten steps of the demo's transformer.
FROM_PROGRESS, FROM_STEP = 0.1, 200
BAD_ROWS = "not-finite.json"
BEST = "best"
CARD = "gate.json"


class Development(Protocol):
    """A collection that is followed during training; ``leafkit_eval.DevelopmentCollection`` is one."""

    def prepare(self, folder: Path, rotation: Rotation | None) -> dict[str, float]:
        """Embed what the teacher embeds, kept in ``folder``, and turn it; give the teacher's own figures."""
        ...

    def judge(self, student: Teacher) -> dict[str, float]:
        """Give ``ndcg_at_10_symmetric`` and ``ndcg_at_10_asymmetric``."""
        ...


class BestStudent:
    """The student of the best gate so far: by asymmetric nDCG@10 if there is a development collection, else cosine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.step, self.score = -1, -math.inf
        if self.place is not None:
            try:
                card = json.loads((self.place / CARD).read_bytes())
                self.step, self.score = int(card["step"]), float(card["score"])
            except (OSError, ValueError, KeyError, TypeError) as exc:
                raise CorruptData(self.place / CARD, expected="step and score of a gate", found=repr(exc)) from exc

    @property
    def place(self) -> Path | None:
        """Folder of the student, None before the first gate."""
        return max(self._folder.glob("step-*"), default=None)

    def offer(self, model: SentenceTransformer, space: EmbeddingSpace, step: int, values: dict[str, float]) -> None:
        """Keep the student if no gate before gave more; of equal ones the later is kept."""
        score = values.get("ndcg_at_10_asymmetric", values["cosine"])
        if not math.isfinite(score) or score < self.score or step == self.step:
            return
        place = self._folder / f"step-{step:08}"
        with new_folder(place) as scratch:
            write_student(model, space, scratch)
            (scratch / CARD).write_text(json.dumps({"step": step, "score": score}), encoding="utf-8")
        for other in self._folder.glob("step-*"):
            if other != place:
                shutil.rmtree(other)
        self.step, self.score = step, score


class FiniteLoss:
    """Stops a run whose loss is not finite three times in a row, and leaves the rows of those batches behind."""

    def __init__(self, texts: TrainingTexts, folder: Path) -> None:
        self._texts, self._folder = texts, folder
        self._bad: list[dict[str, Any]] = []

    def check(self, loss: float, step: int, rows: NDArray[np.int64]) -> None:
        """Take in a step's loss.

        Raises:
            TrainingStopped: it is the third in a row; names the file of the batches' rows.
        """
        if math.isfinite(loss):
            self._bad.clear()
            return
        self._bad.append({"step": step, "loss": str(loss), "rows": [self._row(row) for row in rows]})
        if len(self._bad) == BAD_STEPS:
            path = self._folder / BAD_ROWS
            write_file(path, (json.dumps(self._bad, ensure_ascii=False, indent=1) + "\n").encode())
            raise TrainingStopped(
                f"the loss was not finite {BAD_STEPS} times in a row, last at step {step}; the batches' rows are in"
                f" {path}. Lower --learning-rate, or look at those rows"
            )

    def _row(self, row: int) -> dict[str, Any]:
        store, place = (int(number) for number in self._texts.places[row])
        return {
            "store": str(self._texts.stores[store].folder),
            "row": place,
            "kind": KINDS[self._texts.kinds[row]],
            "text": self._texts.prompted[row],
        }


def require_learning(start: float, cosine: float, *, progress: float, step: int, tolerance: float) -> None:
    """Stop a run that went below the linear start: a set-up that is broken, not one that is slow.

    Args:
        start: held-out cosine of the linear start.
        cosine: held-out cosine now.
        progress: share of the run that is done.
        step: steps taken.
        tolerance: how far below is borne.

    Raises:
        TrainingStopped: it is not finite; or further below, after a tenth of the run and 200 steps.
    """
    if not math.isfinite(cosine):
        raise TrainingStopped("the student gives vectors that are not finite: lower --learning-rate and start anew")
    if progress >= FROM_PROGRESS and step >= FROM_STEP and cosine < start - tolerance:
        raise TrainingStopped(
            f"after {progress:.0%} of the run the held-out cosine is {cosine:.3f}, below the linear start's"
            f" {start:.3f} by more than {tolerance}: the set-up is broken. Lower --learning-rate, give more texts or"
            " other ones, or raise gates.tolerance in the recipe if this is meant"
        )


def mean_cosine(student: Sequence[NDArray[np.float32]], teacher: Sequence[NDArray[np.float32]]) -> float:
    """Give the mean cosine of rows, in float64; a row of zeros counts 0."""
    total, count = 0.0, 0
    for ours, theirs in zip(student, teacher, strict=True):
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        total += float((np.einsum("nd,nd->n", a, b) / np.where(norms == 0, 1, norms)).sum())
        count += len(a)
    return total / count
