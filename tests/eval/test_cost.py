import json
import time

import jsonschema

from leafkit_eval import load_collection, write_report
from leafkit_eval.cost import DOCUMENTS, TIMED, WARM, encoder_cost
from leafkit_eval.report import schema
from leafkit_eval.report.plots import cost_plot
from leafkit_eval.retrieval import judge_retrieval


class Slow:
    def __init__(self, seconds):
        self.seconds, self.asked = seconds, []

    def encode(self, texts, kind):
        self.asked.append((*texts, kind))
        time.sleep(self.seconds)


def test_queries_are_timed_one_by_one_after_a_few_that_are_not_and_documents_together():
    encoder = Slow(0.002)
    documents = [f"d{n}" for n in range(100)]
    cost = encoder_cost(encoder, [f"q{n}" for n in range(200)], documents)
    *alone, together = encoder.asked
    assert alone == [(f"q{n}", "query") for n in (*range(WARM), *range(TIMED))]
    assert together == (*documents[:DOCUMENTS], "document")
    assert 2.0 <= cost["query_p50_ms"] <= cost["query_p95_ms"]
    assert 0 < cost["documents_per_s"] <= DOCUMENTS / 0.002
    assert cost["parameters"] is cost["weight_bytes"] is None


def test_the_page_plots_quality_over_cost(small, encoder, tmp_path):
    result = judge_retrieval(
        [load_collection(small)], teacher=encoder("t"), student=encoder("s", blur=1.5), out=tmp_path, timed=True
    )
    result["cost"]["teacher"]["query_p50_ms"], result["cost"]["student"]["query_p50_ms"] = 20.0, 2.0
    for mode, score in (("teacher", 0.9), ("symmetric", 0.6), ("asymmetric", 0.8)):
        result["summary"]["modes"][mode]["ndcg_at_10"] = score
    plot = cost_plot(result)
    places = {point.mode: point.x for point in plot.points}
    assert places["teacher"] > places["symmetric"] == places["asymmetric"]
    assert [label for _, label in plot.x_ticks] == ["1 ms", "10 ms", "100 ms"]
    assert all(0 <= point.y <= plot.height for point in plot.points)
    of = {point.mode: (point.x, point.y) for point in plot.points}
    assert plot.front == [(*of["asymmetric"], *of["teacher"])]  # the other way is no quicker and worse
    files = write_report(result, tmp_path)
    jsonschema.Draft202012Validator(schema()).validate(json.loads(files.json.read_text()))
    assert "What a query costs" in files.html.read_text()


def test_without_it_there_is_no_such_part(small, encoder, tmp_path):
    result = judge_retrieval([load_collection(small)], teacher=encoder("t"), student=encoder("s"), out=tmp_path)
    assert result["cost"] == {}
    assert "What a query costs" not in write_report(result, tmp_path).html.read_text()
