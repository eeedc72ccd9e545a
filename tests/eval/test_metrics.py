import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafkit.errors import InputError
from leafkit_eval import load_collection
from leafkit_eval.metrics import METRICS, measure, rank


def read_run(file):
    run = {}
    for line in file.read_text().splitlines():
        query, _, document, _, score, _ = line.split()
        run.setdefault(query, {})[document] = float(score)
    return run


def read_tsv(file):
    qrels = {}
    for line in file.read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    return qrels


def per_query(measures, metric):
    return dict(zip(measures.query_ids, measures.per_query[metric], strict=True))


def plain_metrics(grades, scores):
    """The definitions, one query: gain = grade, discount = log2(rank + 1)."""
    order = sorted(sorted(scores, reverse=True), key=lambda document: -scores[document])
    gains = [max(grades.get(document, 0), 0) for document in order]
    ideal = sorted((max(grade, 0) for grade in grades.values()), reverse=True)
    relevant = sum(grade > 0 for grade in grades.values())

    def dcg(values):
        return sum(value / math.log2(place + 2) for place, value in enumerate(values[:10]))

    first = next((place for place, gain in enumerate(gains[:10], start=1) if gain > 0), None)
    return {
        "ndcg_at_10": dcg(gains) / dcg(ideal) if relevant else 0.0,
        "recall_at_100": sum(gain > 0 for gain in gains[:100]) / relevant if relevant else 0.0,
        "mrr_at_10": 0.0 if first is None else 1 / first,
    }


IDS = st.sampled_from([*(str(n) for n in range(130)), "é", "z", "Z", "日本"])
# 0.5 and its neighbours are one number in single precision and three in double.
SCORES = st.sampled_from([0.5, 0.5 + 1e-12, 0.5 - 1e-12, 0.25, 0.0, -1.0, 3e38, math.inf, -math.inf])
QUERIES = st.sampled_from(["q1", "q2", "q3", "q4"])


@given(
    qrels=st.dictionaries(QUERIES, st.dictionaries(IDS, st.integers(-1, 4), min_size=1), min_size=1),
    run=st.dictionaries(QUERIES, st.dictionaries(IDS, SCORES, max_size=130)),
)
def test_every_metric_is_the_plain_definition_over_one_ranking(qrels, run):
    measures = measure(qrels, run)
    assert measures.query_ids == tuple(qrels)
    for metric in METRICS:
        expected = {query: plain_metrics(qrels[query], run.get(query, {}))[metric] for query in qrels}
        assert per_query(measures, metric) == pytest.approx(expected, abs=1e-9)
        assert measures.means[metric] == pytest.approx(sum(expected.values()) / len(expected), abs=1e-9)


def test_a_relevant_document_past_rank_10_has_no_reciprocal_rank_and_rank_10_has():
    for place, expected in ((10, 0.1), (11, 0.0)):
        run = {"q": {f"d{n:02}": float(-n) for n in range(1, 30)}}
        assert measure({"q": {f"d{place:02}": 1}}, run).means["mrr_at_10"] == expected


def test_the_order_of_a_runs_lines_does_not_matter(cases):  # case 20
    folder = cases / "20-ties-in-a-run"
    expected = json.loads((folder / "expected.json").read_text())
    qrels, run = read_tsv(folder / "qrels.tsv"), read_run(folder / "run.trec")
    backwards = {query: dict(reversed(hits.items())) for query, hits in reversed(run.items())}
    for each in (run, backwards):
        measures = measure(qrels, each)
        for metric in ("ndcg_at_10", "mrr_at_10"):
            assert per_query(measures, metric) == pytest.approx(expected[metric], abs=1e-5)
            assert measures.means[metric] == pytest.approx(expected[f"mean_{metric}"], abs=1e-5)


def test_queries_without_results_or_relevant_documents_count_zero_and_are_told(cases):  # case 21
    folder = cases / "21-unanswered-and-zero-judged"
    expected = json.loads((folder / "expected.json").read_text())
    measures = measure(read_tsv(folder / "qrels.tsv"), read_run(folder / "run.trec"))
    assert per_query(measures, "ndcg_at_10") == pytest.approx(expected["ndcg_at_10"], abs=1e-6)
    assert measures.means["ndcg_at_10"] == pytest.approx(expected["mean_ndcg_at_10"], abs=1e-6)
    assert len(measures.query_ids) == expected["queries_averaged"]
    assert (measures.unanswered, measures.without_relevant, measures.unjudged) == (1, 1, 1)


def test_a_query_with_an_empty_result_counts_as_unanswered():
    measures = measure({"q1": {"a": 1}, "q2": {"a": 1}}, {"q1": {"a": 1.0}, "q2": {}})
    assert (measures.means["ndcg_at_10"], measures.unanswered) == (0.5, 1)


def test_a_run_without_any_judged_query_is_worth_nothing():
    measures = measure({"q1": {"a": 1}}, {})
    assert measures.means == dict.fromkeys(METRICS, 0.0)


def test_equal_scores_are_ranked_by_id_as_strings_descending():
    assert rank({"10": 1.0, "9": 1.0, "2": 2.0, "é": 1.0}) == ["2", "é", "9", "10"]


MISFITS = [
    ({}, {"q": {"a": 1.0}}, "no judgements"),
    ({"q": {"a": 1}}, {"q": {"b": 1.0, "a": math.nan}}, "query 'q', document 'a': the score is NaN"),
]


@pytest.mark.parametrize(("qrels", "run", "message"), MISFITS)
def test_what_cannot_be_measured_is_named(qrels, run, message):
    with pytest.raises(InputError, match=message):
        measure(qrels, run)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what beir imports
def test_scores_are_beirs_own(data):
    """beir rounds to five digits, and averages over the queries of the run: here all are answered."""
    evaluation = pytest.importorskip("beir.retrieval.evaluation", reason="beir is not installed (extra: eval)")
    random = np.random.default_rng(0)
    collection = load_collection(data / "retrieval" / "covid-faq")
    ids = [row.id for row in collection.documents]
    run = {}
    for query in collection.qrels:
        best = random.permutation(len(ids))[:100]
        run[query] = {ids[row]: float(score) for row, score in zip(best, random.integers(0, 40, 100), strict=True)}
        run[query][query] = 99.0  # a document of the query's id: beir drops it
    kept = {query: {name: score for name, score in hits.items() if name != query} for query, hits in run.items()}
    ndcg, _, recall, _ = evaluation.EvaluateRetrieval.evaluate(dict(collection.qrels), run, [10, 100])
    means = measure(collection.qrels, kept).means
    assert means["ndcg_at_10"] == pytest.approx(ndcg["NDCG@10"], abs=5.1e-6)
    assert means["recall_at_100"] == pytest.approx(recall["Recall@100"], abs=5.1e-6)
    assert 0.01 < means["ndcg_at_10"] < 0.5
