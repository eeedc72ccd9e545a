"""What cannot be used is refused with one clear error, before anything is launched."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit import ops  # after the skip
from leafkit.errors import DeviceError, ShapeMismatch
from leafkit.ops import torch as torch_ops
from leafkit.ops.backend import state_of

emulated_types = (torch.float32, torch.bfloat16, torch.float16)
TOO_OLD = "cudaErrorInsufficientDriver"
HERE, THERE = torch.ones(4, 6), torch.ones(4, 6, device="meta")  # a device that is not the same


def test_devices_that_differ(emulated):
    for call in (
        lambda: emulated.alignment_loss(HERE, THERE, "l2", [6], [1.0], None, False, 1.0),
        lambda: emulated.batch_loss("contrastive", HERE, THERE, 0.05, True),
    ):
        with pytest.raises(DeviceError, match="student is on cpu, teacher is on meta: move them to one device"):
            call()
    with pytest.raises(DeviceError, match="queries is on cpu, documents is on meta"):
        emulated.search_topk(HERE, emulated.Codes(THERE, None, None, 4, 6, "float32"), 1)
    with pytest.raises(DeviceError, match="documents is on cpu, allowed is on meta"):
        emulated.search_topk(HERE, HERE, 1, allowed=torch.ones(4, dtype=torch.bool, device="meta"))
    with pytest.raises(DeviceError, match="queries is on meta, expected cpu"):
        emulated.search_topk(THERE, HERE, 1)


def test_tensors_that_lie_where_kernels_do_not_read(emulated):
    turned = torch.ones(6, 4).T
    with pytest.raises(DeviceError, match=r"shape \(4, 6\) has strides \(1, 4\), expected \(6, 1\): call .contiguous"):
        emulated.batch_loss("relational", turned, HERE, 1.0, True)
    with pytest.raises(DeviceError, match="documents of shape"):
        emulated.pack_documents(turned, "int8")
    bytes_of = torch.zeros(4 * 6 * 4 + 4, dtype=torch.uint8)
    odd = torch.frombuffer(bytes_of.numpy(), dtype=torch.float32, count=24, offset=2).view(4, 6)
    with pytest.raises(DeviceError, match="student begins 2 bytes past a multiple of 4: clone it"):
        emulated.alignment_loss(odd, HERE, "l2", [6], [1.0], None, False, 1.0)
    shifted = torch.ones(4 * 6 + 1)[1:].view(4, 6)  # rows at no whole word are read value by value
    assert emulated.alignment_loss(shifted, HERE, "squared_l2", [6], [1.0], None, False, 1.0)[0] == 0


def test_shapes_types_and_numbers(emulated):
    with pytest.raises(ShapeMismatch, match=r"student has shape \(4, 6\), teacher has shape \(4, 5\)"):
        emulated.batch_loss("contrastive", HERE, HERE[:, :5], 0.05, True)
    with pytest.raises(ShapeMismatch, match=r"the batch has shape \(0, 6\)"):
        emulated.batch_loss("contrastive", HERE[:0], HERE[:0], 0.05, True)
    with pytest.raises(ShapeMismatch, match="1 row, expected at least 2"):
        emulated.batch_loss("listwise_kl", HERE[:1], HERE[:1], 0.05, True)
    with pytest.raises(ShapeMismatch, match="queries have dim 6, documents have dim 5"):
        emulated.search_topk(HERE, torch.ones(4, 5), 1)
    with pytest.raises(ShapeMismatch, match=r"allowed has shape \(3,\), expected \(4,\) or \(4, 4\)"):
        emulated.search_topk(HERE, HERE, 1, allowed=torch.ones(3, dtype=torch.bool))
    with pytest.raises(TypeError, match="queries are torch.float64"):
        emulated.search_topk(HERE.double(), HERE, 1)
    with pytest.raises(TypeError, match="documents are torch.float64"):
        emulated.search_topk(HERE, HERE.double(), 1)
    with pytest.raises(TypeError, match="allowed is torch.int64"):
        emulated.search_topk(HERE, HERE, 1, allowed=torch.ones(4, dtype=torch.int64))
    with pytest.raises(ShapeMismatch, match=r"weights have shape \(3,\), expected \(4,\)"):
        emulated.alignment_loss(HERE, HERE, "l2", [6], [1.0], torch.ones(3), False, 1.0)
    with pytest.raises(DeviceError, match="student is on cpu, weights is on meta"):
        emulated.alignment_loss(HERE, HERE, "l2", [6], [1.0], torch.ones(4, device="meta"), False, 1.0)
    with pytest.raises(TypeError, match=r"student are torch.int64"):
        emulated.batch_loss("contrastive", HERE.long(), HERE, 0.05, True)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"temperature {temperature}: expected a"):
            emulated.batch_loss("listwise_kl", HERE, HERE, temperature, True)
    with pytest.raises(
        ShapeMismatch, match=r"dim_scales are torch.float16 of shape \(6,\), expected torch.float32 of \(6,\)"
    ):
        emulated.pack_documents(HERE, "int8", torch.ones(6).half())
    with pytest.raises(ShapeMismatch, match="documents have dim 65537, at most 65536"):
        emulated.pack_documents(torch.ones(1, 65537), "int8")
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"k must be at least 1, got {k}"):
            emulated.search_topk(HERE, HERE, k)
    with pytest.raises(ValueError, match="k is 1025, at most 1024"):
        emulated.search_topk(torch.ones(1, 1), torch.ones(2000, 1), 1025)
    ones = torch.ones(1, 65)
    with pytest.raises(ValueError, match="65 prefixes, at most 64"):
        emulated.alignment_loss(ones, ones, "l2", list(range(1, 66)), [1.0] * 65, None, False, 1.0)


def test_memory_that_is_not_there(emulated, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(torch, "empty", _full)
    with pytest.raises(DeviceError, match="4096 bytes of working memory do not fit on cpu: 2 GiB are free"):
        emulated._memory(4096, HERE)


def _full(*_, **__):
    raise torch.OutOfMemoryError("2 GiB are free")


def test_without_the_module_the_way_on_is_told(emulated, monkeypatch):
    monkeypatch.setattr(emulated, "_C", None)
    with pytest.raises(DeviceError, match="has no CUDA module .*: build it with `make cuda`, or move the tensors"):
        emulated.search_topk(HERE, HERE, 1)


@pytest.mark.parametrize(
    "op", ["alignment_loss", "relational_loss", "listwise_kl_loss", "contrastive_loss", "search_topk"]
)
def test_torch_finds_the_kernels(op):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"leafkit::{op}", "CUDA")
    assert not torch._C._dispatch_has_kernel_for_dispatch_key("leafkit::relative_similarity_loss", "CUDA")


def test_what_torch_calls_is_what_arrays_give(emulated):
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


@pytest.mark.parametrize(
    ("told", "state", "detail"),
    [
        ({"driver": 0, "error": TOO_OLD}, "no driver", "libcuda.so.1 was not found; built with CUDA 13.0"),
        ({"driver": 12040, "error": TOO_OLD}, "driver too old", "the driver has CUDA 12.4; built"),
        ({"driver": 13010, "error": "cudaErrorNoDevice"}, "no device", "cudaErrorNoDevice; the driver has CUDA 13.1"),
        ({"driver": 13000, "devices": []}, "no device", "none is visible"),
        ({"driver": 13000, "devices": [("T4", 7, 5, 2**34)]}, "device too old", "T4 (7.5, 16 GiB): 8.0 or newer"),
        ({"driver": 13000, "devices": [("H100", 9, 0, 80 * 2**30)]}, "ready", "H100 (9.0, 80 GiB); the driver"),
    ],
)  # fmt: skip
def test_what_is_missing_is_told_apart(told, state, detail):
    found = state_of({"runtime": 13000, "architectures": "80;90;100", "error": "", "devices": []} | told)
    assert found.state == state
    assert detail in found.detail


def test_the_selftest_finds_right_kernels_right_and_wrong_ones_wrong(emulated, monkeypatch):
    from leafkit.ops import selftest

    for name, size in (("QUERIES", 20), ("DOCUMENTS", 300), ("DIM", 40), ("BATCH", 60), ("WIDTHS", [20, 40])):
        monkeypatch.setattr(selftest, name, size)
    checks = [*selftest.check_cpu(), *selftest.check_cuda()]
    assert len(checks) > 14
    assert [check.name for check in checks if not check.passed] == []
    plain = emulated.batch_loss
    monkeypatch.setattr(emulated, "batch_loss", lambda *of: (plain(*of)[0], 1.05 * plain(*of)[1]))
    wrong = {check.name.split()[0] for check in selftest.check_cuda() if not check.passed}
    assert wrong == {"relational", "listwise_kl", "contrastive"}


def test_arrays_of_others_come_by_dlpack_and_a_mixture_is_refused(emulated, monkeypatch):
    """A CuPy array says that it is on device 2; torch is asked for it."""
    from leafkit.ops import arrays

    class Array:
        def __init__(self, tensor):
            self.tensor = tensor

        def __dlpack_device__(self):
            return arrays.CUDA, 0

    monkeypatch.setattr(torch.utils.dlpack, "from_dlpack", lambda array: array.tensor)
    torch.manual_seed(0)
    queries, documents = torch.randn(3, 8), torch.randn(50, 8)
    found = ops.search_topk(Array(queries), Array(documents), 4)
    expected = ops.search_topk(queries, documents, 4)
    assert torch.equal(found.rows, expected.rows)
    packed = ops.pack_documents(Array(documents), "int8")
    assert (packed.shape, packed.nbytes) == ((50, 8), 50 * (16 + 4))
    assert torch.equal(ops.search_topk(Array(queries), packed, 4).rows, ops.search_topk(
        queries, ops.pack_documents(documents, "int8"), 4).rows)  # fmt: skip
    for there in (documents, ops.pack_documents(documents, "int8")):
        with pytest.raises(DeviceError, match="queries are on cpu, documents are not: move them to one device"):
            ops.search_topk(Array(queries), there, 4)
    with pytest.raises(ValueError, match="rescore is not there on a GPU"):
        ops.search_topk(Array(queries), packed, 4, rescore=documents)


@pytest.mark.parametrize("sides", [(a, b) for a in emulated_types for b in emulated_types])
def test_what_tracing_expects_is_what_comes(emulated, sides):
    torch.manual_seed(0)
    student, teacher = (side.to(dtype) for side, dtype in zip(torch.randn(2, 5, 8), sides, strict=True))
    value, gradient = emulated.batch_loss("contrastive", student, teacher, 0.5, True)
    traced = torch.ops.leafkit.contrastive_loss(student.to("meta"), teacher.to("meta"), 0.5, True)
    assert (value.dtype, gradient.dtype) == (traced[0].dtype, traced[1].dtype)
    exact = emulated.batch_loss("contrastive", student.float(), teacher.float(), 0.5, True)[1]
    torch.testing.assert_close(gradient.float(), exact, rtol=1e-2, atol=1e-4)


def test_small_slopes_of_float16_are_kept(emulated):
    """A batch's mean divides them by its size: below float16's range they would be 0."""
    torch.manual_seed(0)
    teacher = torch.nn.functional.normalize(torch.randn(500, 64), dim=1)
    student = (teacher + 1e-3 * torch.randn(500, 64)).half()
    gradient = emulated.alignment_loss(student, teacher.half(), "squared_l2", [64], [1.0], None, False, 1.0)[1]
    exact = 2 * (student.double() - teacher.half().double()) / 500
    assert (gradient.double() - exact).norm() < 1e-5 * exact.norm()


def test_many_rows_of_filters_become_the_words_of_one(emulated):
    torch.manual_seed(0)
    allowed = torch.rand(7, 77) < 0.5
    words = emulated._bits(allowed)
    assert words.dtype == torch.int32
    assert words.shape == (7, 3)
    for row in range(77):
        assert torch.equal((words[:, row // 32] >> (row % 32) & 1).bool(), allowed[:, row])
