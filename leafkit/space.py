"""EmbeddingSpace: what has to be equal for two vectors to be comparable. It travels with all that holds vectors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import CorruptData, SpaceMismatch, UsageError

Kind = Literal["query", "document"]
KINDS: tuple[Kind, ...] = ("query", "document")
Similarity = Literal["cosine", "dot"]
Origin = Literal["local", "http", "imported"]

NAMED_ROWS = 5  # in an error
ROWS_AT_ONCE = 16_384  # checked in float64
NORM_TOLERANCE = 1e-2  # bfloat16 rounds each element by 2^-9: the norm of such a row is within 0.4 % of 1


@dataclass(frozen=True)
class Prompts:
    """What is put before a text of each kind; part of what was trained."""

    query: str = ""
    document: str = ""

    def of(self, kind: Kind) -> str:
        """Give the prompt of a kind."""
        return self.query if kind == "query" else self.document


@dataclass(frozen=True)
class TeacherId:
    """Which model made the vectors: its name, and a hub revision or a hash of what the model computes with."""

    name: str
    revision: str

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}"


@dataclass(frozen=True)
class EmbeddingSpace:
    """The space that a teacher's vectors lie in.

    Attributes:
        teacher: name and revision or content hash.
        dim: width of every vector.
        normalized: rows have unit length.
        similarity: ``cosine`` or ``dot``; never guessed.
        prompts: what stands before texts of each kind.
        max_tokens: longer texts are cut there; None when nobody knows (a teacher behind an API).
        truncate: Matryoshka width that vectors were cut to, or None.
        rotation: content hash of a rotation applied to the teacher's vectors, or None.
        origin: where the vectors came from. It is told, and does not decide whether two spaces agree.
    """

    teacher: TeacherId
    dim: int
    normalized: bool
    similarity: Similarity = "cosine"
    prompts: Prompts = field(default_factory=Prompts)
    max_tokens: int | None = None
    truncate: int | None = None
    rotation: str | None = None
    origin: Origin = "local"

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise UsageError(f"a space needs at least 1 dim, got {self.dim}")
        if self.similarity not in ("cosine", "dot"):
            raise UsageError(f'similarity is "cosine" or "dot", got {self.similarity!r}')
        if self.similarity == "cosine" and not self.normalized:
            raise UsageError(
                "a cosine space holds vectors of unit length, so that inner products are cosines: normalise the vectors"
                " and say normalized=True, or say similarity='dot'"
            )

    @property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON, ``origin`` left out."""
        identity = {name: value for name, value in asdict(self).items() if name != "origin"}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def differences(self, other: EmbeddingSpace) -> list[str]:
        """Name the fields in which two spaces differ, in the order of the class."""
        names = (entry.name for entry in fields(self) if entry.name != "origin")
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    def require_compatible(self, other: EmbeddingSpace, *, ours: str = "this", theirs: str = "the other") -> None:
        """Raise ``SpaceMismatch`` with the differing fields side by side, unless vectors of both can be compared."""
        different = self.differences(other)
        if not different:
            return
        rows = [
            f"  {name}: {_shown(getattr(self, name))} ({ours}) | {_shown(getattr(other, name))} ({theirs})"
            for name in different
        ]
        raise SpaceMismatch(
            f"{ours} and {theirs} are of two embedding spaces; vectors of one mean nothing in the other:\n"
            + "\n".join(rows)
            + "\nUse a model and data of one teacher, with the same prompts and widths"
        )

    def at(self, width: int) -> EmbeddingSpace:
        """Give the space of the vectors' first ``width`` dims."""
        if not 1 <= width <= self.dim:
            raise UsageError(f"a prefix is between 1 and {self.dim} dims wide, got {width}")
        return self if width == self.dim else replace(self, dim=width, truncate=width)

    def first_bad_row(self, vectors: NDArray[np.floating[Any]]) -> tuple[int, str] | None:
        """Find the first row that is no vector of this space.

        Args:
            vectors: (N, D), any float dtype.

        Returns:
            The row and what is wrong with it ("holds NaN", "has norm 0.2, expected 1"; other rows named), or None.
        """
        norms = np.empty(len(vectors))
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            part = np.asarray(vectors[start : start + ROWS_AT_ONCE], dtype=np.float32).astype(np.float64)
            norms[start : start + len(part)] = np.sqrt(np.einsum("nd,nd->n", part, part))
        wrong = ~np.isfinite(norms)
        if self.normalized:
            wrong |= np.abs(norms - 1.0) > NORM_TOLERANCE
        if not wrong.any():
            return None
        row, *others = (int(number) for number in np.flatnonzero(wrong))
        if np.isnan(vectors[row]).any():
            reason = "holds NaN"
        elif not np.isfinite(norms[row]):
            reason = "holds an infinite value"
        else:
            reason = f"has norm {norms[row]:.4g}, expected 1 in a normalised space"
        if others:
            named = ", ".join(str(number) for number in others[:NAMED_ROWS])
            more = f" and {len(others) - NAMED_ROWS} more" if len(others) > NAMED_ROWS else ""
            reason += f" (bad are also rows {named}{more})"
        return row, reason

    def to_json(self) -> dict[str, Any]:
        """Give the space as JSON values, with its id."""
        return {**asdict(self), "id": self.id}

    @classmethod
    def from_json(cls, value: dict[str, Any], *, source: str) -> EmbeddingSpace:
        """Read what ``to_json`` wrote.

        Raises:
            CorruptData: a field is missing or unknown, or the id is not that of the fields; names ``source``.
        """
        known = {entry.name for entry in fields(cls)}
        given = {name: entry for name, entry in value.items() if name != "id"}
        if set(given) != known:
            raise CorruptData(source, expected=f"a space with {sorted(known)}", found=f"{sorted(given)}")
        space = cls(**{**given, "teacher": TeacherId(**given["teacher"]), "prompts": Prompts(**given["prompts"])})
        if "id" in value and value["id"] != space.id:
            raise CorruptData(source, expected=f"space id {space.id}", found=value["id"])
        return space


def _shown(value: object) -> str:
    if isinstance(value, Prompts):
        return f"query={value.query!r}, document={value.document!r}"
    return str(value) if isinstance(value, TeacherId) else repr(value)
