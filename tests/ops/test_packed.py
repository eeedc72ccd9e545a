"""Documents at a precision: what their scores are, what bounds them, re-scoring, filters."""

import json

import numpy as np
import pytest

from leafkit import ops
from leafkit.errors import ShapeMismatch
from leafkit.ops import numpy_backend
from leafkit.ops.backend import describe
from tests import reference

_C = pytest.importorskip("leafkit._C", reason="the native module was not built") if describe().levels else None
LEVELS = [*describe().levels, "numpy"]
TYPES = ["float32", "bfloat16", "float16", "int8", "binary"]
every_level = pytest.mark.parametrize("level", LEVELS)


def search(level, queries, documents, type, k, *, rows=None, overfetch=1, scales=None):
    answer = "own" if rows is None else "rescored"
    if level == "numpy":
        packed = numpy_backend.pack_documents(documents, type, scales)
        return numpy_backend.search_topk(queries, rows, packed, k, answer, overfetch)
    packed = _C.pack_documents(documents, type, scales)
    return _C.search_topk(queries, rows, packed, k, answer, overfetch, level=level)


def at_precision(values, type, scale=None):
    """What codes stand for, in float64, as docs/kernels.md defines each."""
    values = values.astype(np.float64)
    if type == "bfloat16":
        exponent = np.floor(np.log2(np.maximum(np.abs(values), 1e-300)))
        unit = 2.0 ** (exponent - 7)
        return np.rint(values / unit) * unit
    if type == "float16":
        return values.astype(np.float16).astype(np.float64)
    if type == "int8":
        scale = np.abs(values).max(axis=1, keepdims=True) / 127 if scale is None else scale
        return np.clip(np.rint(values / np.where(scale > 0, scale, 1)), -127, 127) * scale
    if type == "binary":
        return np.where(values > 0, 1.0, -1.0)
    return values


@every_level
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("dim", [1, 3, 31, 32, 33, 64, 100, 767])
@pytest.mark.parametrize(("queries", "count"), [(1, 1), (5, 63), (6, 64), (7, 65), (13, 200)])
def test_scores_are_inner_products_of_what_the_codes_stand_for(level, type, dim, queries, count):
    random = np.random.default_rng(dim + count)
    q, d = (random.normal(size=(n, dim)).astype(np.float32) for n in (queries, count))
    scores, rows = search(level, q, d, type, count)
    expected = at_precision(q, "float32" if type == "float16" else type) @ at_precision(d, type).T
    assert sorted(rows[0].tolist()) == list(range(count))
    # int8: a value half way between two codes may go to either, by a scale's last digit
    slack = 1.5 * np.abs(q).max() * np.abs(d).max() / 127 if type == "int8" else 0.0
    bound = reference.rounding_bound(q, d) + slack
    assert (np.abs(scores - np.take_along_axis(expected, rows, 1)) <= bound).all()
    ordered = np.lexsort((rows, -scores), axis=1)
    assert (ordered == np.arange(count)).all()


@every_level
@pytest.mark.parametrize("type", TYPES)
def test_levels_find_the_same_rows_for_exact_sums(level, type):
    random = np.random.default_rng(3)
    q, d = (random.integers(-3, 4, (n, 40)).astype(np.float32) for n in (9, 300))
    q[:, 0] = d[:, 0] = 127  # the largest value is 127: int8 codes are the values themselves
    expected = (at_precision(q, type) if type == "binary" else q) @ (at_precision(d, type) if type == "binary" else d).T
    best = np.argsort(-expected, axis=1, kind="stable")[:, :20]
    assert (search(level, q, d, type, 20)[1] == best).all()


@every_level
@pytest.mark.parametrize("type", ["int8", "binary", "bfloat16"])
def test_re_scoring_ranks_by_the_rows(level, type):
    random = np.random.default_rng(4)
    q, d = (random.normal(size=(n, 64)).astype(np.float32) for n in (7, 500))
    scores, rows = search(level, q, d, type, 5, rows=d, overfetch=100)  # all of them: the definition's answer
    expected, best = reference.search_topk(q, d, 5)
    assert (rows == best).all()
    np.testing.assert_array_equal(scores, expected.astype(np.float32))
    few, some = search(level, q, d, type, 5, rows=d, overfetch=1)
    assert (np.sort(some, 1) == np.sort(search(level, q, d, type, 5)[1], 1)).all()
    np.testing.assert_allclose(few, np.take_along_axis(q @ d.T, some, 1), rtol=1e-4)


