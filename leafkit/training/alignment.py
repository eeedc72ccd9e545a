"""The objective, and losses between the texts of a batch, as losses of sentence-transformers for its trainer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from leafkit.errors import ShapeMismatch, UsageError
from leafkit.ops import torch as ops
from leafkit.ops.batch_losses import TEMPERATURE, require_margin, require_temperature
from leafkit.ops.losses import Metric, whole_numbers
from leafkit.training.objectives import Objective

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Features = Iterable[dict[str, torch.Tensor]]


class _TeacherLoss(torch.nn.Module):
    """A loss between the student's vectors of one text column and the teacher's, which are the labels."""

    def __init__(self, model: SentenceTransformer, **options: Any) -> None:
        super().__init__()
        self.model = model
        self.options = options

    def compare(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Give the loss of a batch of vectors, both float32, (B, D)."""
        raise NotImplementedError

    def forward(self, sentence_features: Features, labels: torch.Tensor) -> torch.Tensor:
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
        (student,) = _vectors(self.model, columns)
        if labels.ndim != 2 or student.shape[1] != labels.shape[1]:
            raise ShapeMismatch(
                f"the student's vectors have shape {tuple(student.shape)}, the labels {tuple(labels.shape)}: start the"
                " student with leafkit.students.build_student in the store's space, or end it in a Dense of the labels'"
                " width"
            )
        return self.compare(student, labels.to(student))

    def get_config_dict(self) -> dict[str, Any]:
        """Give what the model card says of the loss."""
        return self.options


class AlignmentLoss(_TeacherLoss):
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
        prefixes = whole_numbers(prefixes, "prefixes")
        normalized = type(model[-1]).__name__ == "Normalize"
        super().__init__(model, metric=metric, prefixes=prefixes, normalized=normalized)
        self.objective = Objective(metric, tuple(prefixes), normalized=normalized)
        if (dim := model.get_embedding_dimension()) is not None:
            self.objective.require_fits(dim)

    def compare(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Give the objective."""
        return self.objective(student, teacher)


class RelationalLoss(_TeacherLoss):
    """``leafkit.ops.relational_loss``: the student's similarities in the batch are to be the teacher's."""

    def __init__(self, model: SentenceTransformer, *, exact: bool = False) -> None:
        super().__init__(model, exact=exact)

    def compare(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Give the loss."""
        return ops.relational_loss(student, teacher, **self.options)


class ListwiseKLLoss(_TeacherLoss):
    """``leafkit.ops.listwise_kl_loss``: the student is to rank the batch for each text as the teacher does.

    The loss of a text alone, as the last batch may have it, is 0.
    """

    def __init__(self, model: SentenceTransformer, temperature: float = TEMPERATURE, *, exact: bool = False) -> None:
        require_temperature(temperature)
        super().__init__(model, temperature=temperature, exact=exact)

    def compare(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Give the loss."""
        if len(student) < 2:
            return student.sum() * 0.0
        return ops.listwise_kl_loss(student, teacher, **self.options)


class ContrastiveLoss(_TeacherLoss):
    """``leafkit.ops.contrastive_loss``: each student's vector is to find its own teacher's in the batch."""

    def __init__(self, model: SentenceTransformer, temperature: float = TEMPERATURE, *, exact: bool = False) -> None:
        require_temperature(temperature)
        super().__init__(model, temperature=temperature, exact=exact)

    def compare(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Give the loss."""
        return ops.contrastive_loss(student, teacher, **self.options)


class RelativeSimilarityLoss(_TeacherLoss):
    """``leafkit.ops.relative_similarity_loss``: the student is to order pairs of texts as the teacher does.

    The loss of a text alone, as the last batch may have it, is 0.
    """

    def __init__(self, model: SentenceTransformer, margin: float = 0.015) -> None:
        require_margin(margin)
        super().__init__(model, margin=margin)

    def compare(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Give the loss."""
        if len(student) < 2:
            return student.sum() * 0.0
        return ops.relative_similarity_loss(student, teacher, **self.options)


class _ScoredLoss(torch.nn.Module):
    """A loss between the student's scores of texts and a cross-encoder's, which are the labels."""

    columns: tuple[str, ...]

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def compare(self, vectors: list[torch.Tensor], scores: torch.Tensor) -> torch.Tensor:
        """Give the loss of a batch of vectors, a matrix a column, and labels, float32, (B,)."""
        raise NotImplementedError

    def forward(self, sentence_features: Features, labels: torch.Tensor) -> torch.Tensor:
        """Give the loss of a batch.

        Args:
            sentence_features: of as many text columns as the loss compares.
            labels: (B,), of any float dtype.

        Raises:
            UsageError: another number of text columns, or labels that are not one number a row.
        """
        columns = list(sentence_features)
        shape = None if labels is None else tuple(labels.shape)
        if len(columns) != len(self.columns) or shape is None or len(shape) != 1:
            raise UsageError(
                f"{len(columns)} text columns and labels of shape {shape}, expected {len(self.columns)} text columns"
                f" ({', '.join(self.columns)}) and a number a row"
            )
        vectors = _vectors(self.model, columns)
        return self.compare(vectors, labels.to(vectors[0]))

    def get_config_dict(self) -> dict[str, Any]:
        """Give what the model card says of the loss."""
        return {}


class MarginMSELoss(_ScoredLoss):
    """``leafkit.ops.margin_mse_loss``: label is the cross-encoder's score of the positive less that of the negative."""

    columns = ("query", "positive", "negative")

    def compare(self, vectors: list[torch.Tensor], scores: torch.Tensor) -> torch.Tensor:
        """Give the loss."""
        query, positive, negative = vectors
        return ops.margin_mse_loss(query, positive, negative, scores)


class ScoreMSELoss(_ScoredLoss):
    """``leafkit.ops.score_mse_loss``: label is the cross-encoder's score of the two texts."""

    columns = ("text", "text")

    def compare(self, vectors: list[torch.Tensor], scores: torch.Tensor) -> torch.Tensor:
        """Give the loss."""
        one, other = vectors
        return ops.score_mse_loss(one, other, scores)


def _vectors(model: SentenceTransformer, columns: list[dict[str, torch.Tensor]]) -> list[torch.Tensor]:
    # half precision, where the trainer has it
    return [model(column)["sentence_embedding"].float() for column in columns]
