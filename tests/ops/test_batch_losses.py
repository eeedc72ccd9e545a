"""Losses of a batch against their float64 definitions: every level, odd sizes, products in both precisions."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leafkit import ops
from leafkit.errors import ShapeMismatch
from leafkit.ops import numpy_losses
from leafkit.ops.backend import describe
from tests import reference

TEMPERATURE = 0.05
NAMES = ("relational_loss", "listwise_kl_loss", "contrastive_loss")
KERNELS = {"numpy": numpy_losses}
if describe().levels:
    from leafkit import _C

    KERNELS |= dict.fromkeys(describe().levels, _C)
every_kernel = pytest.mark.parametrize("level", KERNELS)
every_loss = pytest.mark.parametrize("name", NAMES)
# rows and dims on both sides of what is padded to (32), of a block of rows (128), of texts (256), of columns (512)
SIZES = [(2, 3), (33, 7), (32, 32), (100, 64), (129, 1), (257, 40), (300, 129), (545, 96), (800, 33)]


def run(level, name, student, teacher, exact=True, threads=1, temperature=TEMPERATURE):
    kernel = getattr(KERNELS[level], name)
    middle = () if name == "relational_loss" else (temperature,)
    options = {} if level == "numpy" else {"level": level}
    return kernel(student, teacher, *middle, exact, threads, **options)


def truth(name, student, teacher, temperature=TEMPERATURE):
    middle = () if name == "relational_loss" else (temperature,)
    return getattr(reference, name)(student, teacher, *middle)


def batch(rows, dim, seed=0, apart=0.5):
    random = np.random.default_rng(1000 * rows + dim + seed)
    teacher = random.normal(size=(rows, dim))
    student = teacher + apart * random.normal(size=(rows, dim))
    return [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (student, teacher)]


def error(found, expected, scale=1e-9):
    return np.linalg.norm(found - expected) / max(np.linalg.norm(expected), scale)


@every_kernel
@every_loss
@pytest.mark.parametrize(("rows", "dim"), SIZES)
def test_value_and_gradient_are_those_of_the_definition(level, name, rows, dim):
    student, teacher = batch(rows, dim)
    value, gradient = truth(name, student, teacher)
    found, slopes = run(level, name, student, teacher)
    assert found == pytest.approx(value, rel=2e-5, abs=2e-6)
    assert error(slopes, gradient, scale=0.1 / TEMPERATURE) < 2e-5
    found, slopes = run(level, name, student, teacher, exact=False)
    assert found == pytest.approx(value, rel=2e-2, abs=1e-4)
    assert error(slopes, gradient, scale=0.1) < 2e-2


@pytest.mark.parametrize("level", [level for level in KERNELS if level != "numpy"])
@every_loss
@pytest.mark.parametrize("rows", [300, 800])
def test_threads_change_no_bit(level, name, rows):
    student, teacher = batch(rows, 48)
    one = run(level, name, student, teacher, exact=False)
    for threads in (2, 3):
        many = run(level, name, student, teacher, exact=False, threads=threads)
        assert one[0] == many[0]
        np.testing.assert_array_equal(one[1], many[1])


@every_kernel
@every_loss
def test_a_student_that_is_its_teacher(level, name):
    teacher = batch(200, 40)[1]
    value, gradient = run(level, name, teacher, teacher, exact=False)
    if name == "contrastive_loss":  # its own is not all that is near
        expected, slopes = truth(name, teacher, teacher)
        assert value == pytest.approx(expected, rel=2e-2)
        assert error(gradient, slopes) < 2e-2
    else:
        assert value == pytest.approx(0, abs=1e-7)
        assert np.abs(gradient).max() < 1e-8


@every_kernel
def test_relational_gradients_of_near_vectors_are_not_lost_in_half_precision(level):
    """s s' - t t', formed from two products in bfloat16, would be noise here."""
    for rows in (40, 300):
        teacher = batch(rows, 64)[1]
        student = teacher + np.random.default_rng(1).normal(size=teacher.shape).astype(np.float32) * 1e-4
        value, gradient = truth("relational_loss", student, teacher)
        found, slopes = run(level, "relational_loss", student, teacher, exact=False)
        assert found == pytest.approx(value, rel=2e-2)
        assert error(slopes, gradient) < 1e-2


@every_kernel
@pytest.mark.parametrize(("rows", "dim"), [(300, 64), (60, 70)])
@pytest.mark.parametrize("noise", [0.0, 1e-3, 1e-2])
def test_a_teacher_turned_is_compared_in_float32(level, rows, dim, noise):
    """The loss knows similarities alone, so there e s' and t e' cancel."""
    random = np.random.default_rng(rows)
    teacher, _ = batch(rows, dim)
    student = np.roll(teacher, 1, axis=1) + noise * random.normal(size=teacher.shape) / np.sqrt(dim)
    student = (student / np.linalg.norm(student, axis=1, keepdims=True)).astype(np.float32)
    value, gradient = reference.relational_loss(student, teacher)
    found, slopes = run(level, "relational_loss", student, teacher, exact=False)
    assert found >= 0
    assert found == pytest.approx(value, rel=1e-2, abs=5e-9)
    assert error(slopes, gradient, scale=1e-4) < 2e-2


@every_kernel
@every_loss
def test_small_temperatures_equal_and_zero_rows(level, name):
    student, teacher = batch(150, 20)
    student[3] = student[90]
    teacher[3] = teacher[90]
    student[7] = teacher[8] = 0
    for temperature in (1e-3, 1.0, 100.0):
        value, gradient = truth(name, student, teacher, temperature)
        found, slopes = run(level, name, student, teacher, temperature=temperature)
        assert found == pytest.approx(value, rel=1e-4, abs=1e-6)
        assert error(slopes, gradient, scale=1e-4) < 1e-3


@every_kernel
def test_a_document_far_nearer_than_all_others_leaves_the_slope_of_the_rest(level):
    """At such a temperature the own document has all the weight but e^-20: 1 - p would be 0."""
    teacher = np.eye(40, dtype=np.float32)
    value, gradient = truth("contrastive_loss", teacher, teacher, 0.05)
    found, slopes = run(level, "contrastive_loss", teacher, teacher)
    assert 0 < value < 1e-6
    assert found == pytest.approx(value, rel=1e-4)
    assert error(slopes, gradient, scale=0) < 1e-4


@every_kernel
def test_a_text_alone_has_no_rival(level):
    student, teacher = batch(1, 9)
    value, gradient = run(level, "contrastive_loss", student, teacher)
    assert value == pytest.approx(0, abs=1e-9)
    assert np.abs(gradient).max() < 1e-9


@every_kernel
@every_loss
def test_rows_apart_and_views_are_read_in_place(level, name):
    student, teacher = batch(70, 33)
    wide = np.full((70, 50), np.nan, np.float32)
    wide[:, :33] = student
    np.testing.assert_array_equal(run(level, name, wide[:, :33], teacher)[1], run(level, name, student, teacher)[1])


@every_kernel
@every_loss
def test_rows_that_are_not_finite_are_named(level, name):
    student, teacher = batch(70, 33)
    for which, bad in enumerate((np.nan, np.inf)):
        sides = [student.copy(), teacher.copy()]
        sides[which][65, 32] = bad
        with pytest.raises(ValueError, match=f"{('student', 'teacher')[which]} row 65 of 70 holds a value"):
            run(level, name, *sides)


@pytest.mark.parametrize("level", [level for level in KERNELS if level != "numpy"])
def test_products_beyond_float32_are_refused(level):
    huge = np.full((40, 3), 1e25, np.float32)
    with pytest.raises(ValueError, match="beyond float32"):
        run(level, "relational_loss", huge, -huge * 2)


def test_what_float32_cannot_tell_apart_is_refused():
    student, teacher = batch(40, 24)
    for loss in (ops.contrastive_loss, ops.listwise_kl_loss):
        with pytest.raises(ValueError, match=r"products may reach 100 at temperature 1e-07, more than 1e\+08 times it"):
            loss(student * np.float32(10), teacher * np.float32(10), 1e-7)
        with pytest.raises(ValueError, match="normalise the vectors"):
            loss(student * np.float32(1e16), teacher * np.float32(1e16))
        large = loss(student, teacher, 1.1e-8, exact=True)
        assert np.isfinite(large[0])
        assert np.isfinite(large[1]).all()
        small = loss(student, teacher, 1e18)
        assert small[0] == pytest.approx(truth(loss.__name__, student, teacher, 1e18)[0], abs=1e-6)
    for loss in (ops.relational_loss, ops.relative_similarity_loss):
        with pytest.raises(ValueError, match=r"a row is 1e\+14 long, expected at most 1e\+12"):
            loss(student, teacher * np.float32(1e14))
        value, gradient = loss(student * np.float32(9e11), teacher)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    with pytest.raises(ValueError, match="the gradient reaches .* beyond float32"):
        ops.margin_mse_loss(*[student * np.float32(1e18)] * 2, teacher, np.zeros(40))
    with pytest.raises(ValueError, match=r"weights\[0\] is 1e\+300: expected a number from 0 up"):
        ops.alignment_loss(student, teacher, weights=[1e300] * 40)
    with pytest.raises(TypeError, match="temperature is None, expected a number"):
        ops.contrastive_loss(student, teacher, None)


def test_misfits_are_refused():
    ones = np.ones((3, 4), np.float32)
    for loss in (ops.relational_loss, ops.listwise_kl_loss, ops.contrastive_loss, ops.relative_similarity_loss):
        with pytest.raises(ShapeMismatch, match=r"\(3, 4\), teacher has shape \(3, 5\)"):
            loss(ones, np.ones((3, 5), np.float32))
        with pytest.raises(ShapeMismatch, match="0 rows"):
            loss(ones[:0], ones[:0])
    for loss in (ops.listwise_kl_loss, ops.contrastive_loss):
        for temperature in (0, -1.0, np.nan, np.inf, 1e-9, 1e30):
            with pytest.raises(ValueError, match=re.escape(f"temperature {temperature}: expected a ")):
                loss(ones, ones, temperature)
    for loss in (ops.listwise_kl_loss, ops.relative_similarity_loss):
        with pytest.raises(ShapeMismatch, match="1 row, expected at least 2"):
            loss(ones[:1], ones[:1])
    with pytest.raises(ValueError, match=r"margin -0.1: expected a number from 0 up"):
        ops.relative_similarity_loss(ones, ones, -0.1)


hinges = {"numpy": numpy_losses.relative_hinge} | ({"native": _C.relative_hinge} if describe().levels else {})
few = st.sampled_from([-0.5, -0.25, 0.0, 0.25, 0.5])  # ties, and differences equal to the margin
many = st.integers(-4096, 4096).map(lambda number: number / 4096)  # differences are exact, so that edges are


@pytest.mark.parametrize("hinge", hinges.values(), ids=hinges.keys())
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(few | many, few | many), min_size=1, max_size=40))
def test_the_hinge_between_pairs_is_that_of_the_definition(hinge, scores):
    student, teacher = (np.array(column, np.float32) for column in zip(*scores, strict=True))
    value, slopes = hinge(student, teacher, 0.25)
    expected, expected_slopes = reference.relative_hinge(student, teacher, 0.25)
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(slopes, expected_slopes, atol=1e-12)


def test_relative_similarities_reach_the_student():
    student, teacher = batch(12, 5)
    value, gradient = ops.relative_similarity_loss(student, teacher, 0.1)

    def definition(s):
        upper = np.triu_indices(12, 1)
        return reference.relative_hinge((s @ s.T)[upper], (teacher.astype(np.float64) @ teacher.T)[upper], 0.1)[0]

    assert value == pytest.approx(definition(student.astype(np.float64)), rel=1e-5)
    for row, column in [(0, 0), (5, 3), (11, 4)]:
        ends = []
        for step in (1e-7, -1e-7):
            moved = student.astype(np.float64)
            moved[row, column] += step
            ends.append(definition(moved))
        assert gradient[row, column] == pytest.approx((ends[0] - ends[1]) / 2e-7, rel=1e-3, abs=1e-6)


@every_loss
def test_memory_beside_the_inputs_stays_small(name):
    """64 MiB of scores for every pair would show; 20 MiB are the gradient and what is formed once of every text."""
    code = f"""
import resource, numpy as np
from leafkit import _C
x = np.random.default_rng(0).normal(size=(4096, 256)).astype(np.float32)
y = x + 0.1
_C.{name}(x[:64], y[:64], {"" if name == "relational_loss" else "0.05,"} threads=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
_C.{name}(x, y, {"" if name == "relational_loss" else "0.05,"} threads=1)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    if not describe().levels or "san" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("no native module was built, or a sanitizer keeps memory of its own")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert float(done.stdout) < 32
