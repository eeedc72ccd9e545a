"""The queries that a leaf loses most on, with what each system found: a report's way from a figure to texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from leafkit_eval.collections import Collection
from leafkit_eval.metrics import Measures, Run

SHOWN_QUERIES, SHOWN_HITS, SHOWN_CHARACTERS = 5, 5, 240


def lost_queries(
    collection: Collection, found: Mapping[Any, Run], measures: Mapping[Any, Measures], *, system: str = "asymmetric"
) -> list[dict[str, Any]]:
    """Give a collection's queries whose nDCG@10 falls most from the teacher's to a system's, worst first.

    Args:
        collection: judged on.
        found: system to run, best first.
        measures: system to what its run is worth.
        system: whose losses.

    Returns:
        At most five, each with the best five documents of every system, their beginnings and grades (None: not
        judged). A query that loses nothing is not among them.
    """
    lost = measures["teacher"].per_query["ndcg_at_10"] - measures[system].per_query["ndcg_at_10"]
    worst = [int(place) for place in np.argsort(-lost, kind="stable")[:SHOWN_QUERIES] if lost[place] > 0]
    texts = {row.id: row.text for row in collection.documents} if worst else {}
    shown = []
    for place in worst:
        query = collection.queries[place]
        grades = collection.qrels[query.id]
        systems = [
            {
                "mode": mode,
                "ndcg_at_10": float(measures[mode].per_query["ndcg_at_10"][place]),
                "hits": [
                    {"id": name, "text": _beginning(texts[name]), "score": score, "grade": grades.get(name)}
                    for name, score in list(run.get(query.id, {}).items())[:SHOWN_HITS]
                ],
            }
            for mode, run in found.items()
        ]
        shown.append(
            {"dataset": collection.name, "split": collection.split, "id": query.id, "query": query.text,
             "systems": systems}
        )  # fmt: skip
    return shown


def _beginning(text: str) -> str:
    return " ".join(text.split())[:SHOWN_CHARACTERS]
