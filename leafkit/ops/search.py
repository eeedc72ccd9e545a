"""Exact inner-product search: checks here, arithmetic in ``_C`` or NumPy."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import DeviceError, ShapeMismatch
from leafkit.ops.arrays import FloatRows, as_matrix, as_rows, gpu_tensor, is_torch, to_numpy
from leafkit.ops.backend import backend, holder, threads

DocumentType = Literal["float32", "bfloat16", "float16", "int8", "binary"]
MOST_CODES = 65536  # of int8 that can be summed in 32 bits
NARROW = "int8"  # what rules documents out before float32 rows are looked at


class TopK(NamedTuple):
    """Scores (float32) and rows (int64), (Q, K), best first; NumPy arrays, or torch tensors if the queries were."""

    scores: Any
    rows: Any


@dataclass(frozen=True, repr=False)
class PackedDocuments:
    """Documents laid out for the scan; made by ``pack_documents``, searched by ``search_topk``.

    Attributes:
        dtype: precision that the scores are of.
        rows: the float32 rows themselves, where dtype is float32: kept, not copied; they must not change.
    """

    dtype: DocumentType
    rows: NDArray[np.float32] | None
    codes: Any

    def __repr__(self) -> str:
        return f"PackedDocuments({self.dtype}, shape={self.shape}, nbytes={self.nbytes})"

    @property
    def shape(self) -> tuple[int, int]:
        """Documents and their dim."""
        return int(self.codes.count), int(self.codes.dim)

    @property
    def nbytes(self) -> int:
        """Memory of the codes in bytes; the rows of a float32 packing lie where they were."""
        return int(self.codes.nbytes)


def pack_documents(documents: Any, dtype: DocumentType = "float32", *, scales: Any = None) -> PackedDocuments:
    """Lay documents out for the scan: once, for many searches.

    Args:
        documents: float32, (N, D), as ``search_topk`` takes them; float16 or torch.bfloat16 where dtype is another than
            float32.
        dtype: precision of the scores. float32 answers exactly from the rows, which are kept and not copied; one byte a
            value beside them rules most documents out. The others hold only what they say: bfloat16 and float16 2 bytes
            a value, int8 one (and 8 bytes a document), binary a bit (1 where a value is above 0).
        scales: int8 only, float32 (D,): what one step of each dimension is worth, from a calibration; values beyond
            127 steps are clipped. Without it every document has a scale of its own and nothing is clipped.

    Raises:
        ShapeMismatch: documents are no matrix, their dim is above 65,536 (float32 and int8), or there is not one scale
            a dimension.
        ValueError: another dtype, scales with a dtype that has none, or a scale that is not above 0.
        TypeError: documents are of no such type.
    """
    if not isinstance(dtype, str) or dtype not in get_args(DocumentType):
        raise ValueError(f"dtype {dtype!r}: expected one of {', '.join(get_args(DocumentType))}")
    if (on_gpu := gpu_tensor(documents)) is not None:
        return _pack_on_gpu(on_gpu, dtype, scales)
    given = (
        FloatRows(as_matrix(documents, "documents"), None, dtype)
        if dtype == "float32"
        else as_rows(documents, "documents")
    )
    if scales is not None and dtype != "int8":
        raise ValueError(f"scales belong to int8 documents, dtype is {dtype!r}")
    per_dim = None if scales is None else _checked_scales(scales, given.shape[1])
    narrow = NARROW if dtype == "float32" else dtype
    if narrow == "int8" and given.shape[1] > MOST_CODES:
        raise ShapeMismatch(
            f"documents have dim {given.shape[1]}, at most {MOST_CODES} can be packed as {dtype}: float32 rows are also"
            " searched in place, bfloat16 and float16 have no such limit"
        )
    codes = backend().pack_documents(given.wide, narrow, per_dim, threads(), given.halves, given.dtype)
    return PackedDocuments(dtype, given.wide if dtype == "float32" else None, codes)


def search_topk(
    queries: Any,
    documents: Any,
    k: int = 10,
    *,
    exact: bool = True,
    rescore: Any = None,
    overfetch: int = 4,
    allowed: Any = None,
) -> TopK:
    """Find the k documents with the largest inner product for every query, over all documents.

    Args:
        queries: float32, (Q, D), row-major: NumPy, torch on the CPU, or DLPack; or on a GPU, torch's or by DLPack, with
            documents there; results are torch's (``leafkit.ops.cuda.search_topk`` says what differs).
        documents: float32, (N, D), row-major (a read-only memory map is read in place), or ``PackedDocuments``.
        k: results per query, at least 1.
        exact: float32 documents are ranked by their scores in float64, provably (docs/kernels.md), and the scores
            rounded once. False: by float32 sums, or, packed, by the best ``overfetch`` times k of the codes.
        rescore: float32, float16 or torch.bfloat16, (N, D): rows from which the best ``overfetch`` times k of int8 or
            binary documents (or of any packing) are scored again; a memory map will do.
        overfetch: see ``rescore``; at least 1.
        allowed: bool, (N,) for all queries or (Q, N): rows that may be found.

    Returns:
        TopK(scores, rows), (Q, K), K = min(k, N, most rows allowed to a query), best first. Equal scores come in row
        order; NaN never ranks above a number: -inf stands before it. A query with fewer rows allowed than others has
        rows -1 with score -inf at its end. Scores are of the documents' precision; binary: D - 2 x Hamming distance.

    Raises:
        ShapeMismatch: queries and documents differ in D, one is not a matrix, or ``allowed`` is of another shape.
        ValueError: k or overfetch is below 1, rows to score again from beside documents that are not packed, or values
            that begin at an odd place in memory.
        TypeError: one is not float32, or ``allowed`` is not bool.

    The float64 definition is ``tests/reference.py::search_topk``.
    """
    if (on_gpu := gpu_tensor(queries)) is not None:
        return _search_on_gpu(on_gpu, documents, k, exact, rescore, allowed)
    q = as_matrix(queries, "queries")
    packed = documents if isinstance(documents, PackedDocuments) else None
    if packed:
        rows, (count, dim) = packed.rows, packed.shape
    else:
        rows = as_matrix(documents, "documents")
        count, dim = rows.shape
    if q.shape[1] != dim:
        raise ShapeMismatch(
            f"queries have dim {q.shape[1]}, documents have dim {dim}: encode both in one space or at one prefix"
        )
    k, overfetch = _count(k, "k"), _count(overfetch, "overfetch")
    halves, halves_dtype = None, "bfloat16"
    if rescore is not None:
        if packed is None:
            raise ValueError("rescore belongs to packed documents: float32 rows are scored from themselves")
        given = as_rows(rescore, "rescore")
        if given.shape != (count, dim):
            raise ShapeMismatch(f"rescore has shape {given.shape}, the documents are {count} of dim {dim}")
        rows, halves, halves_dtype = given
    words, most = _filter(allowed, len(q), count)
    answer = "own"
    if rescore is not None or (packed and rows is not None and not exact):
        answer = "rescored"
    elif exact and rows is not None:
        answer = "exact"
    wanted = min(k, max(count, 1))
    answering = backend() if packed is None else holder(packed.codes)
    scores, found = answering.search_topk(
        q,
        rows,
        packed.codes if packed else None,
        wanted,
        answer,
        min(overfetch, count + 1),
        words,
        threads(),
        halves,
        halves_dtype,
    )
    if most < found.shape[1]:
        scores, found = np.ascontiguousarray(scores[:, :most]), np.ascontiguousarray(found[:, :most])
    if is_torch(queries):
        import torch

        return TopK(torch.from_numpy(scores), torch.from_numpy(found))
    return TopK(scores, found)


def _pack_on_gpu(documents: Any, dtype: DocumentType, scales: Any) -> PackedDocuments:
    from leafkit.ops import cuda

    if scales is not None and dtype != "int8":
        raise ValueError(f"scales belong to int8 documents, dtype is {dtype!r}")
    per_dim = None
    if scales is not None:
        import torch

        per_dim = torch.from_numpy(_checked_scales(scales, documents.shape[1])).to(documents.device)
    return PackedDocuments(dtype, None, cuda.pack_documents(documents, dtype, per_dim))


def _search_on_gpu(queries: Any, documents: Any, k: int, exact: bool, rescore: Any, allowed: Any) -> TopK:
    from leafkit.ops import cuda

    if rescore is not None:
        raise ValueError("rescore is not there on a GPU: search float32 or bfloat16 documents, or on the CPU")
    held = documents.codes if isinstance(documents, PackedDocuments) else gpu_tensor(documents)
    if held is None or (isinstance(documents, PackedDocuments) and not isinstance(held, cuda.Codes)):
        raise DeviceError(
            f"queries are on {queries.device}, documents are not: move them to one device, and pack them there"
        )
    return TopK(*cuda.search_topk(queries, held, _count(k, "k"), exact=exact, allowed=allowed))


def _count(value: Any, name: str) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}")
    return count


def _checked_scales(scales: Any, dim: int) -> NDArray[np.float32]:
    given = to_numpy(scales, "scales")
    if given.dtype.kind not in "fiu":
        raise TypeError(f"scales are {given.dtype}, expected numbers")
    array = np.ascontiguousarray(given, dtype=np.float32)
    if array.shape != (dim,):
        raise ShapeMismatch(f"scales have shape {array.shape}, documents have dim {dim}")
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(f"scales must be finite and above 0, they are {array.min()} to {array.max()}")
    return array


def _filter(allowed: Any, queries: int, count: int) -> tuple[NDArray[np.uint64] | None, int]:
    """Bits of 64 rows a word, (1 or Q, words), and the most rows that any query is allowed."""
    if allowed is None:
        return None, count
    array = to_numpy(allowed, "allowed")
    if array.dtype != np.bool_:
        raise TypeError(f"allowed is {array.dtype}, expected bool: one truth value a row")
    if array.shape not in ((count,), (queries, count)):
        raise ShapeMismatch(f"allowed has shape {array.shape}, expected ({count},) or ({queries}, {count})")
    array = np.atleast_2d(array)
    bits = np.zeros((len(array), -(-count // 64) * 8), np.uint8)
    bits[:, : -(-count // 8)] = np.packbits(array, axis=1, bitorder="little")
    most = int(array.sum(axis=1).max(initial=0))
    return bits.view("<u8"), most
