import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
import pytrec_eval

from leafkit.errors import SpaceMismatch, UsageError
from leafkit.space import EmbeddingSpace, Prompts, TeacherId
from leafkit_eval.collections import load_collection
from leafkit_eval.report import schema, write_report
from leafkit_eval.report.markdown import markdown_table
from leafkit_eval.retrieval import judge_retrieval
from leafkit_eval.two_reports import compare_reports


@pytest.fixture
def collection(small):
    return load_collection(small)


def rows_by_mode(result):
    return {row["mode"]: row for row in result["results"]}


def test_a_student_that_is_the_teacher_keeps_everything(collection, encoder, tmp_path):
    result = judge_retrieval([collection], teacher=encoder("t"), student=encoder("s"), out=tmp_path)
    assert list(rows_by_mode(result)) == ["teacher", "symmetric", "asymmetric"]
    for row in result["results"]:
        assert row["share_of_teacher"] == 1.0
        assert row["share_interval"] == (1.0, 1.0)
        assert (row["dataset"], row["split"], row["dim"], row["precision"]) == ("small", "test", 64, "float32")
        assert (row["queries"], row["documents"], row["empty_documents"]) == (3, 6, 1)
    assert result["summary"]["mean_cosine_to_teacher"] == pytest.approx({"queries": 1.0, "documents": 1.0, "all": 1.0})


@pytest.fixture
def many(beir):
    """Forty documents and ten queries of three words out of twenty: no two rankings alike."""
    generator = np.random.default_rng(5)
    texts = [" ".join(f"word{n}" for n in generator.choice(20, 3, replace=False)) for _ in range(50)]
    documents = {f"d{n:02}": text for n, text in enumerate(texts[:40])}
    queries = {f"q{n}": text for n, text in enumerate(texts[40:])}
    qrels = {query: {f"d{n:02}": 1 for n in generator.choice(40, 3, replace=False)} for query in queries}
    return load_collection(beir(documents, queries, qrels, name="many"))


def read_trec(file):
    run = {}
    for line in file.read_text().splitlines():
        query, _, document, _, score, _ = line.split("\t")
        run.setdefault(query, {})[document] = float(score)
    return run


def test_each_mode_is_what_its_encoders_give_by_definition(many, encoder, tmp_path):
    teacher, student = encoder("t"), encoder("s", blur=1.5)
    result = judge_retrieval([many], teacher=teacher, student=student, out=tmp_path)
    queries = [row.text for row in many.queries]
    documents = {row.id: row.text for row in many.documents}
    sides = {"teacher": (teacher, teacher), "symmetric": (student, student), "asymmetric": (student, teacher)}
    for mode, (asker, answerer) in sides.items():
        scores = asker.encode(queries, "query") @ answerer.encode([*documents.values()], "document").T
        run = {
            query.id: dict(zip(documents, map(float, row), strict=True))
            for query, row in zip(many.queries, scores, strict=True)
        }
        saved = read_trec(tmp_path / "runs" / f"many.test.{mode}.trec")
        for query, hits in run.items():
            assert saved[query] == pytest.approx(hits, abs=1e-6)  # D = 64 sums of float32, unit vectors
        expected = pytrec_eval.RelevanceEvaluator(dict(many.qrels), {"ndcg_cut.10"}).evaluate(run)
        mean = np.mean([each["ndcg_cut_10"] for each in expected.values()])
        assert rows_by_mode(result)[mode]["ndcg_at_10"] == pytest.approx(mean)
    pairs = zip(student.encode(queries, "query"), teacher.encode(queries, "query"), strict=True)
    assert result["alignment"][0]["cosine_queries"] == pytest.approx(np.mean([float(s @ t) for s, t in pairs]))


def test_every_figure_can_be_made_again_from_the_saved_runs(many, encoder, tmp_path):
    result = judge_retrieval([many], teacher=encoder("t"), student=encoder("s", blur=1.5), out=tmp_path, bm25=True)
    assert len({row["ndcg_at_10"] for row in result["results"]}) == 4
    for mode, row in rows_by_mode(result).items():
        run = read_trec(tmp_path / "runs" / f"many.test.{mode}.trec")
        assert all(float(np.float32(score)) == pytest.approx(score, rel=1e-8) for score in run["q0"].values())
        found = pytrec_eval.RelevanceEvaluator(dict(many.qrels), {"ndcg_cut.10"}).evaluate(run)
        ndcg = {query: found.get(query, {"ndcg_cut_10": 0.0})["ndcg_cut_10"] for query in many.qrels}
        assert row["ndcg_at_10"] == pytest.approx(sum(ndcg.values()) / 10)
        header, *lines = (tmp_path / "runs" / f"many.test.{mode}.tsv").read_text().splitlines()
        assert header.split("\t") == ["query-id", "ndcg_at_10", "recall_at_100", "mrr_at_10"]
        assert {line.split("\t")[0]: float(line.split("\t")[1]) for line in lines} == pytest.approx(ndcg, abs=1e-6)


