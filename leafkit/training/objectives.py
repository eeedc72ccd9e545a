"""Objective: the loss between student and teacher vectors of the same texts, over widths and with weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from leafkit.errors import RecipeError, ShapeMismatch
from leafkit.ops.losses import Metric
from leafkit.ops.torch import alignment_loss


@dataclass(frozen=True)
class Objective:
    """An alignment loss at the full width and, in the mean with it, at Matryoshka prefixes.

    Attributes:
        metric: as in ``leafkit.ops.alignment_loss``.
        prefixes: further widths; a cut vector is brought back to unit length where vectors are normalised.
        normalized: vectors are of unit length.
    """

    metric: Metric = "squared_l2"
    prefixes: tuple[int, ...] = ()
    normalized: bool = True

    def require_fits(self, dim: int) -> None:
        """Raise ``RecipeError`` unless the prefixes are widths of a space of ``dim`` dims, each once."""
        if len(self.prefixes) > dim:
            raise RecipeError(f"{len(self.prefixes)} prefixes of a space of {dim} dims: expected at most {dim}")
        bad = [width for width in self.prefixes if not 1 <= width <= dim]
        if bad:
            raise RecipeError(f"prefix {bad[0]} of a space of {dim} dims: expected 1 to {dim}")
        if len(set(self.prefixes)) < len(self.prefixes):
            raise RecipeError(f"prefixes {list(self.prefixes)}: each width once")

    def __call__(
        self, student: torch.Tensor, teacher: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Give the loss, a scalar that propagates into the student: sum of w_i loss_i over B, mean over the widths.

        Args:
            student: float32, (B, D).
            teacher: float32, (B, D).
            weights: float32, (B,); 1 for every row if not given.

        Raises:
            ShapeMismatch: the shapes differ.
        """
        if student.shape != teacher.shape:
            raise ShapeMismatch(
                f"the student gives {tuple(student.shape)}, the teacher's vectors are {tuple(teacher.shape)}: the"
                " student needs a projection to the teacher's width"
            )
        widths = {*self.prefixes, student.shape[1]}
        losses = [self._at(width, student, teacher, weights) for width in sorted(widths)]
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def _at(
        self, width: int, student: torch.Tensor, teacher: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        if width < student.shape[1]:
            student, teacher = student[:, :width], teacher[:, :width]
            if self.normalized:
                student, teacher = torch.nn.functional.normalize(student), torch.nn.functional.normalize(teacher)
        if weights is None and student.device.type == "cpu":
            return alignment_loss(student, teacher, self.metric)
        if self.metric == "cosine":
            rows = 1 - torch.nn.functional.cosine_similarity(student, teacher)
        else:
            rows = (student - teacher).square().sum(1)
            if self.metric == "l2":
                rows = torch.where(rows > 0, rows, 1).sqrt() * (rows > 0)  # no gradient where nothing differs
        return (rows if weights is None else rows * weights).mean()
