"""DevelopmentCollection: a collection followed during training, its teacher's vectors made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leafkit.progress import OnProgress, Progress, silent
from leafkit.rotation import Rotation
from leafkit.store import EmbeddingStore, embed_texts
from leafkit.teachers import Teacher
from leafkit_eval.collections import Collection
from leafkit_eval.metrics import measure
from leafkit_eval.search import descending, search_run

DEPTH = 10


class DevelopmentCollection:
    """Judges a student that is still in training by nDCG@10, alone and before the teacher's documents.

    Args:
        collection: what to judge on; choose weights by no collection that is reported later.
        teacher: encoder whose space it is.
        on_progress: told of the texts that the teacher embeds.
    """

    def __init__(self, collection: Collection, teacher: Teacher, *, on_progress: OnProgress = silent) -> None:
        self._collection, self._teacher, self._on_progress = collection, teacher, on_progress
        order = descending([row.id for row in collection.findable])
        self._documents = [collection.findable[row] for row in order]
        self._teacher_documents: NDArray[np.float32] | None = None

    def prepare(self, folder: Path, rotation: Rotation | None = None) -> dict[str, float]:
        """Embed queries and documents with the teacher, in a store in ``folder``; give the teacher's nDCG@10.

        The teacher's vectors are turned by ``rotation`` where the student learns turned ones.
        """
        teacher, collection = self._teacher, self._collection
        store = EmbeddingStore.open_or_create(folder, teacher.space, made_by=teacher.fingerprint)
        texts = [*collection.queries, *self._documents]
        stage = f"teacher embeds {collection.name}"
        embed_texts(
            teacher,
            texts,
            store,
            total=len(texts),
            on_progress=lambda moment: self._on_progress(Progress(stage, moment.done, moment.total, moment.note)),
        )
        documents = store.lookup([row.text for row in self._documents], "document")
        self._teacher_documents = documents if rotation is None else rotation.turn(documents)
        queries = store.lookup([row.text for row in collection.queries], "query")
        return {"ndcg_at_10_teacher": self._ndcg(queries, documents)}

    def judge(self, student: Teacher) -> dict[str, float]:
        """Embed queries and documents with the student and give nDCG@10, symmetric and asymmetric.

        Raises:
            RuntimeError: ``prepare`` was not called.
        """
        if self._teacher_documents is None:
            raise RuntimeError("prepare(folder) embeds the teacher's documents first")
        queries = student.encode([row.text for row in self._collection.queries], "query")
        documents = student.encode([row.text for row in self._documents], "document")
        return {
            "ndcg_at_10_symmetric": self._ndcg(queries, documents),
            "ndcg_at_10_asymmetric": self._ndcg(queries, self._teacher_documents),
        }

    def _ndcg(self, queries: NDArray[np.float32], documents: NDArray[np.float32]) -> float:
        run = search_run(
            queries,
            documents,
            [row.id for row in self._documents],
            [row.id for row in self._collection.queries],
            depth=DEPTH,
        )
        return float(measure(self._collection.qrels, run).means["ndcg_at_10"])
