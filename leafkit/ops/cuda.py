"""The operations on CUDA tensors: checks here, kernels in ``_C_cuda``, on the tensors' device and its current stream.

Nothing here waits for the device or copies to the host, so a call may be captured in a CUDA graph; hence values are not
looked at, and a row of NaN makes a loss NaN. Working memory is torch's. The same inputs give the same bits.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from leafkit.errors import DeviceError, ShapeMismatch
from leafkit.ops.backend import LEAST_CAPABILITY, describe_cuda, load_cuda
from leafkit.ops.batch_losses import require_temperature
from leafkit.ops.search import MOST_CODES

_C, _WHY_NOT = load_cuda()
DEVICE = "cuda"  # of the tensors; tests put the emulation and the CPU here
OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
FLOATS = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
MOST_PARTS = 65_535  # blocks of a grid across
QUERIES_AT_ONCE = 16_384  # bounds the lists of candidates where one part is enough to fill the device
LISTS_MEMORY = 512 << 20  # bytes of all lists together; fewer parts are searched side by side where k is large


@dataclass(frozen=True)
class Codes:
    """Packed documents on a device.

    Attributes:
        codes: bytes, (N, whole 16-byte words), or rows that are what the scan reads.
        scales: int8: of each document, (N,).
        dim_scales: int8: what a step of each dimension is worth, where it was calibrated, (D,).
        count: documents.
        dim: their dimension.
        type: precision.
    """

    codes: torch.Tensor
    scales: torch.Tensor | None
    dim_scales: torch.Tensor | None
    count: int
    dim: int
    type: str

    @property
    def nbytes(self) -> int:
        """Memory of the codes beside the rows."""
        own = self.codes.nbytes if self.codes.dtype == torch.uint8 else 0
        return own + sum(part.nbytes for part in (self.scales, self.dim_scales) if part is not None)


def gradient_type(student: torch.Tensor, teacher: torch.Tensor) -> torch.dtype:
    """The type of a gradient: bfloat16 where both sides are; else float32, as small slopes would be 0 in float16."""
    return torch.bfloat16 if student.dtype == teacher.dtype == torch.bfloat16 else torch.float32


@functools.cache
def _ready() -> bool:
    return describe_cuda().state == "ready"


def takes(*tensors: torch.Tensor) -> bool:
    """Whether the kernels can be used for tensors of a GPU: for those who have another way."""
    return (
        _C is not None
        and all(tensor.is_cuda and tensor.is_contiguous() for tensor in tensors)
        and _ready()
        and torch.cuda.get_device_capability(tensors[0].device) >= LEAST_CAPABILITY
    )


def native() -> ModuleType:
    """Give the module of kernels.

    Raises:
        DeviceError: it was not built.
    """
    if _C is None:
        raise DeviceError(
            f"leafkit has no CUDA module ({_WHY_NOT}): build it with `make cuda`, or move the tensors to the CPU"
        )
    return _C


def alignment_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    metric: str,
    widths: Sequence[int],
    shares: Sequence[float],
    weights: torch.Tensor | None,
    unit_prefixes: bool,
    delta: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Value, float32 (), and gradient (of ``gradient_type``), (B, D); arguments are checked but for the tensors.

    Raises:
        ShapeMismatch: the shapes differ, or there are no rows.
        DeviceError: devices differ or cannot run the kernels, a tensor is not contiguous, or memory is short.
        ValueError: more than 64 prefixes.
    """
    c = native()
    student, teacher = _pair(student, teacher)
    if len(widths) > c.most_prefixes:
        raise ValueError(f"{len(widths)} prefixes, at most {c.most_prefixes} are compared on a GPU")
    rows, dim = student.shape
    if weights is not None:
        _require_one_device(student=student, weights=weights)
        if weights.shape != (rows,):
            raise ShapeMismatch(f"weights have shape {tuple(weights.shape)}, expected ({rows},): one a row")
        weights = weights.to(torch.float32).contiguous()
    value, gradient = student.new_empty((), dtype=torch.float32), torch.empty_like(student)
    memory = _memory(c.alignment_memory(rows), student)
    with _on(student) as stream:
        c.alignment_loss(
            student.data_ptr(), teacher.data_ptr(), rows, dim, _type(student), getattr(c.Metric, metric), list(widths),
            list(shares), _address(weights), unit_prefixes, delta, value.data_ptr(),
            gradient.data_ptr(), memory.data_ptr(), stream,
        )  # fmt: skip
    return value, gradient


