"""What cannot be used is refused with one clear error, before anything is launched."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit import ops  # after the skip
from leafkit.errors import DeviceError, ShapeMismatch
from leafkit.ops import torch as torch_ops

HERE, THERE = torch.ones(4, 6), torch.ones(4, 6, device="meta")  # a device that is not the same


def test_devices_that_differ(cuda):
    for call in (
        lambda: cuda.alignment_loss(HERE, THERE, "l2", [6], [1.0], None, False, 1.0),
        lambda: cuda.batch_loss("contrastive", HERE, THERE, 0.05, True),
    ):
        with pytest.raises(DeviceError, match="student is on cpu, teacher is on meta: move them to one device"):
            call()
    with pytest.raises(DeviceError, match="queries is on cpu, documents is on meta"):
        cuda.search_topk(HERE, cuda.Codes(THERE, None, None, 4, 6, "float32"), 1)
    with pytest.raises(DeviceError, match="documents is on cpu, allowed is on meta"):
        cuda.search_topk(HERE, HERE, 1, allowed=torch.ones(4, dtype=torch.bool, device="meta"))
    with pytest.raises(DeviceError, match="queries is on meta, expected cpu"):
        cuda.search_topk(THERE, HERE, 1)


def test_tensors_that_lie_where_kernels_do_not_read(cuda):
    turned = torch.ones(6, 4).T
    with pytest.raises(DeviceError, match=r"shape \(4, 6\) has strides \(1, 4\), expected \(6, 1\): call .contiguous"):
        cuda.batch_loss("relational", turned, HERE, 1.0, True)
    with pytest.raises(DeviceError, match="documents of shape"):
        cuda.pack_documents(turned, "int8")
    bytes_of = torch.zeros(4 * 6 * 4 + 4, dtype=torch.uint8)
    odd = torch.frombuffer(bytes_of.numpy(), dtype=torch.float32, count=24, offset=2).view(4, 6)
    with pytest.raises(DeviceError, match="student begins 2 bytes past a multiple of 4: clone it"):
        cuda.alignment_loss(odd, HERE, "l2", [6], [1.0], None, False, 1.0)
    shifted = torch.ones(4 * 6 + 1)[1:].view(4, 6)  # rows at no whole word are read value by value
    assert cuda.alignment_loss(shifted, HERE, "squared_l2", [6], [1.0], None, False, 1.0)[0] == 0


def test_shapes_types_and_numbers(cuda):
    with pytest.raises(ShapeMismatch, match=r"student has shape \(4, 6\), teacher has shape \(4, 5\)"):
        cuda.batch_loss("contrastive", HERE, HERE[:, :5], 0.05, True)
    with pytest.raises(ShapeMismatch, match=r"the batch has shape \(0, 6\)"):
        cuda.batch_loss("contrastive", HERE[:0], HERE[:0], 0.05, True)
    with pytest.raises(ShapeMismatch, match="1 row, expected at least 2"):
        cuda.batch_loss("listwise_kl", HERE[:1], HERE[:1], 0.05, True)
    with pytest.raises(ShapeMismatch, match="queries have dim 6, documents have dim 5"):
        cuda.search_topk(HERE, torch.ones(4, 5), 1)
    with pytest.raises(ShapeMismatch, match=r"allowed has shape \(3,\), expected \(4,\) or \(4, 4\)"):
        cuda.search_topk(HERE, HERE, 1, allowed=torch.ones(3, dtype=torch.bool))
    with pytest.raises(TypeError, match="queries are torch.float64"):
        cuda.search_topk(HERE.double(), HERE, 1)
    with pytest.raises(TypeError, match="allowed is torch.int64"):
        cuda.search_topk(HERE, HERE, 1, allowed=torch.ones(4, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"student is torch.float16, teacher is torch.bfloat16"):
        cuda.batch_loss("contrastive", HERE.half(), HERE.bfloat16(), 0.05, True)
    with pytest.raises(ValueError, match="k is 1025, at most 1024"):
        cuda.search_topk(torch.ones(1, 1), torch.ones(2000, 1), 1025)
    ones = torch.ones(1, 65)
    with pytest.raises(ValueError, match="65 prefixes, at most 64"):
        cuda.alignment_loss(ones, ones, "l2", list(range(1, 66)), [1.0] * 65, None, False, 1.0)


def test_memory_that_is_not_there(cuda, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(torch, "empty", _full)
    with pytest.raises(DeviceError, match="4096 bytes of working memory do not fit on cpu: 2 GiB are free"):
        cuda._memory(4096, HERE)


def _full(*_, **__):
    raise torch.OutOfMemoryError("2 GiB are free")


def test_without_the_module_the_way_on_is_told(cuda, monkeypatch):
    monkeypatch.setattr(cuda, "_C", None)
    with pytest.raises(DeviceError, match="has no CUDA module .*: build it with `make cuda`, or move the tensors"):
        cuda.search_topk(HERE, HERE, 1)


@pytest.mark.parametrize(
    "op", ["alignment_loss", "relational_loss", "listwise_kl_loss", "contrastive_loss", "search_topk"]
)
def test_torch_finds_the_kernels(op):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"leafkit::{op}", "CUDA")
    assert not torch._C._dispatch_has_kernel_for_dispatch_key("leafkit::relative_similarity_loss", "CUDA")


def test_what_torch_calls_is_what_arrays_give(cuda):
    torch.manual_seed(0)
    student, teacher = torch.nn.functional.normalize(torch.randn(2, 7, 9), dim=2)
    found = torch_ops._aligned_on_gpu(student, teacher, "cosine", [4, 9], [0.2, 1.0], torch.ones(7), True, 1.0)
    value, gradient = ops.alignment_loss(
        student.numpy(), teacher.numpy(), "cosine", prefixes=[4, 9], shares=[0.2, 1.0], unit_prefixes=True
    )
    assert found[0].item() == pytest.approx(value, rel=1e-5)
    torch.testing.assert_close(found[1], torch.tensor(gradient), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="expected rising widths from 1 to 9"):
        torch_ops._aligned_on_gpu(student, teacher, "cosine", [9, 4], None, None, True, 1.0)
    scores, rows = torch_ops._search_on_gpu(student, teacher, 3)
    expected = ops.search_topk(student, teacher, 3)
    assert torch.equal(rows, expected.rows)
    assert torch.equal(scores, expected.scores)
