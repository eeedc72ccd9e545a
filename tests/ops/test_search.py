import json
import multiprocessing
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from leafkit import ops
from leafkit.errors import ShapeMismatch
from leafkit.ops import numpy_backend
from leafkit.ops.backend import describe
from tests import reference

_C = pytest.importorskip("leafkit._C", reason="the native module was not built") if describe().levels else None


def _native(level, threads):
    return lambda queries, documents, k: _C.search_topk(queries, documents, k, threads=threads, level=level)


KERNELS = {"numpy": lambda queries, documents, k: numpy_backend.search_topk(queries, documents, k)}
KERNELS |= {f"{level}-{threads}": _native(level, threads) for level in describe().levels for threads in (1, 2, 3)}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


@st.composite
def matrices(draw):
    """Odd sizes, repeated rows, k below and above N; small integers, so that ties are many and sums exact, or reals."""
    dim = draw(st.sampled_from([1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 65]))
    queries, documents = draw(st.integers(0, 8)), draw(st.sampled_from([0, 1, 3, 4, 5, 17, 64, 90, 600]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        make = lambda rows: random.integers(-2, 3, (rows, dim)).astype(np.float32)  # noqa: E731  # two lines less
    else:
        make = lambda rows: random.normal(size=(rows, dim)).astype(np.float32)  # noqa: E731
    return make(queries), make(documents), draw(st.integers(1, documents + 3))


@every_kernel
@settings(max_examples=60, deadline=None)
@given(case=matrices())
def test_top_k_holds_the_best_scores_of_the_float64_definition(kernel, case):
    queries, documents, k = case
    scores, rows = kernel(queries, documents, k)
    expected, _ = reference.search_topk(queries, documents, k)
    assert scores.shape == rows.shape == (len(queries), min(k, len(documents)))
    assert (np.abs(scores - expected) <= reference.rounding_bound(queries, documents)).all()
    assert all(len(set(found)) == len(found) for found in rows.tolist())


@every_kernel
@settings(max_examples=40, deadline=None)
@given(case=matrices())
def test_exact_sums_give_the_rows_of_the_definition(kernel, case):
    queries, documents, k = (np.round(part) if isinstance(part, np.ndarray) else part for part in case)
    _, rows = kernel(queries, documents, k)
    assert (rows == reference.search_topk(queries, documents, k)[1]).all()


@every_kernel
@settings(max_examples=40, deadline=None)
@given(case=matrices())
def test_equal_documents_score_equally_and_come_in_row_order(kernel, case):
    queries, documents, k = case
    documents[:] = documents[:1]
    scores, rows = kernel(queries, documents, k)
    assert (scores == scores[:, :1]).all()
    assert (rows == np.arange(min(k, len(documents)))).all()


@every_kernel
@pytest.mark.parametrize("count", [5, 700])
def test_nan_ranks_last_and_minus_infinity_before_it(kernel, count):
    documents = np.linspace(0, 1, count, dtype=np.float32)[:, None].copy()
    documents[1], documents[3] = np.nan, -np.inf
    queries = np.ones((2, 1), np.float32)
    for k in (1, 2, count):
        scores, rows = kernel(queries, documents, k)
        expected, expected_rows = reference.search_topk(queries, documents, k)
        assert (rows == expected_rows).all()
        np.testing.assert_array_equal(scores, expected.astype(np.float32))


@every_kernel
def test_nan_and_infinite_rows_of_case_07(kernel, cases):
    case = cases / "07-nan-and-inf-rows"
    expected = json.loads((case / "expected.json").read_text())
    queries, documents = np.load(case / "queries.npy"), np.load(case / "documents.npy")
    for k in (3, 8):
        assert kernel(queries, documents, k)[1].tolist() == expected[f"rows_k{k}"]


@every_kernel
def test_the_first_results_do_not_depend_on_k_case_08(kernel, cases):
    case = cases / "08-ties-and-the-prefix-of-k"
    queries, documents = np.load(case / "queries.npy"), np.load(case / "documents.npy")
    expected = np.load(case / "expected_rows_k300.npy")
    for k in (1, 5, 50, 299, 300):
        assert (kernel(queries, documents, k)[1] == expected[:, :k]).all()
        assert (kernel(queries[:1], documents, k)[1] == expected[:1, :k]).all()


@every_kernel
def test_k_above_n_gives_n_case_09(kernel, cases):
    case = cases / "09-k-above-n-and-no-documents"
    expected = json.loads((case / "expected.json").read_text())["documents_3"]
    queries, documents = np.load(case / "queries.npy"), np.load(case / "documents_3.npy")
    scores, rows = kernel(queries, documents, 10)
    assert rows.tolist() == expected["rows"]
    assert scores.tolist() == expected["scores"]
    assert kernel(queries, np.load(case / "documents_0.npy"), 10)[1].shape == (2, 0)
    assert kernel(np.load(case / "queries_0.npy"), documents, 10)[1].shape == (0, 3)


@every_kernel
def test_negative_scores_are_found_case_13(kernel, cases):
    case = cases / "13-all-scores-negative"
    expected = json.loads((case / "expected.json").read_text())
    scores, rows = kernel(np.load(case / "queries.npy"), np.load(case / "documents.npy"), 3)
    assert rows.tolist() == expected["rows"]
    assert scores.tolist() == expected["scores"]


def test_views_give_their_own_rows_case_10(cases):
    case = cases / "10-views-and-strides"
    expected = json.loads((case / "expected.json").read_text())["rows"]
    base, queries = np.load(case / "base.npy"), np.load(case / "queries.npy")
    views = {
        "base[::2]": (queries, base[::2]),
        "base[::-1]": (queries, base[::-1]),
        "fortran order of base": (queries, np.asfortranarray(base)),
        "base[:, ::2] with queries[:, ::2]": (queries[:, ::2], base[:, ::2]),
        "base[:, :16] with queries[:, :16]": (queries[:, :16], base[:, :16]),
        "base[5:6] repeated by a zero stride, 6 rows": (queries, np.broadcast_to(base[5], (6, base.shape[1]))),
        "base as a read-only memory map": (queries, np.load(case / "base.npy", mmap_mode="r")),
    }
    copied = {"base[::-1]", "fortran order of base", "base[:, ::2] with queries[:, ::2]"}
    for name, (q, documents) in views.items():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert ops.search_topk(q, documents, 5).rows.tolist() == expected[name], name
        assert any("copied" in str(warning.message) for warning in told) == (name in copied), name


def test_a_forked_child_answers_case_12(cases):
    case = cases / "12-fork-after-threads"
    expected = json.loads((case / "expected.json").read_text())["rows"]
    queries, documents = np.load(case / "queries.npy"), np.load(case / "documents.npy")
    assert ops.search_topk(queries, documents, 4).rows.tolist() == expected
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking a threaded process is the point
        with multiprocessing.get_context("fork").Pool(1) as pool:
            rows = pool.apply_async(_search_in_child, (queries, documents)).get(timeout=30)
    assert rows == expected


def _search_in_child(queries, documents):
    return ops.search_topk(queries, documents, 4).rows.tolist()


def test_offsets_beyond_2_to_the_31_are_64_bit_case_11(tmp_path, cases):
    plan = json.loads((cases / "11-more-than-2-31-elements" / "plan.json").read_text())
    expected = json.loads((cases / "11-more-than-2-31-elements" / "expected.json").read_text())
    rows, dim = 5_699_990, 384  # only the rows around the boundary are read: the whole file takes seconds
    documents = np.lib.format.open_memmap(tmp_path / "sparse.npy", "w+", np.float32, tuple(plan["shape"]))
    for row, value in plan["nonzero"].items():
        documents[int(row), plan["column"]] = value
    query = np.zeros((1, dim), np.float32)
    query[0, plan["column"]] = 1
    found = ops.search_topk(query, documents[rows:], 1)
    assert found.rows[0, 0] + rows == expected["rows"][0]
    assert found.scores[0, 0] == expected["scores"][0]


MISFITS = [
    ((2, 384), (9, 768), 5, ShapeMismatch, "queries have dim 384, documents have dim 768"),
    ((384,), (9, 384), 5, ShapeMismatch, r"queries must be a matrix .* got shape \(384,\)"),
    ((2, 8), (9, 8), 0, ValueError, "k must be at least 1, got 0"),
]


@pytest.mark.parametrize(("queries", "documents", "k", "error", "says"), MISFITS)
def test_what_does_not_fit_is_refused_with_both_numbers(queries, documents, k, error, says):
    with pytest.raises(error, match=says):
        ops.search_topk(np.zeros(queries, np.float32), np.zeros(documents, np.float32), k)


def test_other_dtypes_are_refused_by_name():
    with pytest.raises(TypeError, match="documents are float64, expected float32"):
        ops.search_topk(np.zeros((1, 2), np.float32), np.zeros((1, 2)), 1)


@pytest.mark.skipif(_C is None, reason="the native module was not built")
def test_a_level_that_cannot_run_is_refused_with_those_that_can():
    with pytest.raises(ValueError, match=r'"sse9" cannot run here.*scalar'):
        _C.search_topk(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), 1, level="sse9")
