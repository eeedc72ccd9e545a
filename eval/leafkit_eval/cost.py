"""What an encoder costs: its size, the time of a query alone, documents a second. Measured: no two reports agree."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from leafkit.space import Kind
from leafkit.teachers import Teacher

TIMED, WARM = 50, 3
DOCUMENTS = 64  # one call, as a corpus is embedded


def encoder_cost(encoder: Teacher, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
    """Embed queries one by one, and documents together.

    Args:
        encoder: whose cost.
        queries: at least one; the first fifty are timed, after three that are not.
        documents: at least one; the first 64 are embedded in one call.

    Returns:
        ``parameters`` and ``weight_bytes`` as loaded (None where the encoder does not tell), ``query_p50_ms``,
        ``query_p95_ms`` and ``documents_per_s``.
    """
    chosen = list(queries[:TIMED])
    for query in chosen[:WARM]:
        encoder.encode([query], "query")
    times = [1e3 * _seconds(encoder, [query], "query") for query in chosen]
    batch = list(documents[:DOCUMENTS])
    model = getattr(encoder, "model", None)
    weights = None if model is None else list(model.parameters())
    return {
        "parameters": None if weights is None else sum(weight.numel() for weight in weights),
        "weight_bytes": None if weights is None else sum(weight.numel() * weight.element_size() for weight in weights),
        "query_p50_ms": round(float(np.median(times)), 4),
        "query_p95_ms": round(float(np.quantile(times, 0.95)), 4),
        "documents_per_s": round(len(batch) / max(_seconds(encoder, batch, "document"), 1e-9), 2),
    }


def _seconds(encoder: Teacher, texts: list[str], kind: Kind) -> float:
    began = time.perf_counter()
    encoder.encode(texts, kind)
    return time.perf_counter() - began