def batch_loss(
    loss: str, student: torch.Tensor, teacher: torch.Tensor, temperature: float, exact: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Value, float32 (), and gradient (of ``gradient_type``), (B, D), of relational, listwise_kl or contrastive.

    Products are of bfloat16 in the matrix unit, or, if ``exact``, of float32.

    Raises:
        ShapeMismatch: the shapes differ, or there are too few rows.
        DeviceError: devices differ or cannot run the kernels, a tensor is not contiguous, or memory is short.
    """
    c = native()
    student, teacher = _pair(student, teacher)
    rows, dim = student.shape
    if loss != "relational":
        require_temperature(temperature)
    if loss == "listwise_kl" and rows < 2:
        raise ShapeMismatch(f"the batch has {rows} row, expected at least 2: a text is ranked among others")
    value, gradient = student.new_empty((), dtype=torch.float32), torch.empty_like(student)
    of = c.Batch(
        student.data_ptr(),
        teacher.data_ptr(),
        rows,
        dim,
        _type(student),
        getattr(c.BatchLoss, loss),
        temperature,
        exact,
    )
    memory = _memory(c.batch_memory(of), student)
    with _on(student) as stream:
        c.batch_loss(of, value.data_ptr(), gradient.data_ptr(), memory.data_ptr(), stream)
    return value, gradient


def pack_documents(documents: torch.Tensor, dtype: str, dim_scales: torch.Tensor | None = None) -> Codes:
    """Lay documents out for the scan; rows of the type itself, in whole 16-byte words, stay where they are.

    Raises:
        ShapeMismatch: they are no matrix.
        DeviceError: they are not contiguous, or memory is short.
    """
    c = native()
    _require_usable(documents, "documents")
    count, dim = documents.shape
    if dtype == "float32":
        if documents.dtype != torch.float32:
            raise TypeError(f"documents are {documents.dtype}, expected torch.float32 for dtype 'float32'")
        return Codes(documents, None, None, count, dim, dtype)
    if FLOATS[documents.dtype] == dtype and dim * documents.element_size() % 16 == 0:
        return Codes(documents, None, None, count, dim, dtype)
    to = getattr(c.Type, dtype)
    if dtype == "int8" and dim > MOST_CODES:
        raise ShapeMismatch(f"documents have dim {dim}, at most {MOST_CODES} can be packed as int8")
    if dim_scales is not None:
        _require_one_device(documents=documents, dim_scales=dim_scales)
        if dim_scales.shape != (dim,) or dim_scales.dtype != torch.float32 or not dim_scales.is_contiguous():
            raise ShapeMismatch(
                f"dim_scales are {dim_scales.dtype} of shape {tuple(dim_scales.shape)}, expected torch.float32 of"
                f" ({dim},)"
            )
    stride = c.packed_stride(to, dim)
    codes = _memory(count * stride, documents).view(count, stride)
    scales = documents.new_empty(count, dtype=torch.float32) if dtype == "int8" else None
    if count:
        with _on(documents) as stream:
            c.quantize(
                documents.data_ptr(), count, dim, _type(documents), to, _address(dim_scales), codes.data_ptr(),
                _address(scales), stream,
            )  # fmt: skip
    return Codes(codes, scales, dim_scales, count, dim, dtype)


def search_topk(
    queries: torch.Tensor,
    documents: torch.Tensor | Codes,
    k: int,
    *,
    exact: bool = True,
    allowed: torch.Tensor | None = None,
    matrix_unit: bool = True,
    parts: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k documents with the largest inner product for every query: scores and rows, (Q, min(k, N)).

    Args:
        queries: (Q, D), float32, bfloat16 or float16.
        documents: the same, or ``Codes``.
        k: results, 1 to 1,024.
        exact: float32 documents: the best 2 k + 16 by float32 sums are scored again in float64 and ranked by that. This
            is not the CPU's proof: a document whose float32 sum puts it below all of these is not seen, and products
            that leave float32's range (vectors of a length below 1e-19 or above 1e18) say nothing.
        allowed: bool, (N,) or (Q, N).
        matrix_unit: multiply bfloat16, float16 and int8 there.
        parts: of the documents, searched side by side; as many as fill the device if not given.

    Raises:
        ShapeMismatch: queries and documents differ in D, or ``allowed`` is of another shape.
        DeviceError: devices differ or cannot run the kernels, a tensor is not contiguous, or memory is short.
        ValueError: k is above 1,024, or there are 4,294,967,295 documents or more.
    """
    c = native()
    _require_usable(queries, "queries")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if isinstance(documents, Codes):
        codes = documents
    else:
        _require_usable(documents, "documents")
        codes = pack_documents(documents, FLOATS[documents.dtype])
    _require_one_device(queries=queries, documents=codes.codes)
    if queries.shape[1] != codes.dim:
        raise ShapeMismatch(
            f"queries have dim {queries.shape[1]}, documents have dim {codes.dim}: encode both in one space or at one"
            " prefix"
        )
    wanted = min(k, codes.count)
    if wanted > c.most_results:
        raise ValueError(f"k is {k}, at most {c.most_results} results are found on a GPU")
    if codes.count >= 2**32 - 1:
        raise ValueError(f"{codes.count} documents, fewer than {2**32 - 1} are searched at once: part them")
    scores = queries.new_empty((len(queries), wanted), dtype=torch.float32)
    rows = queries.new_empty((len(queries), wanted), dtype=torch.int64)
    _require_filter(allowed, len(queries), codes)
    bits = _bits(allowed) if allowed is not None and allowed.ndim == 1 and wanted else None
    at_once = max(128, QUERIES_AT_ONCE // max(1, wanted // 64))
    for first in range(0, len(queries) if wanted else 0, at_once):
        some = slice(first, first + at_once)
        own = _bits(allowed[some]) if allowed is not None and allowed.ndim == 2 else bits
        _search(codes, queries[some], wanted, exact, own, matrix_unit, parts, scores[some], rows[some])
    return scores, rows


def _search(
    codes: Codes,
    queries: torch.Tensor,
    k: int,
    exact: bool,
    bits: torch.Tensor | None,
    matrix_unit: bool,
    parts: int | None,
    scores: torch.Tensor,
    rows: torch.Tensor,
) -> None:
    c = native()
    own = queries if codes.dim_scales is None else queries.float() * codes.dim_scales
    own = own.float().contiguous() if codes.type == "float32" else own
    asked = pack_documents(own, codes.type)
    held = [
        c.Packed(
            side.codes.data_ptr(), side.count, side.dim, side.codes.stride(0) * side.codes.element_size(),
            _address(side.scales), getattr(c.Type, side.type),
        )
        for side in (asked, codes)
    ]  # fmt: skip
    exactly = own.data_ptr() if exact and codes.type == "float32" else 0
    tiles = -(-codes.count // 128)
    stride = 0 if bits is None or len(bits) == 1 else bits.shape[1]

    def of(parts: int) -> Any:
        return c.Search(*held, k, _address(bits), stride, exactly, matrix_unit, parts)

    if parts is None:
        places = c.search_blocks(of(1)) * _processors(queries.device)
        parts = parts_that_fill(places, -(-len(queries) // (16 if len(queries) <= 16 else 128)))
    of_one = c.search_memory(of(1))
    of_each = c.search_memory(of(2)) - of_one
    most = (LISTS_MEMORY - of_one) // of_each + 1
    search = of(max(1, min(parts, tiles, MOST_PARTS, most)))
    memory = _memory(c.search_memory(search), queries)
    with _on(queries) as stream:
        c.search(search, scores.data_ptr(), rows.data_ptr(), memory.data_ptr(), stream)


def parts_that_fill(places: int, tiles: int) -> int:
    """Parts with which blocks fill the places of a device in the fewest rounds, the last one nearly whole."""
    parts = 0
    for rounds in range(1, 9):
        parts = rounds * places // tiles
        if parts * tiles >= 0.9 * rounds * places:
            break
    return max(1, parts)


def _require_filter(allowed: torch.Tensor | None, queries: int, codes: Codes) -> None:
    if allowed is None:
        return
    if allowed.dtype != torch.bool:
        raise TypeError(f"allowed is {allowed.dtype}, expected torch.bool: one truth value a row")
    if tuple(allowed.shape) not in ((codes.count,), (queries, codes.count)):
        raise ShapeMismatch(
            f"allowed has shape {tuple(allowed.shape)}, expected ({codes.count},) or ({queries}, {codes.count})"
        )
    _require_one_device(documents=codes.codes, allowed=allowed)


def _bits(allowed: torch.Tensor) -> torch.Tensor:
    """Words of 32 bits, (1 or Q, words), the first row in the lowest: a byte a truth value on the way."""
    matrix = allowed if allowed.ndim == 2 else allowed[None]
    eights = (
        torch.nn.functional.pad(matrix, (0, -matrix.shape[1] % 32))
        .contiguous()
        .view(torch.uint8)
        .view(len(matrix), -1, 8)
    )
    place = torch.ones(8, dtype=torch.uint8, device=allowed.device) << torch.arange(8, device=allowed.device)
    return (eights * place.to(torch.uint8)).sum(2, dtype=torch.uint8).view(torch.int32)


def _pair(student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    _require_one_device(student=student, teacher=teacher)
    if student.shape != teacher.shape:
        raise ShapeMismatch(
            f"student has shape {tuple(student.shape)}, teacher has shape {tuple(teacher.shape)}: one row each, of one"
            " width"
        )
    if not student.numel():
        raise ShapeMismatch(f"the batch has shape {tuple(student.shape)}, expected at least 1 row and 1 dim")
    if gradient_type(student, teacher) == torch.float32:
        student, teacher = (side.float() if side.dtype in FLOATS else side for side in (student, teacher))
    for name, side in (("student", student), ("teacher", teacher)):
        _require_usable(side, name)
    return student.detach(), teacher.detach()


def _require_one_device(**tensors: torch.Tensor) -> None:
    (first, one), *others = tensors.items()
    for name, tensor in others:
        if tensor.device != one.device:
            raise DeviceError(f"{first} is on {one.device}, {name} is on {tensor.device}: move them to one device")


def _require_usable(tensor: torch.Tensor, name: str) -> None:
    if tensor.ndim != 2 or tensor.shape[1] == 0:
        raise ShapeMismatch(f"{name} must be a matrix (rows, dim), got shape {tuple(tensor.shape)}")
    if tensor.dtype not in FLOATS:
        raise TypeError(f"{name} are {tensor.dtype}, expected torch.float32, bfloat16 or float16")
    if tensor.device.type != DEVICE:
        raise DeviceError(f"{name} is on {tensor.device}, expected {DEVICE}")
    if not tensor.is_contiguous():
        raise DeviceError(
            f"{name} of shape {tuple(tensor.shape)} has strides {tensor.stride()}, expected"
            f" {(tensor.shape[1], 1)}: call .contiguous()"
        )
    item = tensor.element_size()
    if tensor.data_ptr() % item:
        raise DeviceError(f"{name} begins {tensor.data_ptr() % item} bytes past a multiple of {item}: clone it")
    if DEVICE == "cuda":
        capability = torch.cuda.get_device_capability(tensor.device)
        if capability < LEAST_CAPABILITY:
            raise DeviceError(
                f"{tensor.device} has compute capability {'.'.join(map(str, capability))}, the kernels need 8.0 (A100)"
                " or newer: move the tensors to the CPU"
            )


def _address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _type(tensor: torch.Tensor) -> Any:
    return getattr(native().Type, FLOATS[tensor.dtype])


def _memory(size: int, like: torch.Tensor) -> torch.Tensor:
    try:
        return torch.empty(size, dtype=torch.uint8, device=like.device)
    except OUT_OF_MEMORY as exc:
        raise DeviceError(f"{size} bytes of working memory do not fit on {like.device}: {exc}") from exc


def _processors(device: torch.device) -> int:
    if DEVICE != "cuda":
        return 2
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@contextlib.contextmanager
def _on(tensor: torch.Tensor) -> Any:
    """The tensor's device is the current one; gives its current stream."""
    if DEVICE != "cuda":
        yield 0
        return
    with torch.cuda.device(tensor.device):
        yield torch.cuda.current_stream().cuda_stream
