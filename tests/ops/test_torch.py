import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit import ops
from leafkit.errors import DeviceError, ShapeMismatch
from leafkit.ops import torch as torch_ops  # after the skip

METRICS = ["squared_l2", "l2", "cosine", "huber"]


@pytest.mark.parametrize("metric", METRICS)
def test_ops_pass_opcheck(metric):
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    weights = torch.rand(5, dtype=torch.float64)
    for rest in ((None, None, None, False, 0.5), ([2, 7], [1.0, 2.0], weights, metric != "huber", 0.5)):
        found = torch.library.opcheck(torch.ops.leafkit.alignment_loss.default, (student, teacher, metric, *rest))
        assert set(found.values()) == {"SUCCESS"}
    found = torch.library.opcheck(torch.ops.leafkit.search_topk.default, (torch.randn(2, 7), teacher, 9))
    assert set(found.values()) == {"SUCCESS"}
    allowed = torch.tensor([True, False, False, True, False])
    found = torch.library.opcheck(torch.ops.leafkit.search_topk.default, (torch.randn(2, 7), teacher, 4, True, allowed))
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("relational_loss", (True,)),
        ("listwise_kl_loss", (0.5, True)),
        ("contrastive_loss", (0.5, True)),
        ("relative_similarity_loss", (0.1,)),
    ],
)
def test_losses_of_a_batch_pass_opcheck_and_reach_the_student(name, rest):
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    op = getattr(torch.ops.leafkit, name).default
    assert set(torch.library.opcheck(op, (student, teacher, *rest)).values()) == {"SUCCESS"}
    value, gradient = op(student, teacher, *rest)
    (2 * value).backward()
    torch.testing.assert_close(student.grad, 2 * gradient)
    assert gradient.abs().max() > 0
    assert teacher.grad is None
    compiled = torch.compile(lambda s, t: 3 * op(s, t, *rest)[0], backend="aot_eager")
    again = student.detach().clone().requires_grad_()
    compiled(again, teacher).backward()
    torch.testing.assert_close(again.grad, 3 * gradient)


@pytest.mark.filterwarnings("ignore:Input #0 requires gradient and is not a double")  # the operations are float32
@pytest.mark.parametrize(
    "loss",
    [
        *(lambda s, t, m=metric: torch_ops.alignment_loss(s, t, m, prefixes=[3, 7]) for metric in METRICS),
        lambda s, t: torch_ops.relational_loss(s, t, exact=True),
        lambda s, t: torch_ops.listwise_kl_loss(s, t, 0.5, exact=True),
        lambda s, t: torch_ops.contrastive_loss(s, t, 0.5, exact=True),
    ],
    ids=[*METRICS, "relational", "listwise_kl", "contrastive"],
)
def test_gradients_pass_gradcheck(loss):
    torch.manual_seed(1)
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,), eps=1e-2, atol=5e-3, rtol=1e-2)
    value = loss(student, teacher)
    first = torch.autograd.grad(value, student, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(3 * value, student)[0], 3 * first)
    slope = torch.autograd.grad(loss(student, teacher), student, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="does not require grad|once_differentiable"):  # refused, not 0
        slope.sum().backward()


@pytest.mark.parametrize("name", ["margin_mse_loss", "score_mse_loss"])
def test_losses_of_scores_are_those_of_arrays(name):
    torch.manual_seed(0)
    sides = [torch.randn(5, 7, requires_grad=True) for _ in range(3 if name == "margin_mse_loss" else 2)]
    scores = torch.randn(5)
    loss = getattr(torch_ops, name)(*sides, scores)
    loss.backward()
    value, gradients = getattr(ops, name)(*(side.detach().numpy() for side in sides), scores.numpy())
    assert loss.item() == pytest.approx(value, rel=1e-5)
    for side, gradient in zip(sides, gradients, strict=True):
        np.testing.assert_allclose(side.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_the_gradient_is_that_of_torch_in_float64(metric):
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 11, requires_grad=True), torch.randn(6, 11)
    (3 * torch_ops.alignment_loss(student, teacher, metric)).backward()
    double = student.detach().double().requires_grad_()
    if metric == "cosine":
        plain = (1 - torch.nn.functional.cosine_similarity(double, teacher.double())).mean()
    elif metric == "huber":
        plain = torch.nn.functional.huber_loss(double, teacher.double(), reduction="sum") / len(double)
    else:
        squared = ((double - teacher.double()) ** 2).sum(dim=1)
        plain = (squared if metric == "squared_l2" else squared.sqrt()).mean()
    (3 * plain).backward()
    torch.testing.assert_close(student.grad.double(), double.grad, rtol=1e-5, atol=1e-7)


def test_search_of_tensors_gives_tensors_and_reads_them_in_place():
    documents = torch.eye(4)
    scores, rows = torch_ops.search_topk(documents[:2], documents, 1)
    assert rows.tolist() == [[0], [1]]
    assert isinstance(scores, torch.Tensor)
    allowed = torch.tensor([False, False, True, False])
    scores, rows = torch_ops.search_topk(documents[:2], documents, 2, allowed=allowed)  # its shape is that of k
    assert rows.tolist() == [[2, -1], [2, -1]]
    assert scores.tolist() == [[0, -torch.inf], [0, -torch.inf]]
    assert np.array_equal(documents.numpy(), np.eye(4, dtype=np.float32))


def test_halves_are_compared_as_float32_and_misfits_are_refused():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    half = student.bfloat16().requires_grad_()
    torch_ops.contrastive_loss(half, teacher.bfloat16()).backward()
    single = half.detach().float().requires_grad_()
    torch_ops.contrastive_loss(single, teacher.bfloat16().float()).backward()
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.grad, single.grad.bfloat16())
    with pytest.raises(TypeError, match="float64"):
        torch_ops.contrastive_loss(student.double(), teacher)
    with pytest.raises(DeviceError, match="student is on cpu, teacher is on meta"):
        torch_ops.relational_loss(student, teacher.to("meta"))
    with pytest.raises(ShapeMismatch, match=r"margins have shape \(5, 1\), expected \(5,\)"):
        torch_ops.margin_mse_loss(student, teacher, teacher, torch.zeros(5, 1))
    with pytest.raises(ShapeMismatch, match=r"query has shape \(5, 7\), negative has shape \(1, 7\)"):
        torch_ops.margin_mse_loss(student, teacher, teacher[:1], torch.zeros(5))
    with pytest.raises(ShapeMismatch, match=r"one has shape \(0, 7\)"):
        torch_ops.score_mse_loss(student[:0], teacher[:0], torch.zeros(0))
    with pytest.raises(TypeError, match=r"prefixes \[3\.5\]: expected whole numbers"):
        torch_ops.alignment_loss(student, teacher, prefixes=[3.5])
    given = torch.full((5,), 2.0, requires_grad=True)
    doubled = torch_ops.alignment_loss(student, teacher, weights=given)
    assert doubled.item() == pytest.approx(torch_ops.alignment_loss(student, teacher, weights=[2] * 5).item())
    assert doubled.item() == pytest.approx(2 * torch_ops.alignment_loss(student, teacher).item())


def test_a_second_slope_is_refused_through_the_op_too():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    value, _ = torch.ops.leafkit.relational_loss(student, teacher, True)
    (slope,) = torch.autograd.grad(value**2, student, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
