"""nDCG@10, recall@100 and MRR@10 of a run, from one ranking in trec_eval's order. Knows ids and scores, no texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import InputError, MissingExtra

Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Mapping[str, float]]

METRICS = ("ndcg_at_10", "recall_at_100", "mrr_at_10")
_NAMES_IN_TREC_EVAL = {"ndcg_at_10": "ndcg_cut_10", "recall_at_100": "recall_100", "mrr_at_10": "recip_rank"}


@dataclass(frozen=True)
class Measures:
    """What a run is worth, query by query.

    Attributes:
        query_ids: every judged query, in the order of the judgements; each counts in the means.
        per_query: metric name to float64, (Q,).
        unanswered: judged queries without a result in the run; they count 0.
        without_relevant: queries judged only 0 or below; they count 0.
        unjudged: queries of the run that nobody judged; they are left out.
    """

    query_ids: tuple[str, ...]
    per_query: Mapping[str, NDArray[np.float64]]
    unanswered: int
    without_relevant: int
    unjudged: int

    @cached_property
    def means(self) -> dict[str, float]:
        """Mean of each metric over the judged queries."""
        return {name: float(values.mean()) for name, values in self.per_query.items()}


def measure(qrels: Qrels, run: Run) -> Measures:
    """Compute every metric of a run with pytrec_eval.

    Args:
        qrels: query id to document id to grade.
        run: query id to document id to score; larger is better, the order of entries does not matter.

    Raises:
        InputError: there are no judgements, or a score is NaN; names the query and document.
    """
    if not qrels:
        raise InputError("no judgements: nothing can be measured")
    # Two habits of pytrec_eval-terrier 0.5.11 stop here. It reads scores in single precision, so that different ones
    # may become ties: it gets ranks for scores (whole numbers are exact up to 2^24). And it drops a query that the
    # run lacks: only answered ones go in, the others keep their 0.
    ranked = {query: rank(run[query], query) for query in qrels if run.get(query)}
    ranks = {query: {name: float(-place) for place, name in enumerate(order)} for query, order in ranked.items()}
    found = _evaluator(qrels).evaluate(ranks) if ranks else {}
    values = {name: np.zeros(len(qrels)) for name in METRICS}
    for place, query in enumerate(qrels):
        for name in METRICS:
            values[name][place] = found[query][_NAMES_IN_TREC_EVAL[name]] if query in found else 0.0
    values["mrr_at_10"][values["mrr_at_10"] < 1 / 10] = 0.0  # trec_eval has no cut for the reciprocal rank
    return Measures(
        query_ids=tuple(qrels),
        per_query=values,
        unanswered=len(qrels) - len(ranked),
        without_relevant=sum(all(grade <= 0 for grade in grades.values()) for grades in qrels.values()),
        unjudged=sum(query not in qrels for query in run),
    )


def rank(scores: Mapping[str, float], query: str = "") -> list[str]:
    """Order document ids as trec_eval does: by score, equal scores by id, both descending.

    Raises:
        InputError: a score is NaN, which has no place in an order.
    """
    for document, score in scores.items():
        if math.isnan(score):
            raise InputError(f"query {query!r}, document {document!r}: the score is NaN, expected a number")
    return sorted(scores, key=lambda document: (scores[document], document), reverse=True)


def _evaluator(qrels: Qrels) -> Any:
    try:
        import pytrec_eval
    except ImportError as exc:
        raise MissingExtra("pytrec-eval-terrier", "judge") from exc
    plain = {query: dict(grades) for query, grades in qrels.items()}
    return pytrec_eval.RelevanceEvaluator(plain, {"ndcg_cut.10", "recall.100", "recip_rank"})
