import json

import numpy as np
import pytest

from leafkit import ops
from leafkit.errors import ShapeMismatch
from leafkit.ops import numpy_backend
from leafkit.ops.backend import describe
from tests import reference

METRICS = ["squared_l2", "l2", "cosine"]
KERNELS = {"numpy": lambda s, t, metric: numpy_backend.alignment_loss(s, t, metric)}
if describe().levels:
    from leafkit import _C

    for _level in describe().levels:
        for _threads in (1, 2):
            KERNELS[f"{_level}-{_threads}"] = lambda s, t, metric, level=_level, threads=_threads: _C.alignment_loss(
                s, t, metric, threads=threads, level=level
            )
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


@every_kernel
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("rows", "dim"), [(1, 1), (3, 7), (5, 8), (64, 9), (65, 31), (130, 33)])
def test_value_and_gradient_are_those_of_the_float64_definition(kernel, metric, rows, dim):
    random = np.random.default_rng(rows * 100 + dim)
    student, teacher = (random.normal(size=(rows, dim)).astype(np.float32) for _ in range(2))
    value, gradient = kernel(student, teacher, metric)
    assert value == pytest.approx(reference.alignment_loss(student, teacher, metric), rel=1e-12)
    step = 1e-6
    for row, column in {(0, 0), (rows - 1, dim - 1), (rows // 2, dim // 2)}:
        up, down = student.astype(np.float64), student.astype(np.float64)
        up[row, column] += step
        down[row, column] -= step
        slope = (reference.alignment_loss(up, teacher, metric) - reference.alignment_loss(down, teacher, metric)) / (
            2 * step
        )
        assert gradient[row, column] == pytest.approx(slope, rel=1e-4, abs=1e-7)


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
    assert kernel(row, row, "l2")[0] == 0
    assert not kernel(row, row, "l2")[1].any()
    for student, teacher in ((zero, row), (row, zero)):
        value, gradient = kernel(student, teacher, "cosine")
        assert value == 1
        assert not gradient.any()


@every_kernel
@pytest.mark.parametrize("metric", METRICS)
def test_nan_is_not_hidden(kernel, metric):
    student = np.ones((3, 9), np.float32)
    student[1, 2] = np.nan
    assert np.isnan(kernel(student, np.full((3, 9), 2, np.float32), metric)[0])


def test_misfits_are_refused_with_both_shapes():
    with pytest.raises(ShapeMismatch, match=r"\(2, 3\), teacher has shape \(2, 4\)"):
        ops.alignment_loss(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
    with pytest.raises(ShapeMismatch, match="0 rows"):
        ops.alignment_loss(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match="expected one of squared_l2"):
        ops.alignment_loss(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32), "l3")
