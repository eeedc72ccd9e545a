import json

import numpy as np
import pytest

from leafkit import ops
from leafkit.errors import ShapeMismatch
from leafkit.ops import numpy_backend
from leafkit.ops.backend import describe
from tests import reference

METRICS = ["squared_l2", "l2", "cosine", "huber"]


def _numpy(s, t, metric, widths=None, shares=(1.0,), weights=None, unit=False, delta=1.0):
    return numpy_backend.alignment_loss(s, t, metric, widths or [s.shape[1]], list(shares), weights, unit, delta)


KERNELS = {"numpy": _numpy}
if describe().levels:
    from leafkit import _C

    def _native(level, threads):
        def kernel(s, t, metric, widths=None, shares=(1.0,), weights=None, unit=False, delta=1.0):
            return _C.alignment_loss(
                s, t, metric, widths or [s.shape[1]], list(shares), weights, unit, delta, threads=threads, level=level
            )

        return kernel

    KERNELS |= {f"{level}-{threads}": _native(level, threads) for level in describe().levels for threads in (1, 2)}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


def pair(rows, dim, seed=0):
    random = np.random.default_rng(rows * 100 + dim + seed)
    return (random.normal(size=(rows, dim)).astype(np.float32) for _ in range(2))


def slope_at(value, student, row, column, step=1e-6):
    ends = []
    for side in (step, -step):
        moved = student.astype(np.float64)
        moved[row, column] += side
        ends.append(value(moved))
    return (ends[0] - ends[1]) / (2 * step)