def test_another_student_finds_the_teachers_vectors_and_only_judged_queries_are_embedded(collection, encoder, tmp_path):
    teacher = encoder("t")
    judge_retrieval([collection], teacher=teacher, student=encoder("s1"), out=tmp_path / "1", cache=tmp_path / "cache")
    assert sorted(kind for kind, _ in teacher.encoded) == ["document"] * 5 + ["query"] * 3
    teacher.encoded.clear()
    student = encoder("s2", blur=1.0)
    result = judge_retrieval(
        [collection], teacher=teacher, student=student, out=tmp_path / "2", cache=tmp_path / "cache"
    )
    assert teacher.encoded == []
    assert len(student.encoded) == 8
    done = result["embedding"]["teacher"]
    assert (done["embedded"], done["from_cache"], done["truncated"]) == (0, 8, None)


def test_a_teacher_judged_as_its_own_student_embeds_each_text_once(collection, encoder, tmp_path):
    teacher = encoder("t")
    result = judge_retrieval([collection], teacher=teacher, student=teacher, out=tmp_path)
    assert len(teacher.encoded) == 8
    assert rows_by_mode(result)["asymmetric"]["share_of_teacher"] == 1.0


def test_an_interrupted_run_goes_on_where_it_stopped_and_gives_the_same(beir, encoder, tmp_path):
    documents = {f"d{n}": f"word{n} word{n % 7} word{n % 11}" for n in range(300)}
    collection = load_collection(beir(documents, {"q": "word3"}, {"q": {"d3": 1}}))
    student = encoder("s", blur=1.0)
    whole = judge_retrieval([collection], teacher=encoder("t"), student=student, out=tmp_path / "whole")
    stopped = encoder("t", fails_after=128)
    with pytest.raises(KeyboardInterrupt):
        judge_retrieval([collection], teacher=stopped, student=student, out=tmp_path / "run")
    resumed = encoder("t")
    result = judge_retrieval([collection], teacher=resumed, student=student, out=tmp_path / "run")
    assert len(stopped.encoded) + len(resumed.encoded) == 301
    assert set(stopped.encoded).isdisjoint(resumed.encoded)
    assert result["results"] == whole["results"]
    assert result["summary"] == whole["summary"]


def test_a_collections_figures_do_not_depend_on_its_neighbours(collection, encoder, tmp_path):
    other = replace(collection, name="other")
    encoders = {"teacher": encoder("t"), "student": encoder("s", blur=1.5)}
    alone = judge_retrieval([collection], **encoders, out=tmp_path)
    beside = judge_retrieval([other, collection], **encoders, out=tmp_path)
    assert beside["results"][3:] == alone["results"]


def test_the_mean_of_shares_and_the_share_of_means_are_told_apart(collection, beir, encoder, tmp_path):
    hard = load_collection(
        beir(
            {"a": "red", "b": "blue", "c": "chalk"},
            {"q1": "red", "q2": "red"},
            {"q1": {"b": 1}, "q2": {"c": 1}},
            name="hard",
        )
    )
    result = judge_retrieval([collection, hard], teacher=encoder("t"), student=encoder("s", blur=2.0), out=tmp_path)
    for mode, found in result["summary"]["modes"].items():
        rows = [row for row in result["results"] if row["mode"] == mode]
        teacher = [row for row in result["results"] if row["mode"] == "teacher"]
        assert found["mean_share_of_teacher"] == pytest.approx(np.mean([row["share_of_teacher"] for row in rows]))
        assert found["share_of_means"] == pytest.approx(
            sum(row["ndcg_at_10"] for row in rows) / sum(row["ndcg_at_10"] for row in teacher)
        )
        assert found["mean_share_interval"][0] <= found["mean_share_of_teacher"] <= found["mean_share_interval"][1]
    assert result["summary"]["collections"] == 2


