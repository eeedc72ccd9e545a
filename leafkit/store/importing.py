"""Ready vectors from elsewhere into a store: texts and vectors in parallel files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.blocks import writer_lock
from leafkit.errors import InputError, ShapeMismatch
from leafkit.io import read_texts, read_vectors
from leafkit.progress import OnProgress, Progress, silent
from leafkit.space import EmbeddingSpace, Kind
from leafkit.store.embedding import EmbedReport, Intake
from leafkit.store.store import EmbeddingStore, TextLike


def import_vectors(
    texts: Sequence[str | Path],
    vectors: Sequence[str | Path],
    store: str | Path,
    space: EmbeddingSpace,
    *,
    kind: Kind | None = None,
    text_field: str = "text",
    model: str | None = None,
    on_progress: OnProgress = silent,
) -> EmbedReport:
    """Add rows whose vectors were made elsewhere. Row i of the n-th vectors belongs to row i of the n-th texts.

    Every pair of files is checked whole before the first row is stored.

    Args:
        texts: files that ``read_texts`` knows.
        vectors: as many ``.npy`` or parquet files of float16 or float32, (rows, dim) each; kept in their dtype.
        store: folder of the store, made if it is not there.
        space: space of the vectors, as their owner states it.
        kind: kind of texts that do not say.
        text_field: name of the text's field or column.
        model: hub name or folder of the teacher, so that students can be cut from it.
        on_progress: told of every pair of files, in rows.

    Raises:
        ShapeMismatch: files and vectors do not pair up, or vectors are not as wide as the space.
        InputError: a row is not finite, or not of unit length in a normalised space; named with its text's place.
        SpaceMismatch: the store is of another space.
    """
    if len(texts) != len(vectors):
        raise ShapeMismatch(f"{len(texts)} files of texts, {len(vectors)} of vectors: give them in pairs, in one order")
    start = time.monotonic()
    pairs = [_checked_pair(t, v, space, kind, text_field) for t, v in zip(texts, vectors, strict=True)]
    target = EmbeddingStore.open_or_create(store, replace(space, origin="imported"), model=model)
    total, done, added, intake = sum(len(rows) for rows, _ in pairs), 0, 0, Intake(target)
    with writer_lock(target.folder):
        target.refresh()
        for rows, matrix in pairs:
            fresh = intake.fresh(rows)
            if fresh:
                target.add([rows[number] for number in fresh], matrix[fresh])
            added, done = added + len(fresh), done + len(rows)
            on_progress(Progress("import", done, total))
    return EmbedReport(added, intake.known, intake.repeated, None, time.monotonic() - start)


def _checked_pair(
    texts: str | Path, vectors: str | Path, space: EmbeddingSpace, kind: Kind | None, text_field: str
) -> tuple[list[TextLike], NDArray[np.floating[Any]]]:
    rows: Iterable[TextLike] = read_texts([texts], kind=kind, text_field=text_field)
    listed, matrix = list(rows), read_vectors(vectors)
    if matrix.shape != (len(listed), space.dim):
        raise ShapeMismatch(
            f"{vectors}: has shape {matrix.shape}; {texts} has {len(listed)} texts and the space {space.dim} dims,"
            f" so ({len(listed)}, {space.dim}) was expected"
        )
    if (bad := space.first_bad_row(matrix)) is not None:
        row, reason = bad
        raise InputError(f"row {row} (text {listed[row].id!r}) {reason}. Nothing was stored", path=vectors)
    return listed, matrix
