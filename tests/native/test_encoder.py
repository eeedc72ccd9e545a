"""The encoder's kernels at every level against float64, in float32 and bfloat16."""

import itertools

import numpy as np
import pytest

from tests import reference

_C = pytest.importorskip("leafkit._C", reason="no native module was built")
torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

TYPES = ("float32", "bfloat16")
UNIT = {"float32": 2.0**-24, "bfloat16": 2.0**-8}  # a rounding loses at most this much of a value
LEVELS = _C.levels()
each_level = pytest.mark.parametrize("level", LEVELS)
each_type = pytest.mark.parametrize("dtype", TYPES)


def stored(values, dtype):
    """Values as a kernel takes them: float32, or the bits of bfloat16."""
    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(getattr(torch, dtype))
    return (tensor.view(torch.uint16) if dtype == "bfloat16" else tensor).numpy().copy()


def real(array):
    """What stored values stand for, in float64."""
    if array.dtype == np.uint16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def empty(shape, dtype):
    """An output full of NaN: what is not written shows."""
    return stored(np.full(shape, np.nan), dtype)


def attention_case(lengths, heads, dim, dtype, behind=0):
    random = np.random.default_rng(sum(lengths) + dim)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows, hidden = int(starts[-1]) + behind, heads * dim
    qkv, gradient = (stored(random.normal(size=(rows, width)), dtype) for width in (3 * hidden, hidden))
    return qkv, random.normal(size=3 * hidden).astype(np.float32), starts, gradient


def attended(qkv, bias, starts, heads, gradient, dtype, level, threads=1):
    rows, width = qkv.shape
    out, back = empty((rows, width // 3), dtype), empty((rows, width), dtype)
    kept = np.full((heads, rows, 2), np.nan, np.float32)
    _C.attend(qkv, bias, starts, heads, out, kept, threads, level)
    _C.attend_backward(qkv, bias, starts, heads, out, kept, gradient, back, threads, level)
    return out, back


def plain_attention(qkv, bias, starts, heads, gradient, dtype):
    """The same in torch's operations, each rounded to the type."""
    x = torch.from_numpy(real(qkv)).to(getattr(torch, dtype)).requires_grad_()
    g = torch.from_numpy(real(gradient)).to(x.dtype)
    shifted, outs = x + torch.from_numpy(bias).to(x.dtype), []
    for first, last in itertools.pairwise(starts.tolist()):
        q, k, v = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in shifted[first:last].chunk(3, dim=1))
        weights = torch.softmax(q @ k.transpose(1, 2) / q.shape[2] ** 0.5, dim=-1)
        outs.append((weights @ v).transpose(0, 1).flatten(1))
    out = torch.cat(outs)
    out.backward(g)
    return out.detach().double().numpy(), x.grad.double().numpy()


@each_level
@each_type
@pytest.mark.parametrize("dim", [16, 32, 48, 64])
@pytest.mark.parametrize("lengths", [range(1, 18), (64,), (65, 31), (257, 1), (128, 33, 96)], ids=str)
def test_attention_errs_no_more_than_twice_what_plain_operations_of_its_type_do(level, dtype, dim, lengths):
    qkv, bias, starts, gradient = attention_case(lengths, 3, dim, dtype)
    assert_attends(qkv, bias, starts, gradient, dtype, level)


@each_level
@each_type
def test_padding_weighs_nothing_beside_scores_far_below_its_own(level, dtype):
    qkv, bias, starts, gradient = attention_case((5, 19, 21, 35), 3, 32, dtype)
    bias[:96] += 7  # of queries
    bias[96:192] -= 7  # of keys: scores are about -270, those of padding 0, and beyond what an exponent holds
    assert_attends(qkv, bias, starts, gradient, dtype, level)


def assert_attends(qkv, bias, starts, gradient, dtype, level):
    found = attended(qkv, bias, starts, 3, gradient, dtype, level)
    exact = reference.attend(real(qkv), bias.astype(np.float64), starts, 3, real(gradient))
    plain = plain_attention(qkv, bias, starts, 3, gradient, dtype)
    dim = qkv.shape[1] // 9
    for ours, truth, theirs in zip(found, exact, plain, strict=True):
        # Where plain operations happen to be exact (one token has weight 1) there are still the roundings of inputs
        # with their bias, of the output, and of the sums over dim that a token's slope is the difference of.
        floor = 4 * UNIT[dtype] * np.abs(truth).max() + 4 * dim * UNIT["float32"] * np.abs(real(gradient)).max()
        assert np.abs(real(ours) - truth).max() <= 2 * np.abs(theirs - truth).max() + floor


@each_level
@each_type
def test_rows_behind_the_last_text_come_out_as_zeros(level, dtype):
    qkv, bias, starts, gradient = attention_case((5, 20), 2, 32, dtype, behind=7)
    qkv[25:] = stored(np.full((7, 192), np.nan), dtype)
    for rows in attended(qkv, bias, starts, 2, gradient, dtype, level):
        assert np.isfinite(real(rows)).all()
        assert (real(rows)[25:] == 0).all()
    back = empty((32, 64), dtype)
    _C.pool_backward(np.ones((2, 64), np.float32), starts, True, back, 1, level)
    assert (real(back)[25:] == 0).all()


@each_level
@each_type
def test_nan_spreads_in_its_text_and_head_and_nowhere_else(level, dtype):
    qkv, bias, starts, gradient = attention_case((6, 9, 40), 2, 16, dtype)
    qkv[8, 32 + 3] = stored([np.nan], dtype)[0]  # a key of the second text, first head
    out, back = attended(qkv, bias, starts, 2, gradient, dtype, level)
    assert np.isnan(real(out)[6:15, :16]).all()
    assert np.isfinite(real(out)[:6]).all()
    assert np.isfinite(real(out)[15:]).all()
    assert np.isfinite(real(out)[:, 16:]).all()
    assert np.isnan(real(back)[6:15, :16]).all()
    assert np.isfinite(real(back)[15:]).all()


@each_level
@each_type
def test_results_are_the_same_bits_for_any_number_of_threads(level, dtype):
    qkv, bias, starts, gradient = attention_case((30, 1, 77, 129, 8), 2, 32, dtype)
    one, three = (attended(qkv, bias, starts, 2, gradient, dtype, level, threads) for threads in (1, 3))
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a, b)
    scale = np.linspace(-1, 2, 192, dtype=np.float32)
    results = []
    for threads in (1, 3):
        back, sums = empty(qkv.shape, dtype), [np.empty(192, np.float32) for _ in range(3)]
        _C.normalize_backward(qkv, None, None, scale, scale, 1e-12, qkv, None, back, sums[0], sums[1], threads, level)
        turned = empty(qkv.shape[::-1], dtype)
        _C.transpose(back, None, turned, sums[2], threads, level)
        results.append([back, turned, *sums])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@each_level