@pytest.mark.parametrize("type", ["int8", "binary"])
@pytest.mark.parametrize("form", ["float16", "bfloat16", "map"])
def test_rows_to_score_again_from_may_be_halves(type, form, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")
    random = np.random.default_rng(8)
    q, d = (random.normal(size=(n, 33)).astype(np.float32) for n in (3, 200))
    if form == "bfloat16":
        given = torch.from_numpy(d).bfloat16()
        rows = given.float().numpy()
    else:
        given = d.astype(np.float16)
        rows = given.astype(np.float32)
    if form == "map":
        np.save(tmp_path / "rows.npy", given)
        given = np.load(tmp_path / "rows.npy", mmap_mode="r")
    found = ops.search_topk(q, ops.pack_documents(d, type), 7, rescore=given, overfetch=1000)
    expected, best = reference.search_topk(q, rows, 7)
    assert (found.rows == best).all()
    np.testing.assert_array_equal(found.scores, expected.astype(np.float32))


@pytest.mark.parametrize("type", TYPES[1:])
def test_halves_are_packed_as_their_values_are(type):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")
    random = np.random.default_rng(9)
    q, d = (random.normal(size=(n, 37)).astype(np.float32) for n in (3, 150))
    for given in (d.astype(np.float16), torch.from_numpy(d).bfloat16()):
        wide = given.float().numpy() if isinstance(given, torch.Tensor) else given.astype(np.float32)
        found, expected = (ops.search_topk(q, ops.pack_documents(rows, type), 20) for rows in (given, wide))
        assert found.rows.tolist() == expected.rows.tolist()
        assert found.scores.tolist() == expected.scores.tolist()


@every_level
def test_halves_of_every_kind_are_read_right(level):
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)].astype(np.float32)[:, None]
    scores, rows = search(level, np.ones((1, 1), np.float32), values, "float16", len(values))
    np.testing.assert_array_equal(scores[0], values[rows[0], 0])
    between = np.nextafter(values, np.float32(np.inf))  # rounds back, ties and denormals among them
    scores, rows = search(level, np.ones((1, 1), np.float32), between, "float16", len(values))
    np.testing.assert_array_equal(scores[0], between[rows[0], 0].astype(np.float16).astype(np.float32))


@every_level
def test_int8_keeps_order_and_clips_case_36(level, cases):
    case = cases / "36-int8-calibration"
    calibration, documents = np.load(case / "calibration.npy"), np.load(case / "documents.npy")
    scales = (np.abs(calibration).max(axis=0) / 127).astype(np.float32)
    for dim in range(documents.shape[1]):
        query = np.zeros((1, documents.shape[1]), np.float32)
        query[0, dim] = 1
        for given in (scales, None):  # calibrated once, and a scale a document
            scores, rows = search(level, query, documents, "int8", len(documents), scales=given)
            decoded = np.empty(len(documents))
            decoded[rows[0]] = scores[0]
            most = 127 * scales[dim] if given is not None else np.inf
            step = scales[dim] if given is not None else np.abs(documents).max(axis=1) / 127
            wanted = np.clip(documents[:, dim], -most, most)
            assert (np.abs(decoded - wanted) <= step * 1.01).all()
            if given is not None:
                assert (np.diff(decoded[np.argsort(documents[:, dim], kind="stable")]) >= 0).all()


@every_level
def test_bits_are_values_above_0_case_37(level, cases):
    case = cases / "37-binary-codes"
    vectors, expected = np.load(case / "vectors.npy"), json.loads((case / "expected.json").read_text())
    bits = np.array(expected["bits"])
    distance = (bits[:, None] != bits[None]).sum(axis=2)
    scores, rows = search(level, vectors, vectors, "binary", len(vectors))
    assert (scores == vectors.shape[1] - 2 * np.take_along_axis(distance, rows, 1)).all()
    assert (rows == np.argsort(distance, axis=1, kind="stable")).all()


def test_a_filter_gives_as_many_as_it_allows_case_15(cases):
    case = cases / "15-filters-and-fewer-than-k"
    expected = json.loads((case / "expected.json").read_text())
    queries, documents = np.load(case / "queries.npy"), np.load(case / "documents.npy")
    packed = [documents, *(ops.pack_documents(documents, dtype) for dtype in ("float32", "float16"))]
    for name, rows in expected["rows"].items():
        allowed = np.load(case / f"allowed_{name}.npy").astype(bool)
        for given in packed:
            for mask in (allowed, np.tile(allowed, (len(queries), 1))):
                assert ops.search_topk(queries, given, expected["k"], allowed=mask).rows.tolist() == rows, name


@every_level
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("share", [0.01, 0.3])  # allowed rows are listed, or groups passed with a mask
@pytest.mark.parametrize("each", [False, True])
def test_a_filter_leaves_out_what_the_whole_ranking_has_besides(level, type, share, each):
    random = np.random.default_rng(6)
    q, d = (random.normal(size=(n, 45)).astype(np.float32) for n in (9, 1000))
    allowed = random.random((len(q), len(d)) if each else (1, len(d))) < share
    words = np.packbits(np.pad(allowed, ((0, 0), (0, -len(d) % 64))), axis=1, bitorder="little").view(np.uint64)
    if level == "numpy":
        packed = numpy_backend.pack_documents(d, type, None)
        scores, rows = numpy_backend.search_topk(q, None, packed, 20, "own", allowed=words)
    else:
        scores, rows = _C.search_topk(q, None, _C.pack_documents(d, type), 20, "own", allowed=words, level=level)
    all_scores, all_rows = search(level, q, d, type, len(d))
    for number in range(len(q)):
        there = allowed[number if each else 0][all_rows[number]]
        wanted = all_rows[number][there][:20]
        assert rows[number][: len(wanted)].tolist() == wanted.tolist()
        ours, theirs = scores[number][: len(wanted)], all_scores[number][there][:20]
        if (level, type) == ("amx", "bfloat16"):  # up to four queries are multiplied by vectors: another order of sums
            assert (np.abs(ours - theirs) <= 2 * reference.rounding_bound(q, d)).all()
        else:
            assert ours.tolist() == theirs.tolist()
        assert (rows[number][len(wanted) :] == -1).all()


