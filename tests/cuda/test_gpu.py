"""What only a GPU shows: other streams, CUDA graphs, autograd and torch.compile through the ops."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit import ops  # after the skip
from leafkit.ops import torch as torch_ops

pytestmark = pytest.mark.gpu


def pair(rows=300, dim=96):
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(2, rows, dim), dim=2)


LOSSES = [torch_ops.alignment_loss, torch_ops.relational_loss, torch_ops.listwise_kl_loss, torch_ops.contrastive_loss]


@pytest.mark.parametrize("loss", LOSSES)
def test_autograd_and_compile_give_what_the_cpu_gives(on_gpu, loss):
    student, teacher = pair()
    options = {} if loss is torch_ops.alignment_loss else {"exact": True}
    own = student.cpu().requires_grad_()
    loss(own, teacher.cpu(), **options).backward()
    for call in (loss, torch.compile(loss, backend="aot_eager"), torch.compile(loss)):
        for dtype in (torch.float32, torch.bfloat16):
            there = student.to(dtype).requires_grad_()
            value = call(there, teacher, **options)
            value.backward()
            assert there.grad.dtype == dtype
            bound = 1e-3 if dtype == torch.float32 else 5e-2
            assert (there.grad.cpu().float() - own.grad).norm() < bound * own.grad.norm()


def test_calls_follow_the_current_stream(on_gpu):
    student, teacher = pair(2000, 512)
    expected = torch_ops.contrastive_loss(student, teacher)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late = student * 1  # not there before the sleep has ended
        found = torch_ops.contrastive_loss(late, teacher)
    stream.synchronize()
    assert torch.equal(found, expected)


def test_a_graph_holds_a_call_and_gives_it_again(on_gpu):
    student, teacher = pair()
    queries, documents = student[:40].contiguous(), teacher.clone()
    warm = torch.cuda.Stream()
    with torch.cuda.stream(warm):
        torch_ops.listwise_kl_loss(student, teacher)
        torch_ops.search_topk(queries, documents, 5)
    warm.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = torch_ops.listwise_kl_loss(student, teacher)
        scores, rows = torch_ops.search_topk(queries, documents, 5)
    documents.copy_(documents.flip(0))
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(value, torch_ops.listwise_kl_loss(student, teacher))
    again = torch_ops.search_topk(queries, documents, 5)
    assert torch.equal(rows, again[1])
    assert torch.equal(scores, again[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "binary"])
def test_a_search_at_size_is_the_cpus(on_gpu, dtype):
    torch.manual_seed(1)
    queries, documents = (torch.nn.functional.normalize(torch.randn(rows, 768), dim=1) for rows in (300, 50_000))
    found = ops.search_topk(queries, ops.pack_documents(documents, dtype), 10)
    expected = ops.search_topk(queries.cpu(), ops.pack_documents(documents.cpu(), dtype), 10)
    same = (found.rows.cpu() == expected.rows).float().mean()
    assert same == 1 if dtype in ("float32", "int8", "binary") else same > 0.98
    torch.testing.assert_close(found.scores.cpu(), expected.scores, rtol=2e-2, atol=2e-3)
