import numpy as np
import pytest

from leafkit.errors import UsageError
from leafkit_eval import load_collection, statistics
from leafkit_eval.comparisons import Scored, compare
from leafkit_eval.retrieval import judge_retrieval


def scored(name, **systems):
    per_query = {system: np.asarray(values, float) for system, values in systems.items()}
    samples = statistics.bootstrap_means(np.stack([*per_query.values()]), salt=name)
    return Scored(name, "test", name, per_query, dict(zip(per_query, samples.T, strict=True)))


@pytest.fixture
def two():
    random = np.random.default_rng(1)
    teacher = random.uniform(0.3, 0.9, size=(2, 60))
    return [
        scored(name, teacher=row, symmetric=row - 0.2, asymmetric=row + random.normal(0, 0.02, 60))
        for name, row in zip("ab", teacher, strict=True)
    ]


def test_every_pair_stands_over_all_and_on_each(two):
    rows = compare(two, margin=0.05)
    pairs = [("asymmetric", "teacher"), ("symmetric", "teacher"), ("asymmetric", "symmetric")]
    assert [(row["dataset"], row["system"], row["other"]) for row in rows] == [
        (name, *pair) for name in (None, "a", "b") for pair in pairs
    ]
    assert [row["dataset"] for row in compare(two[:1], margin=0.05)] == ["a"] * 3


def test_a_loss_is_seen_and_an_equal_one_passes(two):
    for row in compare(two, margin=0.05):
        low, high = row["difference_interval"]
        assert low <= row["difference"] <= high
        assert row["p"] <= row["p_holm"] <= 1
        if row["system"] == "symmetric":  # a fifth of a point less on every query
            assert row["difference"] == pytest.approx(-0.2)
            assert row["p_holm"] < 0.001 < 0.9 < row["p_worse"]
        elif row["other"] == "teacher":
            assert row["p_holm"] > 0.05 > row["p_worse"]


def test_a_wider_margin_lets_a_larger_loss_pass(two):
    def worse(margin):
        (row,) = (row for row in compare(two, margin=margin) if (row["dataset"], row["system"]) == (None, "symmetric"))
        return row["p_worse"]

    assert worse(0.5) < 0.05 < worse(0.2)


def test_a_teacher_beside_itself_differs_in_nothing(small, encoder, tmp_path):
    result = judge_retrieval([load_collection(small)], teacher=encoder("t"), student=encoder("s"), out=tmp_path)
    assert [row["difference"] for row in result["comparisons"]] == [0.0] * 3
    assert {row["p"] for row in result["comparisons"]} == {1.0}
    again = judge_retrieval([load_collection(small)], teacher=encoder("t"), student=encoder("s"), out=tmp_path)
    assert again["comparisons"] == result["comparisons"]


def test_bm25_is_compared_where_it_was_judged(small, encoder, tmp_path):
    pytest.importorskip("bm25s", reason="bm25s is not installed (extra: judge)")
    result = judge_retrieval(
        [load_collection(small)], teacher=encoder("t"), student=encoder("s"), out=tmp_path, bm25=True
    )
    assert ("asymmetric", "bm25") in {(row["system"], row["other"]) for row in result["comparisons"]}


@pytest.mark.parametrize("margin", [-0.1, 1.0, float("nan")])
def test_a_margin_that_is_no_share_is_refused(small, encoder, tmp_path, margin):
    with pytest.raises(UsageError, match="expected a share"):
        judge_retrieval(
            [load_collection(small)], teacher=encoder("t"), student=encoder("s"), out=tmp_path, margin=margin
        )
