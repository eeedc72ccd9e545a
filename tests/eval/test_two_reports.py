import json

import pytest

from leafkit.errors import InputError
from leafkit_eval import compare_reports, write_report
from leafkit_eval.retrieval import judge_retrieval
from leafkit_eval.two_reports import unshared


@pytest.fixture
def reported(encoder, tmp_path):
    def report(name, collections, blur):
        out = tmp_path / name
        write_report(judge_retrieval(collections, teacher=encoder("t"), student=encoder(name, blur=blur), out=out), out)
        return out

    return report


def test_differences_are_of_the_reports_own_means(collections, reported):
    a, b = reported("a", collections, 0.5), reported("b", collections, 4.0)
    rows = compare_reports(a, b)
    assert [(row["dataset"], row["mode"]) for row in rows] == [
        (name, mode) for name in (None, "many5", "many6") for mode in ("teacher", "symmetric", "asymmetric")
    ]
    means = []
    for folder in (a, b):
        results = json.loads((folder / "report.json").read_bytes())["results"]
        means.append({(row["dataset"], row["mode"]): row["ndcg_at_10"] for row in results})
    for row in rows:
        if row["dataset"] is not None:
            key = row["dataset"], row["mode"]
            assert (row["first"], row["second"]) == pytest.approx((means[0][key], means[1][key]), abs=1e-6)
        assert row["difference"] == pytest.approx(row["second"] - row["first"])
        low, high = row["difference_interval"]
        assert low <= row["difference"] <= high
        assert row["p"] <= row["p_holm"]
        if row["mode"] == "teacher":
            assert (row["difference"], row["p"]) == (0.0, 1.0)
    assert sum(row["p_holm"] < 1 for row in rows) > 0
    over_all = [row for row in rows if row["dataset"] is None and row["mode"] != "teacher"]
    assert min(row["p_holm"] for row in over_all) <= 2 * min(row["p"] for row in over_all)  # of two, not of three
    assert rows == compare_reports(a, b)
    assert compare_reports(a, b, metric="mrr_at_10") != rows


def test_the_same_words_the_other_way_round(collections, reported):
    a, b = reported("a", collections, 0.5), reported("b", collections, 4.0)
    for row, back in zip(compare_reports(a, b), compare_reports(b, a), strict=True):
        assert back["difference"] == -row["difference"]
        assert back["p"] == row["p"]


def test_only_what_both_have_is_compared(collections, reported, tmp_path):
    rows = compare_reports(reported("a", collections, 0.5), reported("b", collections[:1], 4.0))
    assert {row["dataset"] for row in rows} == {"many5"}
    first, second = unshared(tmp_path / "a", tmp_path / "b").values()
    assert (first, second) == (["many6 (teacher)", "many6 (symmetric)", "many6 (asymmetric)"], [])
    with pytest.raises(InputError, match="shares no collection"):
        compare_reports(reported("c", collections[:1], 0.5), reported("d", collections[1:], 0.5))


def test_what_is_no_report_or_another_one_is_refused(collections, reported, tmp_path):
    a, b = reported("a", collections[:1], 0.5), reported("b", collections[:1], 4.0)
    with pytest.raises(InputError, match="holds no report.json"):
        compare_reports(a, tmp_path / "nowhere")
    with pytest.raises(InputError, match="there is no metric 'map'"):
        compare_reports(a, b, metric="map")
    table = b / "runs" / "many5.test.symmetric.tsv"
    lines = table.read_text().splitlines(keepends=True)
    for broken in (lines[:-1], lines[:1], [*lines[:-1], lines[1]], [*lines[:-1], lines[-1].replace("0.", "nan", 1)]):
        table.write_text("".join(broken))
        with pytest.raises(InputError, match=r"symmetric.tsv: (has \d+ queries with a mean|cannot be read)"):
            compare_reports(a, b)
    table.write_text("".join(lines))
    report = json.loads((b / "report.json").read_bytes())
    for row in report["results"]:
        row["judgements"] = "0" * 16
    (b / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match="was judged by other judgements"):
        compare_reports(a, b)
    (b / "report.json").write_text(json.dumps({**report, "results": [7]}))
    with pytest.raises(InputError, match="is not what leafkit wrote"):
        compare_reports(a, b)
    report = json.loads((a / "report.json").read_bytes())
    (b / "report.json").write_text(json.dumps(report))
    table.unlink()
    with pytest.raises(InputError, match="make the report anew"):
        compare_reports(a, b)
    report = json.loads((b / "report.json").read_bytes())
    (b / "report.json").write_text(json.dumps({**report, "version": 1}))
    with pytest.raises(InputError, match="version 1, expected 'leafkit.report', version 3"):
        compare_reports(a, b)


@pytest.mark.parametrize(
    ("field", "change", "words"),
    [
        ("documents", lambda report: report["results"][0].update(documents=999), "judged with documents: 999"),
        ("self_hits", lambda report: report["settings"].update(self_hits="kept"), "own id: kept, in .*: dropped"),
    ],
)
def test_reports_judged_under_other_conditions_are_not_compared(collections, reported, field, change, words):
    a, b = reported("a", collections[:1], 0.5), reported("b", collections[:1], 4.0)
    report = json.loads((b / "report.json").read_text())
    change(report)
    (b / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match=words):
        compare_reports(a, b)


def test_values_that_leafkit_did_not_write_are_refused(collections, reported):
    a, b = reported("a", collections[:1], 0.5), reported("b", collections[:1], 4.0)
    text = (b / "report.json").read_text()
    for value in ("1.0", None, [1.0]):
        report = json.loads(text)
        report["results"][0]["ndcg_at_10"] = value
        (b / "report.json").write_text(json.dumps(report))
        with pytest.raises(InputError, match="make the report anew"):
            compare_reports(a, b)
    (b / "report.json").write_text(text)
    table = next((b / "runs").glob("*.teacher.tsv"))
    table.write_text(table.read_text().replace("\nq", "\nother-q", 1))
    with pytest.raises(InputError, match="judged on other queries"):
        compare_reports(a, b)
