"""The objective: how far a student's vectors are from their teacher's, at which widths. Knows tensors, no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from leafkit.errors import RecipeError, ShapeMismatch
from leafkit.ops.losses import Metric

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.05  # of the ranking term: 0.1 and 0.02 were no better (docs/explanation/decisions.md)


@dataclass(frozen=True)
class Objective:
    """An alignment loss at the whole width and, in the mean with it, at Matryoshka prefixes.

    Attributes:
        metric: as in ``leafkit.ops.alignment_loss``.
        prefixes: further widths at which the vectors are compared.
        normalized: the space's vectors have unit length, so that a cut prefix, the student's and the teacher's, is
            given unit length again.
        ranking: weight of a term beside the loss: how far the student's ranking of some of the teacher's documents is
            from the teacher's, as the Kullback-Leibler divergence of their softmax, at a temperature of 0.05 times the
            mean norms of the teacher's vectors and the documents.

    Raises:
        RecipeError: another metric, a prefix that is below 1 or named twice, or prefixes of unit vectors for huber.
    """

    metric: Metric = "squared_l2"
    prefixes: tuple[int, ...] = ()
    normalized: bool = True
    ranking: float = 0.0

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise RecipeError(f"metric {self.metric!r}: expected one of {', '.join(get_args(Metric))}")
        if self.metric == "huber" and self.prefixes and self.normalized:
            raise RecipeError("huber has no prefixes in a space of unit vectors: leave them out, or take squared_l2")
        for place, width in enumerate(self.prefixes):
            if width < 1:
                raise RecipeError(f"prefix {width}: expected at least 1 dim")
            if width in self.prefixes[:place]:
                raise RecipeError(f"prefix {width} is named {self.prefixes.count(width)} times, expected once")

    def require_fits(self, dim: int) -> None:
        """Raise ``RecipeError``, with both numbers, if vectors of ``dim`` have no such prefixes."""
        if len(self.prefixes) > dim:
            raise RecipeError(f"{len(self.prefixes)} prefixes, the vectors have {dim} dims: give at most {dim}")
        if self.prefixes and max(self.prefixes) > dim:
            raise RecipeError(f"prefix {max(self.prefixes)}, the vectors have {dim} dims: give prefixes up to {dim}")

    def __call__(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        weights: torch.Tensor | None = None,
        documents: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Give the loss as a scalar tensor that propagates into the student; the teacher is fixed.

        Args:
            student: float32, (B, D).
            teacher: float32, (B, D), on the student's device.
            weights: float32, (B,), of the rows; 1 each if not given.
            documents: the teacher's vectors of some documents, float32, (M, D), for the ranking term; without them it
                is left out.

        Returns:
            Sum over rows of weight times loss, over B (not over the sum of weights: a batch of light rows counts
            less than one of heavy rows), and the mean of that over the prefixes. Where a row has no slope (equal
            vectors in ``l2``, a row of zeros in ``cosine``) its gradient is 0.

        Raises:
            ShapeMismatch: student and teacher, or student and weights, do not fit each other.
            RecipeError: a prefix is wider than D.
        """
        if student.shape != teacher.shape:
            raise ShapeMismatch(
                f"student has shape {tuple(student.shape)}, teacher has shape {tuple(teacher.shape)}: one row each, of"
                " one width"
            )
        if weights is not None and weights.shape != student.shape[:1]:
            raise ShapeMismatch(f"weights have shape {tuple(weights.shape)}, expected ({len(student)},): one a row")
        dim = student.shape[1]
        self.require_fits(dim)
        loss = self._loss(student, teacher, weights, sorted({*self.prefixes, dim}))
        if not self.ranking or documents is None:
            return loss
        return loss + self.ranking * _of_rows(_divergences(student, teacher, documents), weights)

    def _cut(self, vectors: torch.Tensor, width: int) -> torch.Tensor:
        import torch  # with the first batch, not with a recipe

        if width == vectors.shape[1]:
            return vectors
        prefix = vectors[:, :width]
        if not self.normalized:
            return prefix
        norms = torch.linalg.vector_norm(prefix, dim=1, keepdim=True)
        return prefix / torch.where(norms == 0, 1.0, norms)  # a floor on norms would give zeros a huge gradient

    def _loss(
        self, student: torch.Tensor, teacher: torch.Tensor, weights: torch.Tensor | None, widths: list[int]
    ) -> torch.Tensor:
        import torch

        from leafkit.ops.cuda import takes

        if student.dtype == torch.float32 and (student.device.type == "cpu" or takes(student, teacher)):
            from leafkit.ops.torch import alignment_loss

            return alignment_loss(
                student, teacher, self.metric, prefixes=widths, weights=weights, unit_prefixes=self.normalized
            )
        first, *others = (
            _of_rows(_row_losses(self._cut(student, n), self._cut(teacher, n), self.metric), weights) for n in widths
        )
        return sum(others, start=first) / len(widths)


def _of_rows(losses: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    return (losses if weights is None else weights * losses).mean()


def _divergences(student: torch.Tensor, teacher: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """How far each row's ranking of the documents is from its teacher's: (B,), 0 where both give the same scores."""
    import torch

    norms = [torch.linalg.vector_norm(vectors, dim=1).mean() for vectors in (teacher, documents)]
    scale = TEMPERATURE * norms[0] * norms[1]  # the temperature itself where the space has unit vectors
    ours, theirs = ((rows @ documents.T / scale).log_softmax(dim=1) for rows in (student, teacher))
    return torch.nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)


def _row_losses(student: torch.Tensor, teacher: torch.Tensor, metric: Metric) -> torch.Tensor:
    """The loss of every row, (B,), for devices and precisions that the fused operation does not take."""
    import torch

    distances: torch.Tensor
    if metric == "cosine":
        norms = torch.linalg.vector_norm(student, dim=1) * torch.linalg.vector_norm(teacher, dim=1)
        zero = norms == 0  # such a row is at distance 1 from everything, in every direction
        distances = 1.0 - torch.where(zero, 0.0, (student * teacher).sum(1) / torch.where(zero, 1.0, norms))
    elif metric == "huber":
        distances = torch.nn.functional.huber_loss(student, teacher, reduction="none").sum(1)
    elif metric == "l2":
        distances = torch.linalg.vector_norm(student - teacher, dim=1)  # its gradient at 0 is 0
    else:
        distances = (student - teacher).square().sum(1)
    return distances
