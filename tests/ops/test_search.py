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
from leafkit.ops.search import _filter
from tests import reference

_C = pytest.importorskip("leafkit._C", reason="the native module was not built") if describe().levels else None


SCANS = (None, "float32", "bfloat16", "float16", "int8")  # None: documents in place


def _native(level, threads, scan):
    def search(queries, documents, k, allowed=None):
        packed = _C.pack_documents(documents, scan, threads=threads) if scan else None
        words, most = _filter(allowed, len(queries), len(documents))
        found = _C.search_topk(
            queries, documents, packed, k, "exact", allowed=words, threads=threads, level=level
        )  # fmt: skip
        return tuple(part[:, :most] for part in found)

    return search


def _numpy(queries, documents, k, allowed=None):
    words, most = _filter(allowed, len(queries), len(documents))
    found = numpy_backend.search_topk(queries, documents, None, k, "exact", allowed=words)
    return tuple(part[:, :most] for part in found)


KERNELS = {"numpy": _numpy}
KERNELS |= {
    f"{level}-{scan or 'in place'}-{threads}": _native(level, threads, scan)
    for level in describe().levels
    for scan in SCANS
    for threads in (1, 2)
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


@st.composite
def matrices(draw):
    """Odd sizes, k below and above N. Small integers: many ties; reals; near-ties; lengths of all magnitudes."""
    dim = draw(st.sampled_from([1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 65]))
    queries, documents = draw(st.integers(0, 14)), draw(st.sampled_from([0, 1, 3, 63, 64, 65, 90, 130, 300]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    q, d = (random.normal(size=(rows, dim)) for rows in (queries, documents))
    form = draw(st.sampled_from(["integers", "reals", "near ties", "lengths", "denormal"]))
    if form == "integers":
        q, d = (random.integers(-2, 3, part.shape) for part in (q, d))
    elif form == "near ties" and documents:
        d = d[:1] * (1 + random.integers(-3, 4, d.shape) * 2.0**-23)  # one document, its last bits changed
    elif form == "lengths":
        d = d * 10.0 ** random.integers(-25, 18, (documents, 1))
    elif form == "denormal":
        d = d * 1e-39
    q, d = q.astype(np.float32), d.astype(np.float32)
    return q, d, draw(st.integers(1, documents + 3))


def _check(found, expected):
    (scores, rows), (best, best_rows) = found, expected
    assert rows.tolist() == best_rows.tolist()
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(scores, best.astype(np.float32))


@every_kernel
@settings(max_examples=25, deadline=None)
@given(case=matrices())
def test_the_answer_is_that_of_the_float64_definition(kernel, case):
    queries, documents, k = case
    _check(kernel(queries, documents, k), reference.search_topk(queries, documents, k))


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(case=matrices(), name=st.sampled_from(sorted(KERNELS)), share=st.sampled_from([None, None, 0.02, 0.5]))
def test_ten_thousand_cases_have_the_answer_of_the_float64_definition(case, name, share):
    queries, documents, k = case
    allowed = None if share is None else np.random.default_rng(k).random(len(documents)) < share
    _check(KERNELS[name](queries, documents, k, allowed), reference.search_topk(queries, documents, k, allowed))


@every_kernel
@settings(max_examples=10, deadline=None)
@given(case=matrices(), share=st.sampled_from([0.0, 0.02, 0.5, 1.0]), each=st.booleans())
def test_only_allowed_rows_are_found(kernel, case, share, each):
    queries, documents, k = case
    random = np.random.default_rng(len(documents))
    allowed = random.random((len(queries), len(documents)) if each else len(documents)) < share
    _check(kernel(queries, documents, k, allowed), reference.search_topk(queries, documents, k, allowed))


@every_kernel
@settings(max_examples=5, deadline=None)
@given(case=matrices())
def test_equal_documents_score_equally_and_come_in_row_order(kernel, case):
    queries, documents, k = case
    documents[:] = documents[:1]
    scores, rows = kernel(queries, documents, k)
    assert (scores == scores[:, :1]).all()
    assert (rows == np.arange(min(k, len(documents)))).all()


@every_kernel
def test_sums_that_cancel_are_rounded_once(kernel):
    random = np.random.default_rng(1)
    large = 2.0 ** random.integers(20, 120, (60, 8))
    small = random.normal(size=(60, 3)) * 2.0 ** random.integers(-20, 20, (60, 1))
    documents = np.concatenate([large, small, -large], axis=1).astype(np.float32)
    queries = np.concatenate([np.ones((1, 19)), random.permutation(np.ones((2, 19)) * [[1], [0.5]])]).astype(np.float32)
    _check(kernel(queries, documents, 60), reference.search_topk(queries, documents, 60))


@every_kernel
@pytest.mark.parametrize("queries", [1, 7])
def test_documents_that_codes_cannot_tell_apart_are_ranked_by_their_rows(kernel, queries):
    random = np.random.default_rng(2)  # the search leaves int8, then bfloat16, on its way
    documents = (random.normal(size=(1, 24)) + 1e-6 * random.normal(size=(9000, 24))).astype(np.float32)
    q = random.normal(size=(queries, 24)).astype(np.float32)
    _check(kernel(q, documents, 10), reference.search_topk(q, documents, 10))


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


@pytest.mark.slow
def test_a_map_of_more_than_2_to_the_31_values_is_searched_whole_case_11(tmp_path, cases):
    case = cases / "11-more-than-2-31-elements"
    plan, expected = json.loads((case / "plan.json").read_text()), json.loads((case / "expected.json").read_text())
    documents = np.lib.format.open_memmap(tmp_path / "sparse.npy", "w+", np.float32, tuple(plan["shape"]))
    assert documents.size > 2**31
    for row, value in plan["nonzero"].items():
        documents[int(row), plan["column"]] = value
    query = np.zeros((1, documents.shape[1]), np.float32)
    query[0, plan["column"]] = 1
    found = ops.search_topk(query, np.load(tmp_path / "sparse.npy", mmap_mode="r"), expected["k"])
    assert found.rows[0].tolist() == expected["rows"]
    assert found.scores[0].tolist() == expected["scores"]


def test_a_map_that_begins_at_an_odd_place_is_refused_with_both_numbers(tmp_path):
    (tmp_path / "odd.bin").write_bytes(bytes(6 + 4 * 8 * 5))
    documents = np.memmap(tmp_path / "odd.bin", np.float32, "r", offset=6, shape=(5, 8))
    with pytest.raises(ValueError, match="documents begin 2 bytes past a multiple of 4"):
        ops.search_topk(np.ones((1, 8), np.float32), documents, 1)


def test_a_caller_that_flushes_denormals_gets_them_ranked():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")
    documents = (np.arange(1, 4, dtype=np.int32)[:, None]).view(np.float32)  # the smallest numbers there are
    query = np.ones((1, 1), np.float32)
    torch.set_flush_denormal(True)
    try:
        found = ops.search_topk(query, documents, 3)
    finally:
        torch.set_flush_denormal(False)
    assert found.rows.tolist() == [[2, 1, 0]]
    assert (found.scores.view(np.int32) == [[3, 2, 1]]).all()


def test_a_packing_is_searched_by_the_code_that_made_it(monkeypatch):
    documents = np.eye(3, dtype=np.float32)
    for made, asked in (("0", "1"), ("1", "0")):
        monkeypatch.setenv("LEAFKIT_NATIVE", made)
        packed = ops.pack_documents(documents, "int8")
        monkeypatch.setenv("LEAFKIT_NATIVE", asked)
        assert ops.search_topk(documents, packed, 1).rows.tolist() == [[0], [1], [2]]


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
        _C.search_topk(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), None, 1, "exact", level="sse9")
