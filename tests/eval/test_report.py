import copy
import json
import re

import pytest

from leafkit_eval.collections import load_collection
from leafkit_eval.report import schema, write_report
from leafkit_eval.report.page import headline
from leafkit_eval.report.plots import axis, plots
from leafkit_eval.report.words import count
from leafkit_eval.retrieval import judge_retrieval

TABLE = {
    "title": "What a query costs",
    "columns": ["System", "ms"],
    "rows": [["<b>static</b>", 0.0213], ["none", None]],
}
EXAMPLE = {
    "query": "what is <script>alert(1)</script>",
    "systems": [{"name": "BM25", "hits": [{"id": "a", "text": "red & clay", "score": 0.5, "relevant": True}]}],
}


@pytest.fixture
def result(small, encoder, tmp_path):
    judged = judge_retrieval(
        [load_collection(small)],
        teacher=encoder("t"),
        student=encoder("s", blur=1.5),
        student_name="leaf & co",
        out=tmp_path,
        bm25=True,
        command="leafkit eval retrieval --data small",
    )
    judged["extra_tables"].append(TABLE)
    judged["examples"].append(EXAMPLE)
    return judged


def test_report_json_fits_its_schema(result, tmp_path):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    written = json.loads(write_report(result, tmp_path).json.read_text())
    assert list(validator.iter_errors(written)) == []
    for broken in ({**written, "version": 1}, {**written, "new": 1}, {**written, "results": [{"mode": "teacher"}]}):
        assert list(validator.iter_errors(broken))


def test_the_schema_names_every_field_that_is_written(result):
    properties = schema()["properties"]
    assert set(result) == set(properties) == set(schema()["required"])
    row = properties["results"]["items"]["properties"]
    assert all(set(each) == set(row) for each in result["results"])


def test_the_page_needs_nothing_from_outside(result, tmp_path):
    page = write_report(result, tmp_path).html.read_text()
    assert not re.search(r"https?:|//\w|\bsrc=|\bhref=|@import|url\(|<script[^>]|<link|<iframe", page)


def test_texts_are_shown_as_they_are(result, tmp_path):
    page = write_report(result, tmp_path).html.read_text()
    for shown in ("leaf &amp; co", "&lt;script&gt;", "&lt;b&gt;static&lt;/b&gt;", "red &amp; clay", "0.0213"):
        assert shown in page


def test_the_first_sentence_says_what_is_kept(result):
    modes = result["summary"]["modes"]
    modes["asymmetric"] |= {"mean_share_of_teacher": 0.9312, "mean_share_interval": [0.9204, 0.942]}
    modes["symmetric"] |= {"mean_share_of_teacher": 0.5, "mean_share_interval": None}
    said = headline(result).replace("\u00a0", " ")
    assert said == (
        "The leaf keeps 93.1 % [92.0, 94.2] of the teacher's nDCG@10 when it embeds the queries and the documents stay"
        " as the teacher embedded them, and 50.0 % when it embeds both (3 queries)."
    )


def test_a_report_without_any_share_is_written_too(beir, encoder, tmp_path):
    documents = {"right": "chalk"} | {f"d{n:02}": "slate" for n in range(12)}
    collection = load_collection(beir(documents, {"q": "slate"}, {"q": {"right": 1}}))
    judged = judge_retrieval([collection], teacher=encoder("t"), student=encoder("s"), out=tmp_path)
    assert "no share of it can be given" in write_report(judged, tmp_path).html.read_text()


def test_a_number_that_json_lacks_is_refused_and_the_old_report_stays(result, tmp_path):
    files = write_report(result, tmp_path)
    before = files.json.read_bytes(), files.html.read_bytes()
    broken = copy.deepcopy(result)
    broken["results"][0]["ndcg_at_10"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(broken, tmp_path)
    assert (files.json.read_bytes(), files.html.read_bytes()) == before


def test_every_row_has_a_mark_inside_the_plot(result):
    shares, scores = plots(result)
    assert [mark.mode for mark in shares.marks] == ["bm25", "symmetric", "asymmetric"]
    assert len(scores.marks) == len(result["results"])
    for plot in (shares, scores):
        for mark in plot.marks:
            assert 0 <= mark.ends[0] <= mark.x <= mark.ends[1] <= 100
            assert 0 <= mark.y <= plot.height


@pytest.mark.parametrize("values", [[0.5], [0.0, 1.0], [0.93, 1.0], [0.2, 3.7], [0.0, 0.0], [1.0, 900.0]])
def test_an_axis_holds_its_values_with_few_ticks(values):
    low, high, step = axis(values)
    assert low <= min(values) + 1e-9
    assert high >= max(values) - 1e-9
    assert 1 <= round((high - low) / step) <= 7


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "–"), ("text", "text"), (22713216, "22,713,216"), (41000.5, "41,000"), (8.314, "8.31"), (0.0213, "0.0213")],
)
def test_table_cells_are_written_for_reading(value, told):
    assert count(value) == told
