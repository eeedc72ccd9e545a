"""From vectors to a run: exact search in trec_eval's order of ties, self hits dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import ShapeMismatch
from leafkit.ops import TopK, pack_documents, search_topk

DEPTH = 100  # recall@100 is the deepest metric
Precision = Literal["float32", "bfloat16", "int8", "binary", "binary+rescore"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def search_run(
    query_vectors: NDArray[np.float32],
    document_vectors: NDArray[np.float32],
    document_ids: Sequence[str],
    query_ids: Sequence[str],
    *,
    depth: int = DEPTH,
    drop_self: bool = True,
    precision: Precision = "float32",
) -> dict[str, dict[str, float]]:
    """Search all documents for every query.

    Args:
        query_vectors: float32, (Q, D).
        document_vectors: float32, (N, D).
        document_ids: N ids, all different.
        query_ids: Q ids, all different.
        depth: results kept for a query, at most.
        drop_self: leave out the document that has the query's own id, for that query only, as BEIR does.
        precision: of the documents, packed as an index packs them; ``binary+rescore`` scores the best of the bits again
            from float32.

    Returns:
        Query id to document id to inner product, best first. Of equal scores the larger id comes first, also at the
        cut: the run is what trec_eval would keep of a run without one.
    """
    for vectors, ids, what in ((query_vectors, query_ids, "queries"), (document_vectors, document_ids, "documents")):
        if len(vectors) != len(ids):
            raise ShapeMismatch(f"{len(vectors)} vectors of {what} for {len(ids)} ids, expected one each")
    # search_topk gives equal scores in row order, trec_eval ranks them by id, descending. With rows in that order the
    # two agree, and what the cut at `depth` leaves out is what trec_eval would have ranked lower.
    order = descending(document_ids)
    ids = [document_ids[row] for row in order]
    rows_in_order = document_vectors if _is_in_order(order) else document_vectors[order]
    found = _search(query_vectors, rows_in_order, depth + 1 if drop_self else depth, precision)
    run: dict[str, dict[str, float]] = {}
    for query, scores, rows in zip(query_ids, found.scores, found.rows, strict=True):
        hits = {ids[row]: float(score) for row, score in zip(rows, scores, strict=True)}
        if drop_self:
            hits.pop(query, None)
        run[query] = dict(list(hits.items())[:depth])
    return run


def _search(queries: NDArray[np.float32], documents: NDArray[np.float32], k: int, precision: Precision) -> TopK:
    if precision == "float32":
        return search_topk(queries, documents, k)
    if precision == "binary+rescore":
        return search_topk(queries, pack_documents(documents, "binary"), k, rescore=documents)
    return search_topk(queries, pack_documents(documents, precision), k)


def descending(ids: Sequence[str]) -> NDArray[np.int64]:
    """Give the rows of ids in descending order of the ids."""
    return np.array(sorted(range(len(ids)), key=ids.__getitem__, reverse=True), dtype=np.int64)


def _is_in_order(order: NDArray[np.int64]) -> bool:
    return bool((order == np.arange(len(order))).all())
