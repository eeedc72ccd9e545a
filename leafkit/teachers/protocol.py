"""Teacher: the one thing leafkit asks of whatever makes vectors. A leaf fits it as well as its teacher does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import TeacherError
from leafkit.space import EmbeddingSpace, Kind


@runtime_checkable
class Teacher(Protocol):
    """Gives vectors of one space.

    ``fingerprint`` names what computes them (a content hash, safe in file names): two encoders of one space, such as
    a teacher and its leaf, differ in it.
    """

    @property
    def space(self) -> EmbeddingSpace:
        """Space of the vectors."""
        ...

    @property
    def fingerprint(self) -> str:
        """Content hash of what computes the vectors."""
        ...

    def encode(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Embed texts of one kind, prompt included: float32, (n, dim)."""
        ...


@runtime_checkable
class CountsTruncation(Protocol):
    """An encoder that knows how many texts it has cut since it was made."""

    truncated: int


def checked_texts(texts: Sequence[str], kind: Kind) -> Sequence[str]:
    """Refuse what an encoder would take for something else: one string for its letters, another kind for documents.

    Raises:
        TypeError: texts is a string.
        ValueError: another kind.
    """
    if isinstance(texts, str):
        raise TypeError(f"texts is a string, expected a sequence of them: [{texts[:20]!r}]")
    if kind not in get_args(Kind):
        raise ValueError(f"kind {kind!r}: expected {' or '.join(get_args(Kind))}")
    return texts


def checked_rows(vectors: NDArray[Any], space: EmbeddingSpace, ids: Sequence[str]) -> NDArray[np.float32]:
    """Let rows in that are vectors of the space.

    Args:
        vectors: (n, dim) as a teacher gave them.
        space: what they have to fit.
        ids: n names for the message.

    Raises:
        TeacherError: another shape, or a row that is not finite or, in a normalised space, not of unit length; names
            the row and its text's id.
    """
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.shape != (len(ids), space.dim):
        raise TeacherError(
            f"the encoder gave shape {rows.shape} for {len(ids)} texts, expected ({len(ids)}, {space.dim})"
        )
    if (bad := space.first_bad_row(rows)) is not None:
        row, reason = bad
        raise TeacherError(
            f"the encoder's row {row} (text {ids[row]}) {reason}. What was stored before is kept: "
            "mend the encoder or take the text out, then run the same command again"
        )
    return rows
