import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafkit.errors import ShapeMismatch
from leafkit_eval.collections import load_collection
from leafkit_eval.metrics import measure, rank
from leafkit_eval.search import search_run


def vectors_with_scores(scores):
    """Queries and documents whose inner products are the given matrix."""
    return np.asarray(scores, dtype=np.float32), np.eye(len(scores[0]), dtype=np.float32)


@st.composite
def searches(draw):
    ids = draw(st.lists(st.text("0129aZé", min_size=1, max_size=3), min_size=1, max_size=24, unique=True))
    queries = draw(st.integers(1, 4))
    score = st.integers(-2, 2)  # few values: ties everywhere, also at the cut
    row = st.lists(score, min_size=len(ids), max_size=len(ids))
    return ids, draw(st.lists(row, min_size=queries, max_size=queries)), draw(st.integers(1, 26))


@given(case=searches())
def test_what_is_cut_is_what_trec_eval_ranks_lower(case):
    ids, scores, depth = case
    queries = [f"query {number}" for number in range(len(scores))]
    run = search_run(*vectors_with_scores(scores), ids, queries, depth=depth)
    for query, row in zip(queries, scores, strict=True):
        whole = dict(zip(ids, row, strict=True))
        assert list(run[query]) == rank(whole)[:depth]
        assert run[query] == {name: whole[name] for name in run[query]}


@given(case=searches())
def test_a_dropped_self_hit_leaves_the_depth_full(case):
    ids, scores, depth = case
    run = search_run(*vectors_with_scores(scores[:1]), ids, ids[:1], depth=depth)
    assert (
        list(run[ids[0]]) == [name for name in rank(dict(zip(ids, scores[0], strict=True))) if name != ids[0]][:depth]
    )


def test_a_query_that_is_a_document_is_dropped_for_itself_only(cases):  # case 19
    folder = cases / "19-query-that-is-also-a-document"
    expected = json.loads((folder / "expected.json").read_text())
    collection = load_collection(folder / "beir")
    documents, queries = ["a1", "b", "c", "e"], ["a1", "q2"]
    assert [row.id for row in collection.documents] == documents
    assert collection.shared_ids == ("a1",)
    scores = {query: {} for query in queries}
    for line in (folder / "run.trec").read_text().splitlines():
        query, _, document, _, score, _ = line.split()
        scores[query][document] = float(score)
    vectors = vectors_with_scores([[scores[query][name] for name in documents] for query in queries])
    run = search_run(*vectors, documents, queries)
    assert "a1" not in run["a1"]
    assert "a1" in run["q2"]
    measures = measure(collection.qrels, run)
    assert dict(zip(measures.query_ids, measures.per_query["ndcg_at_10"], strict=True)) == pytest.approx(
        expected["ndcg_at_10"], abs=1e-5
    )
    assert measures.means["ndcg_at_10"] == pytest.approx(expected["mean"], abs=1e-5)
    kept = measure(collection.qrels, search_run(*vectors, documents, queries, drop_self=False))
    assert kept.means["ndcg_at_10"] == pytest.approx(expected["wrong_when_the_self_hit_stays"], abs=1e-5)


def test_ids_and_vectors_that_differ_in_number_are_refused():
    queries, documents = vectors_with_scores([[1.0, 2.0]])
    with pytest.raises(ShapeMismatch, match="2 vectors of documents for 1 ids"):
        search_run(queries, documents, ["a"], ["q"])
