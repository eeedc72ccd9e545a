import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit.ops import torch as torch_ops  # after the skip

METRICS = ["squared_l2", "l2", "cosine"]


@pytest.mark.parametrize("metric", METRICS)
def test_ops_pass_opcheck(metric):
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    torch.library.opcheck(torch.ops.leafkit.alignment_loss.default, (student, teacher, metric))
    found = torch.library.opcheck(torch.ops.leafkit.search_topk.default, (torch.randn(2, 7), teacher, 9))
    assert set(found.values()) == {"SUCCESS"}
    allowed = torch.tensor([True, False, False, True, False])
    found = torch.library.opcheck(torch.ops.leafkit.search_topk.default, (torch.randn(2, 7), teacher, 4, True, allowed))
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("metric", METRICS)
def test_the_gradient_is_that_of_torch_in_float64(metric):
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 11, requires_grad=True), torch.randn(6, 11)
    (3 * torch_ops.alignment_loss(student, teacher, metric)).backward()
    double = student.detach().double().requires_grad_()
    if metric == "cosine":
        plain = (1 - torch.nn.functional.cosine_similarity(double, teacher.double())).mean()
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
