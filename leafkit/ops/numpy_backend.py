"""The operations in NumPy, with the native contract: what answers where nothing was compiled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leafkit.ops.numpy_losses import (
    alignment_loss,
    contrastive_loss,
    listwise_kl_loss,
    relational_loss,
    relative_hinge,
)

__all__ = [
    "alignment_loss",
    "contrastive_loss",
    "listwise_kl_loss",
    "pack_documents",
    "relational_loss",
    "relative_hinge",
    "search_topk",
]

BLOCK_ROWS = 4096  # documents scored at once: 4 MiB of scores with 256 queries
BLOCK_QUERIES = 256


@dataclass(frozen=True)
class Codes:
    """Documents at a precision, row-major: what the codes stand for, in float32."""

    type: str
    values: NDArray[np.float32]
    dim_scale: NDArray[np.float32] | None

    @property
    def count(self) -> int:
        """How many documents."""
        return len(self.values)

    @property
    def dim(self) -> int:
        """Their width."""
        return int(self.values.shape[1])

    @property
    def nbytes(self) -> int:
        """Memory in bytes: float32, whatever the precision."""
        return int(self.values.nbytes)


def pack_documents(
    documents: NDArray[np.float32] | None,
    type: str,
    dim_scale: NDArray[np.float32] | None,
    threads: int = 0,
    halves: NDArray[np.uint16] | None = None,
    halves_type: str = "bfloat16",
) -> Codes:
    """Round the documents to a precision. ``threads`` has no use here."""
    rows = _widened(halves, halves_type) if documents is None and halves is not None else documents
    assert rows is not None
    return Codes(type, _rounded(rows, type, dim_scale), dim_scale)


def _rounded(values: NDArray[np.float32], type: str, dim_scale: NDArray[np.float32] | None) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore", over="ignore"):
        if type == "bfloat16":
            bits = np.ascontiguousarray(values).view(np.uint32)
            nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
            return np.where(np.isnan(values), values, nearest.view(np.float32)).astype(np.float32)
        if type == "float16":
            return values.astype(np.float16).astype(np.float32)
        if type == "int8":
            scale = (
                np.abs(values).max(axis=1, keepdims=True, initial=0) / np.float32(127)
                if dim_scale is None
                else dim_scale
            )
            scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1).astype(np.float32)
            steps = np.clip(np.nan_to_num(values / scale, nan=0.0), -127, 127)
            stands_for: NDArray[np.float32] = np.rint(steps) * scale
            return stands_for
        if type == "binary":
            return np.where(values > 0, 1, -1).astype(np.float32)
    return values


def search_topk(
    queries: NDArray[np.float32],
    documents: NDArray[np.float32] | None,
    packed: Codes | None,
    k: int,
    answer: str,
    overfetch: int = 1,
    allowed: NDArray[np.uint64] | None = None,
    threads: int = 0,
    halves: NDArray[np.uint16] | None = None,
    halves_type: str = "bfloat16",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Best k rows of every query in blocks, in float64; never the whole (Q, N) matrix. ``threads`` has no use here."""
    rows = documents if answer == "exact" or packed is None else packed.values
    assert rows is not None
    asked = queries if answer == "exact" or packed is None else _as_codes(queries, packed)
    kept = min(k * overfetch if answer == "rescored" else k, len(rows))
    slack = _uncertainty(asked, rows) if answer == "exact" else None
    found = min(k, len(rows))
    scores = np.empty((len(queries), found), dtype=np.float32)
    numbers = np.empty((len(queries), found), dtype=np.int64)
    for first in range(0, len(queries), BLOCK_QUERIES):
        part = slice(first, first + BLOCK_QUERIES)
        mask = None if allowed is None else allowed[part] if len(allowed) > 1 else allowed
        if slack is not None:
            best, at = _search_exactly(asked[part], rows, kept, mask, slack[part])
        else:
            best, at = _search_block(asked[part], rows, kept, mask)
        if answer == "rescored":
            again = np.stack(
                [
                    _exact_scores(q, _rows(documents, halves, halves_type, r))
                    for q, r in zip(queries[part], at, strict=True)
                ]
            )
            best, at = _ranked(np.where(at < 0, -np.inf, again), at)
        scores[part], numbers[part] = best[:, :found], at[:, :found]
    return scores, numbers


