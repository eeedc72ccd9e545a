"""The operations in NumPy, with the native contract: what answers where nothing was compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 4096  # documents scored at once: 4 MiB of scores with 256 queries
BLOCK_QUERIES = 256


def search_topk(
    queries: NDArray[np.float32], documents: NDArray[np.float32], k: int, threads: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Best k rows of every query in blocks; never the whole (Q, N) matrix. ``threads`` is the BLAS's own affair."""
    found = min(k, len(documents))
    scores = np.empty((len(queries), found), dtype=np.float32)
    rows = np.empty((len(queries), found), dtype=np.int64)
    for first in range(0, len(queries), BLOCK_QUERIES):
        part = slice(first, first + BLOCK_QUERIES)
        scores[part], rows[part] = _search_block(queries[part], documents, found)
    return scores, rows


def _search_block(
    queries: NDArray[np.float32], documents: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    best = np.empty((len(queries), 0), dtype=np.float32)
    rows = np.empty((len(queries), 0), dtype=np.int64)
    for first in range(0, len(documents), BLOCK_ROWS):
        block = documents[first : first + BLOCK_ROWS]
        with np.errstate(invalid="ignore", over="ignore"):
            # einsum and not BLAS: a row's score must not depend on where it lies in a block
            scores = np.einsum("qd,nd->qn", queries, block)
        numbers = np.broadcast_to(np.arange(first, first + len(block)), scores.shape)
        best = np.concatenate([best, scores], axis=1)
        rows = np.concatenate([rows, numbers], axis=1)
        # NaN last, then by falling score; equal scores keep their order, which is that of rows
        order = np.lexsort((rows, -best, np.isnan(best)), axis=1)[:, :k]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return best, rows


def alignment_loss(
    student: NDArray[np.float32], teacher: NDArray[np.float32], metric: str, threads: int = 0
) -> tuple[float, NDArray[np.float32]]:
    """Value and gradient in float64, the gradient rounded once."""
    a, b = student.astype(np.float64), teacher.astype(np.float64)
    count = len(a)
    if metric == "squared_l2":
        return float(((a - b) ** 2).sum() / count), (2 * (a - b) / count).astype(np.float32)
    if metric == "l2":
        norms = np.linalg.norm(a - b, axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            gradient = np.where(norms == 0, 0.0, (a - b) / norms) / count
        return float(norms.sum() / count), gradient.astype(np.float32)
    norm_a, norm_b = (np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    zero = (norm_a == 0) | (norm_b == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where(zero, 0.0, (a * b).sum(axis=1, keepdims=True) / (norm_a * norm_b))
        gradient = np.where(zero, 0.0, (cosine * a / norm_a**2 - b / (norm_a * norm_b)) / count)
    return float((1 - cosine).sum() / count), gradient.astype(np.float32)
