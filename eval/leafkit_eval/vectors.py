"""Vectors of texts by an encoder, made once and kept: what every judgement reads. A killed one goes on from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.io.atomic import make_folder
from leafkit.progress import OnProgress, Progress
from leafkit.space import EmbeddingSpace, Kind
from leafkit.store import EmbeddingStore, embed_texts
from leafkit.store.store import TextLike
from leafkit.teachers import Teacher


class Vectors:
    """One encoder's vectors of every text, kept in a store that is named after what computes them.

    Args:
        role: what progress calls the encoder.
        encoder: made what is missing by.
        cache: folder of the stores.

    Attributes:
        first_encoded: the first text of each kind with the prompt before it, as it goes into the encoder.
    """

    def __init__(self, role: str, encoder: Teacher, cache: Path) -> None:
        self._role, self._encoder = role, encoder
        make_folder(cache)
        folder = cache / f"{encoder.fingerprint}.store"
        self._store = EmbeddingStore.open_or_create(folder, encoder.space, made_by=encoder.fingerprint)
        self._store.verify()  # large blocks too, which opening leaves alone: a changed vector is a wrong score
        self._embedded = self._cached = 0
        self._truncated: int | None = 0
        self._seconds = 0.0
        self.first_encoded: dict[Kind, str] = {}

    @property
    def space(self) -> EmbeddingSpace:
        """Space of the vectors."""
        return self._encoder.space

    def embed(self, texts: Sequence[TextLike], name: str, on_progress: OnProgress) -> None:
        """Make the vectors that are missing; ``name`` is what the texts are called in the progress."""
        for text in texts:
            if text.kind not in self.first_encoded:
                self.first_encoded[text.kind] = self.space.prompts.of(text.kind) + text.text
        stage = f"{self._role} embeds {name}"
        done = embed_texts(
            self._encoder,
            texts,
            self._store,
            total=len(texts),
            on_progress=lambda moment: on_progress(Progress(stage, moment.done, moment.total, moment.note)),
        )
        self._embedded += done.embedded
        self._cached += done.known
        self._seconds += done.seconds
        if done.truncated is None or self._truncated is None:
            self._truncated = None
        else:
            self._truncated += done.truncated

    def of(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Give the vectors of texts that were embedded: float32, (n, dim)."""
        return self._store.lookup(texts, kind)

    def report(self) -> dict[str, Any]:
        """Say what was embedded, found and cut, in how many seconds, and how the first text of each kind went in."""
        return {
            "embedded": self._embedded,
            "from_cache": self._cached,
            "truncated": self._truncated,
            "seconds": round(self._seconds, 3),
            "first_encoded": dict(self.first_encoded),
        }


def open_vectors(encoders: dict[str, Teacher], cache: Path) -> dict[str, Vectors]:
    """Open each encoder's store once: a teacher judged as its own student has one store, not two views of it."""
    opened: dict[str, Vectors] = {}
    for role, encoder in encoders.items():
        if encoder.fingerprint not in opened:
            opened[encoder.fingerprint] = Vectors(role, encoder, cache)
    return {role: opened[encoder.fingerprint] for role, encoder in encoders.items()}
