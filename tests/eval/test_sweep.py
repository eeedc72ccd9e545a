import gzip

import numpy as np
import pytest

from leafkit.errors import UsageError
from leafkit_eval import write_report
from leafkit_eval.metrics import measure
from leafkit_eval.retrieval import judge_retrieval
from leafkit_eval.search import PRECISIONS
from leafkit_eval.sweep import Setting, cut, settings

DIMS = [64, 32, 8]


@pytest.fixture
def result(collections, encoder, tmp_path):
    return judge_retrieval(
        collections,
        teacher=encoder("t"),
        student=encoder("s", blur=1.5),
        out=tmp_path,
        dims=DIMS,
        precisions=PRECISIONS,
    )


def by_key(result):
    return {(row["mode"], row["dim"], row["precision"]): row for row in result["sweep"]}


def read_packed(path):
    run = {}
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        query, _, document, _, score, _ = line.split("\t")
        run.setdefault(query, {})[document] = float(score)
    return run


def test_every_width_has_every_precision_but_the_full_one(result):
    assert len(result["sweep"]) == 3 * (len(DIMS) * len(PRECISIONS) - 1)
    assert ("teacher", 64, "float32") not in by_key(result)
    assert {row["bytes_a_document"] for row in result["sweep"] if row["dim"] == 32} == {128, 64, 32, 4}


def test_figures_are_those_of_the_saved_rankings(result, collections, tmp_path):
    for (mode, dim, precision), row in by_key(result).items():
        for collection in collections:
            run = read_packed(tmp_path / "runs" / f"{collection.name}.test.{mode}.{dim}.{precision}.trec.gz")
            assert max(map(len, run.values())) == 10
            own = measure(collection.qrels, run).means["ndcg_at_10"]
            assert row["ndcg_at_10_by_dataset"][collection.name] == pytest.approx(own, abs=1e-9)


def test_a_cut_width_is_the_search_of_cut_vectors(result, collections, encoder, tmp_path):
    teacher, (collection, _) = encoder("t"), collections
    queries = teacher.encode([row.text for row in collection.queries], "query")[:, :8].astype(np.float64)
    documents = teacher.encode([row.text for row in collection.documents], "document")[:, :8].astype(np.float64)
    scores = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        documents / np.linalg.norm(documents, axis=1, keepdims=True)
    ).T
    found = read_packed(tmp_path / "runs" / f"{collection.name}.test.teacher.8.float32.trec.gz")
    for query, row in zip(collection.queries, scores, strict=True):
        best = {collection.documents[n].id: row[n] for n in np.argsort(-row)[:10]}
        assert found[query.id] == pytest.approx(best, abs=1e-6)


def test_shares_are_means_of_ratios_and_the_inherited_part_is_their_difference(result):
    rows = by_key(result)
    full = {(row["mode"], row["dataset"]): row["ndcg_at_10"] for row in result["results"]}
    for (mode, dim, precision), row in rows.items():
        own = [value / full[mode, name] for name, value in row["ndcg_at_10_by_dataset"].items()]
        of_teacher = [value / full["teacher", name] for name, value in row["ndcg_at_10_by_dataset"].items()]
        assert row["kept"] == pytest.approx(np.mean(own))
        assert row["share_of_teacher"] == pytest.approx(np.mean(of_teacher))
        low, high = row["kept_interval"]
        assert low <= row["kept"] <= high
        if mode == "teacher":
            assert row["inherited"] is None
        else:
            assert row["inherited"] == pytest.approx(row["kept"] - rows["teacher", dim, precision]["kept"])
            low, high = row["inherited_interval"]
            assert low <= row["inherited"] <= high


def test_a_leaf_that_is_its_teacher_inherits_everything(collections, encoder, tmp_path):
    result = judge_retrieval(
        collections, teacher=encoder("t"), student=encoder("s"), out=tmp_path, dims=[16], precisions=["binary"]
    )
    (row,) = (row for row in result["sweep"] if row["mode"] == "asymmetric")
    assert (row["inherited"], row["inherited_interval"]) == (0.0, (0.0, 0.0))
    assert row["kept"] != 1  # sixteen bits rank otherwise than sixty-four floats, here by chance better


def test_rankings_of_settings_that_are_no_longer_asked_for_go(collections, result, encoder, tmp_path):
    assert len(list((tmp_path / "runs").glob("*.gz"))) == 2 * len(result["sweep"])
    again = judge_retrieval(collections, teacher=encoder("t"), student=encoder("s", blur=1.5), out=tmp_path)
    assert again["sweep"] == []
    assert not list((tmp_path / "runs").glob("*.gz"))
    assert again["results"] == result["results"]


def test_the_page_tells_what_is_inherited(result, tmp_path):
    page = write_report(result, tmp_path).html.read_text()
    assert "At smaller widths and precisions" in page
    assert "8 dims, binary + rescore" in page


def test_a_cut_of_zeros_stays_zeros():
    assert cut(np.zeros((1, 4), np.float32), 2, normalized=True).tolist() == [[0, 0]]
    rows = np.ones((1, 4), np.float32)
    assert cut(rows, 2, normalized=False).tolist() == [[1, 1]]
    assert cut(rows, 4, normalized=True) is rows


def test_settings_that_there_are_not_are_refused():
    assert settings([], [], 64) == []
    assert settings([64, 64, 8], ["float32"], 64) == [Setting(8, "float32")]
    with pytest.raises(UsageError, match="dims 65: expected 1 to 64"):
        settings([65], [], 64)
    with pytest.raises(UsageError, match="no precision 'int4': expected one of float32, "):
        settings([], ["int4"], 64)
