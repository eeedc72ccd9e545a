import numpy as np
import pytest
from scipy import stats

from leafkit.store import Row
from leafkit_eval import load_collection, write_report
from leafkit_eval.alignment import Aligned, cosine_report, cosines, hubness, overlap, rank_correlation
from leafkit_eval.retrieval import judge_retrieval


def aligned(values, texts=None, kind="query"):
    texts = texts or [f"text {n}" for n in range(len(values))]
    return Aligned("a", kind, [Row(text, kind, f"i{n}") for n, text in enumerate(texts)], np.array(values, float))


def test_cosines_are_those_of_pairs_and_nan_of_zeros():
    assert cosines(np.eye(2, dtype=np.float32), np.float32([[2, 0], [3, 0]])).tolist() == [1.0, 0.0]
    assert np.isnan(cosines(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))).all()


def test_quantiles_lengths_and_the_farthest_texts():
    values = np.linspace(0, 1, 101)
    texts = [" ".join(["w"] * (1 + n % 40)) for n in range(101)]
    report = cosine_report([aligned(values, texts), aligned([np.nan], kind="document")])
    query = report["query"]
    assert query["quantiles"] == [[level, pytest.approx(level)] for level in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)]
    assert [text["id"] for text in query["worst"]] == ["i0", "i1", "i2", "i3", "i4"]
    assert sum(part["texts"] for part in query["by_length"]) == 101
    for part in query["by_length"]:
        here = [
            v
            for v, text in zip(values, texts, strict=True)
            if part["words_from"] <= len(text.split()) <= part["words_to"]
        ]
        assert part["mean"] == pytest.approx(np.mean(here))
    assert report["document"] == {"texts": 1, "quantiles": [], "by_length": [], "worst": []}


def test_overlap_is_the_mean_share_of_the_teachers_best():
    teacher = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "r": {"a": 1.0}, "s": {}}
    leaf = {"q": {"b": 9.0, "x": 8.0, "a": 7.0}, "s": {"a": 1.0}}
    assert overlap(leaf, teacher, 2) == pytest.approx((1 / 2 + 0) / 2)
    assert overlap(leaf, teacher, 3) == pytest.approx((2 / 3 + 0) / 2)
    assert overlap(teacher, teacher, 10) == 1.0
    assert overlap({}, {"q": {}}, 10) is None


def test_rank_correlation_is_spearmans():
    random = np.random.default_rng(2)
    queries, documents = random.normal(size=(3, 4)).astype(np.float32), random.normal(size=(20, 4)).astype(np.float32)
    ids = [f"d{n}" for n in range(20)]
    row_of = {name: row for row, name in enumerate(ids)}
    teacher = {f"q{q}": {name: -float(n) for n, name in enumerate(random.permutation(ids)[:9])} for q in range(3)}
    expected = [
        stats.spearmanr(list(hits.values()), [documents[row_of[name]] @ vector for name in hits]).statistic
        for hits, vector in zip(teacher.values(), queries, strict=True)
    ]
    assert rank_correlation(queries, documents, row_of, list(teacher), teacher) == pytest.approx(np.mean(expected))
    assert rank_correlation(queries[:1], documents, row_of, ["q"], {"q": {"d1": 1.0}}) is None


def test_hubness_is_the_skewness_of_counts():
    run = {f"q{n}": {"hub": 1.0, f"d{n}": 0.5} for n in range(6)}
    assert hubness(run, 10) == pytest.approx(stats.skew([6, 1, 1, 1, 1, 1, 1, 0, 0, 0]))
    assert hubness({"q": {"a": 1.0}}, 1) is None


def test_a_teacher_beside_itself_is_near_in_everything(small, encoder, tmp_path):
    result = judge_retrieval([load_collection(small)], teacher=encoder("t"), student=encoder("s"), out=tmp_path)
    (row,) = result["alignment"]
    for name in ("overlap_at_10", "overlap_at_100", "rank_correlation"):
        assert row[name] == pytest.approx({"symmetric": 1.0, "asymmetric": 1.0})
    assert row["hubness"]["teacher"] == row["hubness"]["asymmetric"]
    assert result["cosines"]["document"]["texts"] == 5  # of six, one is empty
    assert result["cosines"]["query"]["quantiles"][0][1] == pytest.approx(1.0)


def test_the_page_shows_the_farthest_texts_as_text(beir, encoder, tmp_path):
    folder = beir({"a": "<b>clay</b>", "b": "slate"}, {"q": "clay"}, {"q": {"a": 1}})
    result = judge_retrieval(
        [load_collection(folder)], teacher=encoder("t"), student=encoder("s", blur=2.0), out=tmp_path
    )
    page = write_report(result, tmp_path).html.read_text()
    assert "&lt;b&gt;clay&lt;/b&gt;" in page
    assert "<b>clay" not in page
