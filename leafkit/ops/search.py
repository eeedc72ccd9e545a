"""Exact inner-product search: checks here, arithmetic in ``_C`` or NumPy."""

from __future__ import annotations

from typing import Any, NamedTuple

from leafkit.errors import ShapeMismatch
from leafkit.ops.arrays import as_matrix, is_torch
from leafkit.ops.backend import backend, threads


class TopK(NamedTuple):
    """Scores (float32) and rows (int64), (Q, K), best first; NumPy arrays, or torch tensors if the queries were."""

    scores: Any
    rows: Any


def search_topk(queries: Any, documents: Any, k: int) -> TopK:
    """Find the k documents with the largest inner product for every query, exactly.

    Args:
        queries: float32, (Q, D), row-major: NumPy, torch on the CPU, or DLPack.
        documents: float32, (N, D), row-major; a read-only memory map is read in place.
        k: results per query, at least 1.

    Returns:
        TopK(scores, rows), (Q, K), K = min(k, N), best first. Equal scores come in row order; NaN never ranks above
        a number: -inf stands before it.

    Raises:
        ShapeMismatch: queries and documents differ in D, or one is not a matrix.
        ValueError: k is below 1.
        TypeError: one is not float32.

    The float64 definition is ``tests/reference.py::search_topk``.
    """
    q, d = as_matrix(queries, "queries"), as_matrix(documents, "documents")
    if q.shape[1] != d.shape[1]:
        raise ShapeMismatch(
            f"queries have dim {q.shape[1]}, documents have dim {d.shape[1]}: encode both in one space or at one prefix"
        )
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    scores, rows = backend().search_topk(q, d, min(k, max(len(d), 1)), threads())
    if is_torch(queries):
        import torch

        return TopK(torch.from_numpy(scores), torch.from_numpy(rows))
    return TopK(scores, rows)