def _as_codes(queries: NDArray[np.float32], packed: Codes) -> NDArray[np.float32]:
    """Queries at the precision that the codes are compared with; float16 codes meet float32 queries."""
    if packed.type == "float16":
        return queries
    if packed.dim_scale is None:
        return _rounded(queries, packed.type, None)
    return _rounded(queries * packed.dim_scale, "int8", None) / packed.dim_scale


def _scores(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", over="ignore"):
        # einsum and not BLAS: a row's score must not depend on where it lies in a block
        scores: NDArray[np.float64] = np.einsum("qd,nd->qn", queries.astype(np.float64), rows.astype(np.float64))
    return scores


def _uncertainty(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """At most so far is a float64 score of a query from the exact one; infinite where a row is."""
    with np.errstate(invalid="ignore", over="ignore"):
        longest = max((float(np.linalg.norm(rows[i : i + BLOCK_ROWS].astype(np.float64), axis=1).max())
                       for i in range(0, len(rows), BLOCK_ROWS)), default=0.0)  # fmt: skip
        length = np.linalg.norm(queries.astype(np.float64), axis=1) * longest
        most: NDArray[np.float64] = np.nan_to_num((rows.shape[1] + 4) * 2.0**-52 * length, nan=np.inf)
    return most


def _exact_scores(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Inner products rounded once; what is not finite is what float64 arithmetic makes of it."""
    with np.errstate(invalid="ignore", over="ignore"):
        products = query.astype(np.float64) * rows.astype(np.float64)
        sums = products.sum(axis=1)
    return np.array(
        [math.fsum(each) if np.isfinite(total) else total for each, total in zip(products, sums, strict=True)]
    )


def _search_exactly(
    queries: NDArray[np.float32],
    documents: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.uint64] | None,
    slack: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The best by float64 scores, and whatever may stand before the last of them, scored exactly."""
    found, at = np.full((len(queries), k), -np.inf), np.full((len(queries), k), -1, np.int64)
    if k == 0:
        return found, at
    approximate, _ = _search_block(queries, documents, k, allowed)
    for q, query in enumerate(queries):
        least = approximate[q, -1]
        near: list[NDArray[np.int64]] = []
        for first in range(0, len(documents), BLOCK_ROWS):
            scores = _scores(query[None], documents[first : first + BLOCK_ROWS])[0]
            with np.errstate(invalid="ignore"):
                hopeless = scores < least - 2 * slack[q]  # false where one is NaN
            near.append(np.flatnonzero(~hopeless) + first)
        rows = np.concatenate(near)
        if allowed is not None:
            bits = np.unpackbits(allowed[q if len(allowed) > 1 else 0].view(np.uint8), bitorder="little")
            rows = rows[bits[rows].astype(bool)]
        best, numbers = _ranked(_exact_scores(query, documents[rows])[None], rows[None])
        count = min(k, len(rows))
        found[q, :count], at[q, :count] = best[0, :count], numbers[0, :count]
    return found, at


def _rows(
    documents: NDArray[np.float32] | None, halves: NDArray[np.uint16] | None, halves_type: str, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    if documents is not None:
        return documents[rows]
    assert halves is not None
    return _widened(halves[rows], halves_type)


def _widened(halves: NDArray[np.uint16], type: str) -> NDArray[np.float32]:
    if type == "float16":
        return halves.view(np.float16).astype(np.float32)
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _ranked(scores: NDArray[np.float64], rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows that are not there (-1) last, NaN before them, then by falling score; equal scores by row."""
    order = np.lexsort((rows, -scores, np.isnan(scores), rows < 0), axis=1)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def _search_block(
    queries: NDArray[np.float32], documents: NDArray[np.float32], k: int, allowed: NDArray[np.uint64] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    best = np.full((len(queries), k), -np.inf)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    bits = None
    if allowed is not None:
        bits = np.unpackbits(allowed.view(np.uint8), axis=1, bitorder="little")[:, : len(documents)].astype(bool)
    for first in range(0, len(documents), BLOCK_ROWS):
        block = documents[first : first + BLOCK_ROWS]
        scores = _scores(queries, block)
        numbers = np.broadcast_to(np.arange(first, first + len(block)), scores.shape)
        if bits is not None:
            there = np.broadcast_to(bits[:, first : first + len(block)], scores.shape)
            scores, numbers = np.where(there, scores, -np.inf), np.where(there, numbers, -1)
        best, rows = _ranked(np.concatenate([best, scores], axis=1), np.concatenate([rows, numbers], axis=1))
        best, rows = best[:, :k], rows[:, :k]
    return best, rows