@each_type
def test_gelu_and_its_slope_are_within_roundings_of_the_definition(level, dtype):
    width = 48
    grid = np.concatenate([np.linspace(-14, 14, 50 * width - 4), [-100, 100, 3e4, -3e4]]).reshape(-1, width)
    bias = np.linspace(-1, 1, width).astype(np.float32)
    rows, out = stored(grid, dtype), empty(grid.shape, dtype)
    x = (real(rows).astype(np.float32) + bias).astype(np.float64)
    _C.gelu(rows, bias, out, 1, level)
    value, slope = reference.gelu(x)
    # exp(-x^2 / 2) is formed to (4 + x^2) roundings, the polynomial and Phi to a few, the result to one of its type.
    ones = (8 + np.minimum(x**2, 200)) * UNIT["float32"]
    tail = np.exp(-0.5 * x**2) + 1e-37
    assert (np.abs(real(out) - value) <= UNIT[dtype] * np.abs(value) + np.abs(x) * (ones * tail + 2.0**-23)).all()
    assert (np.abs(real(rows) - slope) <= UNIT[dtype] * np.abs(slope) + (1 + np.abs(x)) * ones * tail + 2.0**-22).all()
    rows = stored(np.full((1, width), np.nan), dtype)
    _C.gelu(rows, bias, out[:1], 1, level)
    assert np.isnan(real(out[0])).all()
    assert np.isnan(real(rows)).all()


