"""The objective as a loss of sentence-transformers, for its trainer. Arithmetic is ``objectives.py``'s."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from leafkit.errors import ShapeMismatch, UsageError
from leafkit.ops.losses import Metric
from leafkit.training.objectives import Objective

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class AlignmentLoss(torch.nn.Module):
    """Distance of a student's vectors to its teacher's, as ``leafkit distill`` trains on.

    Beside sentence-transformers' own ``EmbedDistillLoss``: squared L2 is summed over dims as LEAF has it (its ``mse``
    is the mean, a factor of D), and Matryoshka prefixes are compared after both were given unit length again.

    Args:
        model: the student. Where it ends in a Normalize its vectors, and prefixes of them, have unit length.
        metric: as in ``leafkit.ops.alignment_loss``.
        prefixes: further widths at which vectors are compared; the loss is the mean over all.

    Raises:
        RecipeError: another metric, or prefixes that the student's vectors do not have.
    """

    def __init__(self, model: SentenceTransformer, metric: Metric = "squared_l2", prefixes: Sequence[int] = ()) -> None:
        super().__init__()
        self.model = model
        self.objective = Objective(metric, tuple(prefixes), normalized=type(model[-1]).__name__ == "Normalize")
        if (dim := model.get_embedding_dimension()) is not None:
            self.objective.require_fits(dim)

    def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor) -> torch.Tensor:
        """Give the loss of a batch.

        Args:
            sentence_features: of one text column.
            labels: the teacher's vectors, (B, D), of any float dtype.

        Raises:
            ShapeMismatch: the student's vectors are not as wide as the labels.
            UsageError: another number of text columns, or no labels.
        """
        columns = list(sentence_features)
        if len(columns) != 1 or labels is None:
            raise UsageError(
                f"{len(columns)} text columns and {'no' if labels is None else 'a'} label, expected 1 text column and"
                " a label, the teacher's vector of the text: EmbeddingStore.as_dataset() has these two"
            )
        student = self.model(columns[0])["sentence_embedding"].float()  # half precision, where the trainer has it
        if labels.ndim != 2 or student.shape[1] != labels.shape[1]:
            raise ShapeMismatch(
                f"the student's vectors have shape {tuple(student.shape)}, the labels {tuple(labels.shape)}: start the"
                " student with leafkit.students.build_student in the store's space, or end it in a Dense of the labels'"
                " width"
            )
        return self.objective(student, labels.to(student))

    def get_config_dict(self) -> dict[str, Any]:
        """Give what the model card says of the loss."""
        objective = self.objective
        return {
            "metric": objective.metric,
            "prefixes": list(objective.prefixes),
            "normalized": objective.normalized,
        }