def test_queries_may_have_filters_of_different_sizes():
    documents = np.arange(1, 100, dtype=np.float32)[:, None]
    allowed = np.zeros((2, 99), bool)
    allowed[0, [3, 70]] = allowed[1, [98]] = True
    found = ops.search_topk(np.ones((2, 1), np.float32), documents, 5, allowed=allowed)
    assert found.rows.tolist() == [[70, 3], [98, -1]]
    assert found.scores.tolist() == [[71, 4], [99, -np.inf]]


def test_float32_that_is_not_exact_may_be_packed_or_not():
    random = np.random.default_rng(5)
    q, d = (random.normal(size=(n, 48)).astype(np.float32) for n in (11, 700))
    _, best = reference.search_topk(q, d, 4)
    for documents in (d, ops.pack_documents(d)):
        rows = ops.search_topk(q, documents, 4, exact=False, overfetch=30).rows
        assert (rows == best).mean() > 0.95


def test_memory_of_each_precision_is_told():
    documents = np.ones((6400, 96), np.float32)
    if describe().backend != "native":
        pytest.skip("the NumPy packing holds float32")
    sizes = {dtype: ops.pack_documents(documents, dtype).nbytes / 6400 for dtype in TYPES}
    assert sizes["float32"] == sizes["int8"] == pytest.approx(96 + 8, abs=0.2)
    assert sizes["bfloat16"] == sizes["float16"] == pytest.approx(192, abs=0.2)
    assert sizes["binary"] == pytest.approx(12, abs=0.2)


def pack(dtype, **options):
    return lambda q, d: ops.pack_documents(d, dtype, **options)


def find(**options):
    return lambda q, d: ops.search_topk(q, d, **options)


def again(rows):
    return lambda q, d: ops.search_topk(q, ops.pack_documents(d, "int8"), 2, rescore=rows)


def narrower(q, d):
    ops.search_topk(q, ops.pack_documents(d[:, :4].copy(), "int8"))


REFUSED = [
    (pack("int4"), ValueError, "dtype 'int4': expected one of float32, bfloat16"),
    (pack("binary", scales=np.ones(8)), ValueError, "scales belong to int8"),
    (lambda q, d: ops.pack_documents(d.astype(np.float16)), TypeError, "documents are float16, expected float32"),
    (pack("int8", scales=np.ones(7)), ShapeMismatch, r"shape \(7,\), documents have dim 8"),
    (pack("int8", scales=np.zeros(8)), ValueError, "above 0, they are 0.0 to 0.0"),
    (pack("int8", scales=np.array(["1"] * 8)), TypeError, "scales are <U1, expected numbers"),
    (pack(np.dtype("int8")), ValueError, "expected one of float32, bfloat16"),
    (lambda q, d: ops.pack_documents(np.ones((1, 65537), np.float32)), ShapeMismatch, "dim 65537, at most 65536"),
    (find(k=2.5), TypeError, "k must be a whole number, got 2.5"),
    (find(k=100.0), TypeError, "k must be a whole number, got 100.0"),
    (find(overfetch=None), TypeError, "overfetch must be a whole number, got None"),
    (lambda q, d: ops.search_topk(np.ma.masked_array(q), d), TypeError, "queries are a masked array"),
    (lambda q, d: ops.pack_documents(d[0]), ShapeMismatch, r"must be a matrix .* got shape \(8,\)"),
    (narrower, ShapeMismatch, "dim 8, documents have dim 4"),
    (find(overfetch=0), ValueError, "overfetch must be at least 1, got 0"),
    (again(np.ones((3, 8), np.float32)), ShapeMismatch, r"shape \(3, 8\), the documents are 5 of dim 8"),
    (again(np.ones((5, 8))), TypeError, "rescore are float64, expected float32, float16 or torch.bfloat16"),
    (again(np.ones((5, 16), np.float16)[:, ::2]), ValueError, r"strides \(32, 4\), expected adjacent columns"),
    (find(rescore=np.ones((5, 8), np.float32)), ValueError, "rescore belongs to packed documents"),
    (find(allowed=np.ones(5)), TypeError, "allowed is float64, expected bool"),
    (find(allowed=np.ones(4, bool)), ShapeMismatch, r"shape \(4,\), expected \(5,\) or \(2, 5\)"),
]


@pytest.mark.parametrize(("call", "error", "says"), REFUSED)
def test_what_does_not_fit_is_refused_with_both_numbers(call, error, says):
    with pytest.raises(error, match=says):
        call(np.ones((2, 8), np.float32), np.ones((5, 8), np.float32))
