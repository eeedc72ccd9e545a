from leafkit_eval import load_collection, write_report
from leafkit_eval.losses import SHOWN_QUERIES, lost_queries
from leafkit_eval.metrics import measure
from leafkit_eval.retrieval import judge_retrieval


def test_the_worst_losses_come_first_with_what_each_system_found(beir):
    documents = {f"d{n}": f"text {n}" for n in range(8)}
    queries = {f"q{n}": f"query {n}" for n in range(8)}
    collection = load_collection(beir(documents, queries, {f"q{n}": {f"d{n}": 2, "d0": 0} for n in range(8)}))
    teacher = {f"q{n}": {f"d{n}": 1.0, "d7" if n != 7 else "d6": 0.5} for n in range(8)}
    leaf = {query: dict(hits) for query, hits in teacher.items()}
    for n in range(1, 7):  # the right document falls to place n
        leaf[f"q{n}"] = {f"d{other}": 1.0 for other in range(8) if other != n}
        leaf[f"q{n}"] = {**dict(list(leaf[f"q{n}"].items())[:n]), f"d{n}": 0.1}
    found = {"teacher": teacher, "asymmetric": leaf}
    lost = lost_queries(collection, found, {mode: measure(collection.qrels, run) for mode, run in found.items()})
    assert [query["id"] for query in lost] == ["q6", "q5", "q4", "q3", "q2"]
    assert len(lost) == SHOWN_QUERIES
    whole, own = lost[0]["systems"]
    assert (whole["mode"], whole["ndcg_at_10"], whole["hits"][0]) == (
        "teacher", 1.0, {"id": "d6", "text": "text 6", "score": 1.0, "grade": 2},
    )  # fmt: skip
    assert [hit["grade"] for hit in own["hits"]] == [0, None, None, None, None]
    assert own["ndcg_at_10"] < 0.4


def test_a_leaf_that_loses_nothing_has_no_such_queries(small, encoder, tmp_path):
    result = judge_retrieval([load_collection(small)], teacher=encoder("t"), student=encoder("s"), out=tmp_path)
    assert result["lost_queries"] == []
    assert "loses most" not in write_report(result, tmp_path).html.read_text()


def test_the_page_folds_lost_queries(small, encoder, tmp_path):
    result = judge_retrieval(
        [load_collection(small)], teacher=encoder("t"), student=encoder("s", blur=9.0), out=tmp_path
    )
    page = write_report(result, tmp_path).html.read_text()
    assert result["lost_queries"]
    assert page.count("<details>") == len(result["lost_queries"])
