"""Retriever: a query encoder before an index of the same space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from leafkit.errors import InputError
from leafkit.index.approximate import GpuIndex
from leafkit.index.index import Index
from leafkit.students import open_encoder
from leafkit.teachers import Teacher, checked_rows, checked_texts


@dataclass(frozen=True, slots=True)
class Hit:
    """One found document: place from 1, inner product, id and text."""

    rank: int
    score: float
    id: str
    text: str


class Retriever:
    """Answers queries in words.

    Args:
        encoder: leaf or teacher of the index's space.
        index: what to search, exactly, or approximately on a GPU.

    Raises:
        SpaceMismatch: the encoder is of another space than the index.
    """

    def __init__(self, encoder: Teacher, index: Index | GpuIndex) -> None:
        index.space.require_compatible(encoder.space, ours="the index", theirs="the encoder")
        self.encoder, self.index = encoder, index

    @classmethod
    def open(cls, *, index: str | Path, model: str | Path) -> Retriever:
        """Open an index folder and a leaf's or teacher's folder, or hub name."""
        opened = Index.open(index)
        return cls(open_encoder(model, opened.space, whose=str(index)), opened)

    def search(self, query: str, k: int = 10) -> list[Hit]:
        """Find the k documents nearest to a query, best first.

        Raises:
            InputError: the query is blank, or no UTF-8.
            TeacherError: the encoder gave no vector for it.
        """
        return self.search_batch([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """Find the k documents nearest to each query."""
        for number, query in enumerate(checked_texts(queries, "query")):
            if not query.strip():
                which = f"query {number}" if len(queries) > 1 else "the query"
                raise InputError(f"{which} is blank: give it words")
            if not query.isascii() and query != query.encode("utf-8", "replace").decode("utf-8"):
                raise InputError(f"query {number} holds bytes that are no UTF-8: {query!r}")
        vectors = checked_rows(self.encoder.encode(queries, "query"), self.index.space, [repr(q) for q in queries])
        found = self.index.search(vectors, k)
        return [
            [
                Hit(place, float(score), self.index.ids[row], self.index.text(int(row)))
                for place, (score, row) in enumerate(zip(scores, rows, strict=True), 1)
                if row >= 0
            ]
            for scores, rows in zip(found.scores, found.rows, strict=True)
        ]