@each_level
@pytest.mark.parametrize(
    ("taken", "given"), [("float32", "float32"), ("bfloat16", "bfloat16"), ("float32", "bfloat16")]
)
@pytest.mark.parametrize(("rows", "width"), [(1, 16), (7, 48), (65, 384), (130, 16)])
@pytest.mark.parametrize("parts", [1, 2])
def test_layer_norm_is_within_roundings_of_the_definition(level, taken, given, rows, width, parts):
    random = np.random.default_rng(rows)
    x, residual = (stored(random.normal(size=(rows, width)), taken) for _ in range(2))
    bias, scale, shift = random.normal(size=(3, width)).astype(np.float32)
    first, second = (stored(random.normal(size=(rows, width)), given) for _ in range(2))
    extra = (bias, residual) if parts == 2 else (None, None)
    out, back = empty((rows, width), given), empty((rows, width), taken)
    of_scale, of_shift = np.full((2, width), np.nan, np.float32)
    _C.normalize(x, *extra, scale, shift, 1e-12, out, 1, level)
    more = second if parts == 2 else None
    _C.normalize_backward(x, *extra, scale, shift, 1e-12, first, more, back, of_scale, of_shift, 1, level)
    total = real(x) + (bias.astype(np.float64) + real(residual) if parts == 2 else 0)
    gradient = real(first) + (real(second) if parts == 2 else 0)
    exact = reference.normalize(total, scale.astype(np.float64), shift.astype(np.float64), 1e-12, gradient)
    # A row's sums of `width` terms lose at most width roundings of their largest partial sum; a column's, rows.
    deviation = total.std(axis=1).min()
    lost = (width + 16) * UNIT["float32"] * (1 + np.abs(total).max() / deviation)
    largest = np.abs(gradient).max() * max(1, np.abs(scale).max()) * (1 + np.abs(total).max() / deviation)
    bounds = [
        UNIT[given] * np.abs(exact[0]) + 4 * lost * np.abs(scale).max(),
        UNIT[taken] * np.abs(exact[1]) + 8 * lost * largest / deviation,
        (rows + 4) * lost * largest,
        rows * rows * UNIT["float32"] * largest,
    ]
    for ours, truth, bound in zip((out, back, of_scale, of_shift), exact, bounds, strict=True):
        assert (np.abs(real(ours) - truth) <= bound).all()


@each_level
@each_type
@pytest.mark.parametrize(("rows", "width"), [(1, 16), (15, 48), (32, 64), (77, 80), (130, 144)])
def test_the_transpose_is_exact_and_carries_the_columns_sums(level, dtype, rows, width):
    random = np.random.default_rng(rows)
    x, factor = (stored(random.normal(size=(rows, width)), dtype) for _ in range(2))
    product = real(stored(real(x) * real(factor), dtype))
    for by in (None, factor):
        given, turned, sums = x.copy(), empty((width, rows), dtype), np.full(width, np.nan, np.float32)
        _C.transpose(given, by, turned, sums, 1, level)
        expected = real(x) if by is None else product
        np.testing.assert_array_equal(real(given), expected)
        np.testing.assert_array_equal(real(turned), expected.T)
        assert (np.abs(sums - expected.sum(axis=0)) <= rows * UNIT["float32"] * np.abs(expected).sum(axis=0)).all()


@each_level
@each_type
@pytest.mark.parametrize("mean", [True, False])
def test_pooling_takes_the_mean_or_the_first_row_and_gives_its_gradient_back(level, dtype, mean):
    random = np.random.default_rng(3)
    starts = np.array([0, 1, 4, 40], np.int64)
    x, gradient = stored(random.normal(size=(40, 32)), dtype), random.normal(size=(3, 32)).astype(np.float32)
    out, back = np.full((3, 32), np.nan, np.float32), empty((40, 32), dtype)
    _C.pool(x, starts, mean, out, 1, level)
    _C.pool_backward(gradient, starts, mean, back, 1, level)
    for text, (first, last) in enumerate(itertools.pairwise(starts.tolist())):
        rows = real(x)[first:last]
        bound = (last - first + 2) * UNIT["float32"] * np.abs(rows).max()
        assert (np.abs(out[text] - (rows.mean(axis=0) if mean else rows[0])) <= bound).all()
        expected = np.zeros_like(rows)
        expected[: None if mean else 1] = gradient[text].astype(np.float64) / (last - first if mean else 1)
        assert (np.abs(real(back)[first:last] - expected) <= 2 * UNIT[dtype] * np.abs(expected)).all()


FLOATS = np.zeros((8, 96), np.float32)
MISFITS = [  # starts, heads, bias, what the error says
    ([0, 5, 5], 2, 96, r"starts\[2\] is 5 after 5"),
    ([0, 9], 2, 96, "expected 0 to at most 8 rows"),
    ([1, 8], 2, 96, "starts go from 1"),
    ([0, 8], 3, 96, "width 96 and 3 heads"),
    ([0, 8], 2, 95, r"bias has shape \(95\), expected \(96\)"),
]


@pytest.mark.parametrize(("starts", "heads", "bias", "message"), MISFITS)
def test_arrays_that_do_not_fit_are_refused_with_both_numbers(starts, heads, bias, message):
    kept, bias = np.zeros((heads, 8, 2), np.float32), np.zeros(bias, np.float32)
    with pytest.raises(ValueError, match=message):
        _C.attend(FLOATS, bias, np.array(starts, np.int64), heads, np.zeros((8, 32), np.float32), kept)
