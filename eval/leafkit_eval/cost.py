"""What an encoder costs: its size, and the time of one query at a time. Measured, so no two reports have the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from leafkit.teachers import Teacher

TIMED, WARM = 50, 3


def query_cost(encoder: Teacher, queries: Sequence[str]) -> dict[str, Any]:
    """Embed queries one by one.

    Args:
        encoder: whose cost.
        queries: at least one; the first fifty are timed, after three that are not.

    Returns:
        ``parameters`` (None where the encoder does not tell), ``query_p50_ms`` and ``query_p95_ms``.
    """
    chosen = list(queries[:TIMED])
    for query in chosen[:WARM]:
        encoder.encode([query], "query")
    times = []
    for query in chosen:
        began = time.perf_counter()
        encoder.encode([query], "query")
        times.append(1e3 * (time.perf_counter() - began))
    model = getattr(encoder, "model", None)
    return {
        "parameters": None if model is None else sum(parameter.numel() for parameter in model.parameters()),
        "query_p50_ms": round(float(np.median(times)), 4),
        "query_p95_ms": round(float(np.quantile(times, 0.95)), 4),
    }
