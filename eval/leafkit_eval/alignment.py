"""How near a leaf is to its teacher beside any judgement: cosines by kind and length, the same neighbours, hubs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.space import KINDS, Kind
from leafkit.store.store import TextLike
from leafkit_eval import statistics
from leafkit_eval.metrics import Run

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
WORDS = (1, 5, 9, 17, 33, 65, 129, 257)  # where a bin of lengths begins
WORST, SHOWN_CHARACTERS = 5, 300
HUB_DEPTH = 10


@dataclass(frozen=True)
class Aligned:
    """The texts of one kind of one collection, and the cosine of each one's two vectors (NaN where one is zero)."""

    dataset: str
    kind: Kind
    texts: Sequence[TextLike]
    cosines: NDArray[np.float64]


def cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give the cosine of every row of one with the same row of the other: (n,)."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return statistics.ratio(np.einsum("nd,nd->n", a, b), norms)


def cosine_report(aligned: Sequence[Aligned]) -> dict[str, Any]:
    """Describe the cosines of each kind: quantiles, the mean by length in words, and the texts farthest apart."""
    return {kind: _of_kind([each for each in aligned if each.kind == kind]) for kind in KINDS}


def _of_kind(aligned: Sequence[Aligned]) -> dict[str, Any]:
    values = np.concatenate([each.cosines for each in aligned])
    places = [(each, number) for each in aligned for number in range(len(each.texts))]
    words = np.array([len(each.texts[number].text.split()) for each, number in places])
    known = np.isfinite(values)
    quantiles = np.quantile(values[known], LEVELS).tolist() if known.any() else []
    by_length = []
    for first, beyond in zip(WORDS, (*WORDS[1:], None), strict=True):
        here = known & (words >= first) & (words < beyond if beyond is not None else True)
        if here.any():
            last = None if beyond is None else beyond - 1
            by_length.append(
                {"words_from": first, "words_to": last, "texts": int(here.sum()), "mean": float(values[here].mean())}
            )
    worst = [int(row) for row in np.argsort(values, kind="stable")[:WORST] if known[row]]
    return {
        "texts": len(values),
        "quantiles": [[level, value] for level, value in zip(LEVELS, quantiles, strict=False)],
        "by_length": by_length,
        "worst": [
            {
                "dataset": places[row][0].dataset,
                "id": places[row][0].texts[places[row][1]].id,
                "text": places[row][0].texts[places[row][1]].text[:SHOWN_CHARACTERS],
                "cosine": float(values[row]),
            }
            for row in worst
        ],
    }


def overlap(run: Run, teacher: Run, k: int) -> float | None:
    """Give the mean share of the teacher's best k documents that are among a run's best k."""
    shares = []
    for query, hits in teacher.items():
        best = set(list(hits)[:k])
        if best:
            shares.append(len(best & set(list(run.get(query, {}))[:k])) / len(best))
    return float(np.mean(shares)) if shares else None


def rank_correlation(
    queries: NDArray[np.float32],
    documents: NDArray[np.float32],
    row_of: Mapping[str, int],
    query_ids: Sequence[str],
    teacher: Run,
) -> float | None:
    """Give the mean over queries of Spearman's correlation of two orders of the teacher's results: its own and ours.

    Args:
        queries: float32, (Q, D), of the encoder that asks.
        documents: float32, (N, D), of the encoder that answers.
        row_of: document id to row.
        query_ids: Q ids.
        teacher: its run, best first; queries with fewer than two results are left out.
    """
    found = []
    for query, vector in zip(query_ids, queries, strict=True):
        rows = [row_of[name] for name in teacher[query]]
        if len(rows) > 1:
            place = np.empty(len(rows))
            place[np.argsort(-(documents[rows] @ vector), kind="stable")] = np.arange(len(rows))
            found.append(np.corrcoef(place, np.arange(len(rows)))[0, 1])
    return float(np.mean(found)) if found else None


def hubness(run: Run, documents: int) -> float | None:
    """Give the skewness of how often a document is among the best ten (Radovanović et al. 2010): 0 without hubs."""
    hits = Counter(name for found in run.values() for name in list(found)[:HUB_DEPTH])
    counts = np.zeros(documents)
    counts[: len(hits)] = list(hits.values())
    deviation = counts.std()
    return float(((counts - counts.mean()) ** 3).mean() / deviation**3) if deviation else None
