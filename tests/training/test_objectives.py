import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit.errors import RecipeError, ShapeMismatch  # after the skip
from leafkit.ops.torch import alignment_loss
from leafkit.training import Objective
from tests import reference

METRICS = ["squared_l2", "l2", "cosine"]
EPS = float(np.finfo(np.float32).eps)


def matrices(rows=13, dim=24, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(rows, dim)).astype(np.float32) / np.float32(dim**0.5) for _ in range(2)]


def weights(rows=13):
    return np.random.default_rng(7).random(rows).astype(np.float32) * 3


def as_tensors(*arrays):
    return [torch.from_numpy(array.copy()) for array in arrays]


def bound(dim, value):
    """Float32 sums of dim products err by (dim + 4) eps of the sum of their sizes; two such enter a distance twice."""
    return 8 * (dim + 4) * EPS * (1 + value)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("prefixes", [(), (24,), (8,), (5, 24, 1, 16)])
def test_the_loss_is_that_of_the_float64_definition(metric, normalized, weighted, prefixes):
    student, teacher = matrices()
    row_weights = weights() if weighted else None
    value = Objective(metric, prefixes, normalized)(*as_tensors(student, teacher), *as_tensors(*[weights()] * weighted))
    expected = reference.objective(student, teacher, metric, prefixes, normalized, row_weights)
    assert value.shape == ()
    assert float(value) == pytest.approx(expected, abs=3 * bound(24, expected))  # weights are up to 3


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("prefixes", [(), (7, 24)])
def test_weights_of_one_change_neither_loss_nor_gradient(metric, prefixes):
    student, teacher = as_tensors(*matrices())
    gradients = []
    for ones in (None, torch.ones(13)):
        student.requires_grad_(True).grad = None
        value = Objective(metric, prefixes)(student, teacher, ones)
        value.backward()
        gradients.append((float(value.detach()), student.grad))
    assert gradients[0][0] == pytest.approx(gradients[1][0], abs=bound(24, gradients[0][0]))
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-5, atol=bound(24, 0))


@pytest.mark.parametrize("weighted", [True, False])
def test_the_ranking_term_is_the_divergence_of_the_float64_definition(weighted):
    student, teacher = matrices()
    documents = 3 * matrices(rows=40, seed=3)[0]
    rows = weights() if weighted else np.ones(13, np.float32)
    tensors = as_tensors(student, teacher, *[rows] * weighted)
    found = Objective(ranking=0.7)(*tensors, documents=as_tensors(documents)[0]) - Objective()(*tensors)
    expected = 0.7 * float((rows * reference.ranking(student, teacher, documents)).mean())
    assert expected > 0.5
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_the_ranking_term_is_0_and_flat_where_scores_are_the_teachers():
    teacher, documents = as_tensors(matrices()[0], matrices(rows=40, seed=3)[0])
    student = teacher.clone().requires_grad_(True)
    value = Objective(ranking=1.0)(student, teacher, documents=documents)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-5)
    assert float(student.grad.abs().max()) < 1e-4
    assert float(Objective(ranking=1.0)(student, teacher).detach()) == 0  # without documents there is no term


def test_without_weights_at_one_width_it_is_the_fused_operation():
    student, teacher = as_tensors(*matrices())
    for metric in METRICS:
        assert torch.equal(Objective(metric)(student, teacher), alignment_loss(student, teacher, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("normalized", [True, False])
def test_gradients_are_the_slopes_of_the_loss(metric, normalized):
    student, teacher = (torch.from_numpy(matrix).double() for matrix in matrices(rows=4, dim=6))
    objective = Objective(metric, (2, 6), normalized)
    row_weights = torch.tensor([0.5, 2.0, 0.0, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: objective(s, teacher, row_weights), student.requires_grad_(True))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("weighted", [True, False])
def test_rows_without_a_slope_have_no_gradient_and_hurt_no_other(metric, weighted):
    student, teacher = matrices(rows=3)
    student[0] = teacher[0]
    student[1, :8] = 0  # a prefix of zeros
    student[2] = 0
    s, t = as_tensors(student, teacher)
    row_weights = torch.ones(3) if weighted else None
    Objective(metric, (8, 24))(s.requires_grad_(True), t, row_weights).backward()
    assert torch.isfinite(s.grad).all()
    assert s.grad.abs().max() < 100  # a floor under the norm of zeros would give 1e12
    assert s.grad[0].abs().max() <= bound(24, 1)
    value = float(Objective(metric, (8, 24))(s, t, row_weights).detach())
    assert value == pytest.approx(reference.objective(student, teacher, metric, (8, 24)), abs=bound(24, value))


def test_a_batch_of_light_rows_counts_less():
    student, teacher = as_tensors(*matrices())
    whole = float(Objective()(student, teacher))
    assert float(Objective()(student, teacher, torch.full((13,), 0.25))) == pytest.approx(whole / 4, rel=1e-5)


BAD = [
    ({"metric": "l3"}, "metric 'l3': expected one of squared_l2"),
    ({"prefixes": (8, 0)}, "prefix 0: expected at least 1"),
    ({"prefixes": (-4,)}, "prefix -4: expected at least 1"),
    ({"prefixes": (8, 4, 8)}, "prefix 8 is named 2 times, expected once"),
]


@pytest.mark.parametrize(("fields", "says"), BAD)
def test_an_objective_that_cannot_be_meant_is_refused(fields, says):
    with pytest.raises(RecipeError, match=says):
        Objective(**fields)


MISFITS = [
    (Objective(), (3, 24), (3, 32), None, ShapeMismatch, r"student has shape \(3, 24\), teacher has shape \(3, 32\)"),
    (Objective(), (3, 24), (3, 24), 4, ShapeMismatch, r"weights have shape \(4,\), expected \(3,\)"),
    (Objective(prefixes=(8, 25)), (3, 24), (3, 24), None, RecipeError, "prefix 25, the vectors have 24 dims"),
    (Objective(prefixes=(1, 2, 3)), (3, 2), (3, 2), None, RecipeError, "3 prefixes, the vectors have 2 dims"),
]


@pytest.mark.parametrize(("objective", "student", "teacher", "rows", "error", "says"), MISFITS)
def test_what_does_not_fit_is_refused_with_both_numbers(objective, student, teacher, rows, error, says):
    with pytest.raises(error, match=says):
        objective(torch.ones(student), torch.ones(teacher), None if rows is None else torch.ones(rows))
