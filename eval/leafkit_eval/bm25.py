"""BM25 as a baseline: bm25s scores in Lucene's form, Snowball English stems, ranked as every other run."""

from __future__ import annotations

import numpy as np

from leafkit.errors import MissingExtra
from leafkit_eval.collections import Collection
from leafkit_eval.search import DEPTH, descending

K1, B = 1.2, 0.75  # Lucene's defaults


def bm25_run(
    collection: Collection, *, depth: int = DEPTH, drop_self: bool = True, k1: float = K1, b: float = B
) -> dict[str, dict[str, float]]:
    """Rank every document that shares a term with the query.

    Args:
        collection: what to search, and for what.
        depth: results kept for a query, at most.
        drop_self: leave out the document that has the query's own id, as ``search_run`` does.
        k1: how fast a term's repetitions saturate.
        b: how much a long document is held against it.

    Returns:
        Query id to document id to score, best first, equal scores by id, descending. A query whose terms no document
        holds has no results.
    """
    try:
        import bm25s
        import Stemmer
    except ImportError as exc:
        raise MissingExtra("bm25s or PyStemmer", "judge") from exc
    documents = collection.findable
    ids = [documents[row].id for row in descending([row.id for row in documents])]
    text_of = {row.id: row.text for row in documents}
    stem = Stemmer.Stemmer("english")

    def terms(texts: list[str]) -> list[list[str]]:
        words = bm25s.tokenize(texts, stopwords="en", stemmer=stem, return_ids=False, show_progress=False)
        return list(words)

    model = bm25s.BM25(method="lucene", k1=k1, b=b)
    words_of = terms([text_of[name] for name in ids])
    run: dict[str, dict[str, float]] = {query.id: {} for query in collection.queries}
    if not any(words_of):
        return run  # stop words alone: bm25s indexes no such thing
    model.index(words_of, show_progress=False)
    for query, words in zip(collection.queries, terms([row.text for row in collection.queries]), strict=True):
        known = [word for word in words if word in model.vocab_dict]
        scores = model.get_scores(known) if known else np.zeros(len(ids), dtype=np.float32)
        matching = np.flatnonzero(scores > 0)
        best = matching[np.argsort(-scores[matching], kind="stable")[: depth + 1]]  # stable: rows are by id, descending
        hits = {ids[row]: float(scores[row]) for row in best if not (drop_self and ids[row] == query.id)}
        run[query.id] = dict(list(hits.items())[:depth])
    return run