@every_kernel
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("rows", "dim"), [(1, 1), (3, 7), (5, 8), (64, 9), (65, 31), (130, 33), (2, 2500)])
def test_value_and_gradient_are_those_of_the_float64_definition(kernel, metric, rows, dim):
    student, teacher = pair(rows, dim)
    value, gradient = kernel(student, teacher, metric)
    assert value == pytest.approx(reference.alignment_loss(student, teacher, metric), rel=2e-6, abs=1e-6)
    for row, column in {(0, 0), (rows - 1, dim - 1), (rows // 2, dim // 2)}:
        slope = slope_at(lambda s: reference.alignment_loss(s, teacher, metric), student, row, column)
        assert gradient[row, column] == pytest.approx(slope, rel=1e-4, abs=1e-6)


@every_kernel
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("widths", [[2, 5, 16, 17, 41], [32, 33], [8], [41]])
def test_prefixes_shares_and_weights_are_those_of_the_definition(kernel, metric, widths, unit):
    if metric == "huber" and unit:
        return
    student, teacher = pair(6, 41, seed=len(widths))
    random = np.random.default_rng(1)
    shares, weights = list(random.uniform(0, 2, len(widths))), random.uniform(0, 3, 6)
    delta = 0.7
    value, gradient = kernel(student, teacher, metric, widths, shares, weights, unit, delta)

    def definition(s):
        return reference.aligned(s, teacher, metric, widths, shares, weights, unit, delta)

    assert value == pytest.approx(definition(student), rel=2e-6, abs=1e-6)
    for row, column in [(0, 0), (1, 4), (2, 15), (3, 16), (4, 17), (5, 40)]:
        expected = slope_at(definition, student, row, column) if column < widths[-1] else 0.0
        assert gradient[row, column] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@every_kernel
def test_the_sum_is_over_dims_and_the_mean_over_rows_case_03(kernel, cases):
    case = cases / "03-loss-scale"
    expected = json.loads((case / "expected.json").read_text())
    student, teacher = np.load(case / "student.npy"), np.load(case / "teacher.npy")
    value, gradient = kernel(student, teacher, "squared_l2")
    assert value == pytest.approx(expected["squared_l2_mean_over_rows"])
    np.testing.assert_allclose(gradient, expected["gradient_of_squared_l2_mean"], atol=1e-6)
    padded = kernel(np.load(case / "student_padded.npy"), np.load(case / "teacher_padded.npy"), "squared_l2")
    assert padded[0] == pytest.approx(value)
    assert kernel(student, teacher, "l2")[0] == pytest.approx(expected["l2_mean_over_rows"])
    assert kernel(student, teacher, "cosine")[0] == pytest.approx(expected["one_minus_cosine_mean_over_rows"])


@every_kernel
def test_equal_and_zero_rows_have_the_gradients_that_are_stated(kernel):
    row, zero = np.ones((1, 9), np.float32), np.zeros((1, 9), np.float32)
    for unit in (False, True):
        value, gradient = kernel(row, row, "l2", [4, 9], (0.5, 0.5), None, unit)
        assert value == pytest.approx(0, abs=1e-3)
        assert np.abs(gradient).max() < 1e-3
    for student, teacher in ((zero, row), (row, zero)):
        value, gradient = kernel(student, teacher, "cosine")
        assert value == 1
        assert not gradient.any()
        value, gradient = kernel(student, teacher, "squared_l2", [4], (1.0,), None, True)
        assert value == 1  # zeros stay zeros, the other has unit length
        assert not gradient.any()
    assert kernel(zero, zero, "squared_l2", [4], (1.0,), None, True)[0] == 0


@every_kernel
def test_near_vectors_lose_nothing(kernel):
    """2 s - 2 t, formed apart, would be wrong by a hundredth here."""
    student, _ = pair(4, 33)
    teacher = student + np.float32(3e-6)
    apart = student.astype(np.float64) - teacher
    for metric, expected in (
        ("squared_l2", 2 * apart / 4),
        ("l2", apart / np.linalg.norm(apart, axis=1)[:, None] / 4),
        ("huber", apart / 4),
        ("cosine", _cosine_slopes(student, teacher)),
    ):
        gradient = kernel(student, teacher, metric)[1]
        bound = 2e-2 if metric == "cosine" else 1e-5  # of lengths summed in float32
        assert np.linalg.norm(gradient - expected) < bound * np.linalg.norm(expected), metric


def _cosine_slopes(student, teacher):
    s, t = student.astype(np.float64), teacher.astype(np.float64)
    norms = [np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t)]
    cosines = (s * t).sum(1, keepdims=True) / norms[0] / norms[1]
    return (cosines * s / norms[0] ** 2 - t / norms[0] / norms[1]) / len(s)


@every_kernel
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("factor", [1e-30, 1e-20, 1e-8, 1e-3, 0.4, 3.0, 1e4, 1e8, 1e16, 1e20])
def test_directions_are_compared_whatever_the_lengths(kernel, factor, unit):
    """Of cosines and unit prefixes: |s - t|^2 says nothing where one is far longer, and squares may be no float32."""
    _, teacher = pair(5, 70)
    student = ((teacher + 0.3 * next(pair(5, 70, seed=9))) * np.float32(factor)).astype(np.float32)
    metric, widths = ("squared_l2", [33, 69]) if unit else ("cosine", [33, 70])
    shares, weights = [0.25, 0.75], [1.0] * 5
    value, gradient = kernel(student, teacher, metric, widths, shares, None, unit)
    assert value == pytest.approx(
        reference.aligned(student, teacher, metric, widths, shares, weights, unit), rel=1e-5, abs=1e-7
    )
    wanted = np.zeros((5, 70))
    for width, share in zip(widths, shares, strict=True):
        slopes = _cosine_slopes(student[:, :width], teacher[:, :width])
        wanted[:, :width] += share * (2 if unit else 1) * slopes
    bound = 1e-4 * np.linalg.norm(wanted)
    assert np.linalg.norm((gradient - wanted) / bound) < 1


@every_kernel
def test_small_differences_have_a_direction(kernel):
    student = np.full((2, 9), 1e-22, np.float32)
    value, gradient = kernel(student, np.zeros_like(student), "l2")
    assert value == pytest.approx(3e-22)
    np.testing.assert_allclose(gradient, np.full((2, 9), 1 / 6), rtol=1e-5)


@every_kernel
@pytest.mark.parametrize("metric", METRICS)
def test_nan_is_not_hidden(kernel, metric):
    student = np.ones((3, 9), np.float32)
    student[1, 2] = np.nan
    assert np.isnan(kernel(student, np.full((3, 9), 2, np.float32), metric)[0])


def test_misfits_are_refused_with_both_shapes():
    ones = np.ones((2, 3), np.float32)
    with pytest.raises(ShapeMismatch, match=r"\(2, 3\), teacher has shape \(2, 4\)"):
        ops.alignment_loss(ones, np.zeros((2, 4), np.float32))
    with pytest.raises(ShapeMismatch, match="0 rows"):
        ops.alignment_loss(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match="expected one of squared_l2"):
        ops.alignment_loss(ones, ones, "l3")
    for prefixes in ([0, 3], [2, 2], [3, 2], [4], []):
        with pytest.raises(ValueError, match=r"expected rising widths from 1 to 3, each once"):
            ops.alignment_loss(ones, ones, prefixes=prefixes)
    with pytest.raises(ShapeMismatch, match=r"shares have shape \(1,\), expected \(2,\)"):
        ops.alignment_loss(ones, ones, prefixes=[1, 3], shares=[1.0])
    with pytest.raises(ShapeMismatch, match=r"weights have shape \(3,\), expected \(2,\)"):
        ops.alignment_loss(ones, ones, weights=[1.0, 1.0, 1.0])
    for bad in (-1.0, np.nan, np.inf, 1e39):
        with pytest.raises(ValueError, match=r"weights\[1\] is .*expected a number from 0 up"):
            ops.alignment_loss(ones, ones, weights=[1.0, bad])
        with pytest.raises(ValueError, match=r"delta .*: expected a "):
            ops.alignment_loss(ones, ones, "huber", delta=bad)
    with pytest.raises(ValueError, match="not there for huber"):
        ops.alignment_loss(ones, ones, "huber", prefixes=[1, 3], unit_prefixes=True)


def test_a_row_that_is_not_finite_is_named():
    ones, bad = np.ones((3, 4), np.float32), np.ones((3, 4), np.float32)
    bad[2, 1] = np.nan
    for student, teacher, name in ((bad, ones, "student"), (ones, bad, "teacher")):
        with pytest.raises(ValueError, match=f"{name} row 2 of 3 holds a value that is not finite"):
            ops.alignment_loss(student, teacher)
    with pytest.raises(ValueError, match="beyond float32"):
        ops.alignment_loss(np.full((1, 4), 3e38, np.float32), np.full((1, 4), -3e38, np.float32))


def test_losses_of_scores_are_those_of_their_definitions():
    random = np.random.default_rng(3)
    q, p, n = (random.normal(size=(7, 5)).astype(np.float32) for _ in range(3))
    margins = random.normal(size=7)
    value, gradients = ops.margin_mse_loss(q, p, n, margins)

    def margin(q, p, n):
        return np.mean([(a @ b - a @ c - m) ** 2 for a, b, c, m in zip(q, p, n, margins, strict=True)])

    sides = [side.astype(np.float64) for side in (q, p, n)]
    assert value == pytest.approx(margin(*sides), rel=1e-6)
    for place, gradient in enumerate(gradients):
        slope = slope_at(lambda moved, at=place: margin(*sides[:at], moved, *sides[at + 1 :]), sides[place], 4, 2)
        assert gradient[4, 2] == pytest.approx(slope, rel=1e-4)

    value, gradients = ops.score_mse_loss(q, p, margins)
    definition = np.mean([(a @ b - m) ** 2 for a, b, m in zip(*sides[:2], margins, strict=True)])
    assert value == pytest.approx(definition, rel=1e-6)
    errors = (sides[0] * sides[1]).sum(1) - margins
    np.testing.assert_allclose(gradients[0], 2 * errors[:, None] * sides[1] / 7, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradients[1], 2 * errors[:, None] * sides[0] / 7, rtol=1e-4, atol=1e-6)

    with pytest.raises(ShapeMismatch, match=r"query has shape \(7, 5\), negative has shape \(6, 5\)"):
        ops.margin_mse_loss(q, p, n[:6], margins)
    with pytest.raises(ShapeMismatch, match=r"margins have shape \(6,\), expected \(7,\)"):
        ops.margin_mse_loss(q, p, n, margins[:6])
    with pytest.raises(ValueError, match="scores row 0 of 7 holds"):
        ops.score_mse_loss(q, p, np.full(7, np.nan))