def test_the_parts_of_cqadupstack_count_as_one_collection(collections, collection, encoder, tmp_path):
    parts = [replace(each, name=f"cqadupstack-{each.name}", part_of="cqadupstack") for each in collections]
    judged = [*parts, collection]
    result = judge_retrieval(
        judged, teacher=encoder("t"), student=encoder("s", blur=2.0), out=tmp_path / "out", dims=[32]
    )
    summary = result["summary"]
    assert (summary["collections"], summary["parts"]) == (2, 3)

    def of_three(values):
        first, second, other = values
        return pytest.approx(((first + second) / 2 + other) / 2, abs=1e-12)

    for mode, found in summary["modes"].items():
        rows = [row for row in result["results"] if row["mode"] == mode]
        assert len({row["ndcg_at_10"] for row in rows}) > 1  # else any mean would do
        for metric in ("ndcg_at_10", "recall_at_100", "mrr_at_10"):
            assert found[metric] == of_three([row[metric] for row in rows])
        assert found["mean_share_of_teacher"] == of_three([row["share_of_teacher"] for row in rows])
        low, high = found["mean_share_interval"]
        assert low <= found["mean_share_of_teacher"] <= high
    for row in result["sweep"]:
        assert row["ndcg_at_10"] == of_three(row["ndcg_at_10_by_dataset"].values())
        own = [each["ndcg_at_10"] for each in result["results"] if each["mode"] == row["mode"]]
        kept = [value / full for value, full in zip(row["ndcg_at_10_by_dataset"].values(), own, strict=True)]
        assert row["kept"] == of_three(kept)
    whole, *alone = (row for row in result["comparisons"] if (row["system"], row["other"]) == ("symmetric", "teacher"))
    assert whole["difference"] == of_three([row["difference"] for row in alone])
    assert "| mean of 2 collections (3 with the parts of cqadupstack) |" in markdown_table(result)
    write_report(result, tmp_path / "out")
    compared = compare_reports(tmp_path / "out", tmp_path / "out")
    assert [(row["collections"], row["first"]) for row in compared if row["dataset"] is None] == [
        (2, pytest.approx(found["ndcg_at_10"], abs=1e-6)) for found in summary["modes"].values()
    ]


def test_a_teacher_that_finds_nothing_leaves_the_share_open(beir, encoder, tmp_path):
    documents = {"right": "chalk"} | {f"d{n:02}": "slate" for n in range(12)}
    collection = load_collection(beir(documents, {"q": "slate"}, {"q": {"right": 1}}))
    result = judge_retrieval([collection], teacher=encoder("t"), student=encoder("s"), out=tmp_path)
    row = rows_by_mode(result)["asymmetric"]
    assert (row["ndcg_at_10"], row["share_of_teacher"], row["share_interval"]) == (0.0, None, None)
    assert result["summary"]["modes"]["asymmetric"]["mean_share_of_teacher"] is None
    json.dumps(result, allow_nan=False)


def test_a_student_of_another_space_is_refused_before_anything_is_embedded(collection, encoder, tmp_path):
    teacher, student = encoder("t"), encoder("s")
    student.space = replace(student.space, dim=32)
    with pytest.raises(SpaceMismatch, match=r"dim: 64 \(the teacher\) \| 32 \(the student\)"):
        judge_retrieval([collection], teacher=teacher, student=student, out=tmp_path)
    assert teacher.encoded == []


def test_collections_must_be_there_and_differ_in_name(collection, encoder, tmp_path):
    encoders = {"teacher": encoder("t"), "student": encoder("s"), "out": tmp_path}
    with pytest.raises(UsageError, match="no collection"):
        judge_retrieval([], **encoders)
    with pytest.raises(UsageError, match=r"two collections are called 'small' \(split 'test'\)"):
        judge_retrieval([collection, collection], **encoders)


def test_a_baseline_is_judged_alone_in_its_own_space(many, encoder, tmp_path):
    other = encoder("other", blur=0.7)
    other.space = EmbeddingSpace(TeacherId("another", "1"), dim=64, normalized=True, prompts=Prompts(query="ask: "))
    result = judge_retrieval(
        [many], teacher=encoder("t"), student=encoder("s", blur=1.5), baselines={"MiniLM-L6.v2": other}, out=tmp_path
    )
    mode = "baseline-MiniLM-L6.v2"
    alone = judge_retrieval([many], teacher=other, student=other, out=tmp_path / "alone")
    assert rows_by_mode(result)[mode]["ndcg_at_10"] == rows_by_mode(alone)["teacher"]["ndcg_at_10"]
    assert result["summary"]["modes"][mode]["mean_share_of_teacher"] == rows_by_mode(result)[mode]["share_of_teacher"]
    first = {"query": f"ask: {many.queries[0].text}", "document": many.findable[0].text}
    assert result["embedding"][mode]["first_encoded"] == first
    pairs = [(row["system"], row["other"]) for row in result["comparisons"]]
    assert pairs[-2:] == [("asymmetric", mode), ("symmetric", mode)]
    assert (tmp_path / "runs" / f"many.test.{mode}.trec").is_file()
    files = write_report(result, tmp_path)
    jsonschema.Draft202012Validator(schema()).validate(json.loads(files.json.read_text()))
    assert "MiniLM-L6.v2, in its own space" in files.html.read_text()
    assert "| MiniLM-L6.v2 |" in files.markdown.read_text()
    with pytest.raises(UsageError, match="expected a name of letters"):
        judge_retrieval(
            [many], teacher=encoder("t"), student=encoder("s"), baselines={"a/b": other}, out=tmp_path / "none"
        )
