"""Exact search as the public libraries do it: each peer takes documents once, and gives a call that finds rows.

A peer that is not installed is left out. The matrix products of torch, NumKong and NumPy meet 256 queries at a time, so
that their scores stay in the hundreds of megabytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from form import HELD_TO_AVX2

Search = Callable[[np.ndarray, int], np.ndarray]  # queries (Q, D) and k give rows (Q, k)
CHUNK = 256
UNPROVEN = 50  # documents that the peers' two-step searches score again


@dataclass(frozen=True)
class Peer:
    """A library's own search; ``documents`` is the narrowest type that it holds."""

    name: str
    package: str
    documents: str
    make: Callable[[np.ndarray, int], Search]


def faiss_flat(documents: np.ndarray, threads: int) -> Search:
    import faiss

    return _faiss(faiss, faiss.IndexFlatIP(documents.shape[1]), documents, threads)


def faiss_quantized(kind: str) -> Callable[[np.ndarray, int], Search]:
    def make(documents: np.ndarray, threads: int) -> Search:
        import faiss

        type = getattr(faiss.ScalarQuantizer, kind)
        index = faiss.IndexScalarQuantizer(documents.shape[1], type, faiss.METRIC_INNER_PRODUCT)
        return _faiss(faiss, index, documents, threads)

    return make


def faiss_rabitq(documents: np.ndarray, threads: int) -> Search:
    import faiss

    return _faiss(faiss, faiss.IndexRaBitQ(documents.shape[1], faiss.METRIC_INNER_PRODUCT), documents, threads)


def _faiss(faiss, index, documents: np.ndarray, threads: int) -> Search:  # a module, an index
    faiss.omp_set_num_threads(threads)
    if not index.is_trained:
        index.train(documents[:65536])
    index.add(documents)
    return lambda queries, k: index.search(queries, k)[1]


def bits(values: np.ndarray) -> np.ndarray:
    return np.packbits(values > 0, axis=1, bitorder="little")


def faiss_binary(documents: np.ndarray, threads: int) -> Search:
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexBinaryFlat(8 * bits(documents[:1]).shape[1])
    index.add(bits(documents))
    return lambda queries, k: index.search(bits(queries), k)[1]


def faiss_binary_rescored(documents: np.ndarray, threads: int) -> Search:
    search = faiss_binary(documents, threads)
    return lambda queries, k: again(queries, documents, search(queries, 4 * k), k)


def again(queries: np.ndarray, documents: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    scores = np.einsum("qd,qnd->qn", queries, documents[rows])
    return np.take_along_axis(rows, np.argsort(-scores, axis=1)[:, :k], axis=1)


def usearch(kind: str) -> Callable[[np.ndarray, int], Search]:
    def make(documents: np.ndarray, threads: int) -> Search:
        from usearch.index import Index, MetricKind
        from usearch.index import search as find

        if kind == "b1":
            held, metric, to = bits(documents), MetricKind.Hamming, bits
        elif kind == "i8":
            scale = 127 / np.abs(documents).max()
            held, metric = np.rint(documents * scale).astype(np.int8), MetricKind.IP

            def to(queries: np.ndarray) -> np.ndarray:
                return np.rint(queries * 127 / np.abs(queries).max()).astype(np.int8)
        else:
            type = {"f32": np.float32, "f16": np.float16}[kind]
            held, metric = documents.astype(type), MetricKind.IP

            def to(queries: np.ndarray) -> np.ndarray:
                return queries.astype(type)

        assert Index is not None

        def search(queries: np.ndarray, k: int) -> np.ndarray:
            return find(held, to(queries), k, metric, exact=True, threads=threads).keys.reshape(len(queries), -1)

        return search

    return make


def numkong(kind: str) -> Callable[[np.ndarray, int], Search]:
    def make(documents: np.ndarray, threads: int) -> Search:
        import numkong as nk
        import torch

        if threads != 1:
            raise ImportError("its Python calls use one thread")
        if HELD_TO_AVX2:
            for name in nk.get_capabilities():
                if name not in ("serial", "haswell"):
                    nk.disable_capability(name)
        scale = 127 / np.abs(documents).max()
        to = {
            "f32": lambda x: np.ascontiguousarray(x),
            "bf16": lambda x: nk.Tensor(np.ascontiguousarray(x)).astype("bfloat16"),
            "i8": lambda x: np.clip(np.rint(x * scale), -127, 127).astype(np.int8),
            "u1": bits,
        }[kind]
        if kind == "u1":
            packed = nk.hammings_pack(bits(documents), dtype="uint1")
        else:
            packed = nk.dots_pack(to(documents))

        def search(queries: np.ndarray, k: int) -> np.ndarray:
            found = []
            for first in range(0, len(queries), CHUNK):
                part = to(queries[first : first + CHUNK])
                if kind == "u1":
                    scores = np.asarray(nk.hammings_packed(part, packed)).astype(np.int32)
                else:
                    scores = np.asarray(nk.dots_packed(part, packed))
                found.append(torch.topk(torch.from_numpy(scores), k, dim=1, largest=kind != "u1").indices.numpy())
            return np.concatenate(found)

        return search

    return make


def torch_matmul(kind: str) -> Callable[[np.ndarray, int], Search]:
    def make(documents: np.ndarray, threads: int) -> Search:
        import torch

        type = getattr(torch, kind)
        held = torch.from_numpy(documents).to(type).T

        def search(queries: np.ndarray, k: int) -> np.ndarray:
            with torch.inference_mode():
                parts = torch.from_numpy(queries).to(type).split(CHUNK)
                return torch.cat([torch.topk(part @ held, k, dim=1).indices for part in parts]).numpy()

        return search

    return make


def torch_int8(documents: np.ndarray, threads: int) -> Search:
    import torch

    scale = 127 / np.abs(documents).max()  # one clipped scale for all, as its integers need
    held = torch.from_numpy(np.rint(documents * scale).astype(np.int8)).T

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        with torch.inference_mode():
            each = np.abs(queries).max(axis=1, keepdims=True)
            codes = torch.from_numpy(np.rint(queries * (127 / each)).astype(np.int8))
            parts = codes.split(CHUNK)
            return torch.cat([torch.topk(torch._int_mm(part, held), k, dim=1).indices for part in parts]).numpy()

    return search


def torch_rescored(first: Callable[[np.ndarray, int], Search]) -> Callable[[np.ndarray, int], Search]:
    def make(documents: np.ndarray, threads: int) -> Search:
        import torch

        search, rows = first(documents, threads), torch.from_numpy(documents)

        def both(queries: np.ndarray, k: int) -> np.ndarray:
            with torch.inference_mode():
                found, part = [], 64
                near = torch.from_numpy(search(queries, max(UNPROVEN, 2 * k)))
                for q, n in zip(torch.from_numpy(queries).split(part), near.split(part), strict=True):
                    best = torch.topk((rows[n] @ q[:, :, None])[..., 0], k, dim=1).indices
                    found.append(n.gather(1, best))
                return torch.cat(found).numpy()

        return both

    return make


def semantic_search(documents: np.ndarray, threads: int) -> Search:
    import torch
    from sentence_transformers.util import dot_score
    from sentence_transformers.util import semantic_search as find

    held = torch.from_numpy(documents)

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        found = find(torch.from_numpy(queries), held, top_k=k, score_function=dot_score)
        return np.array([[hit["corpus_id"] for hit in hits] for hits in found])

    return search


def numpy_matmul(documents: np.ndarray, threads: int) -> Search:
    def search(queries: np.ndarray, k: int) -> np.ndarray:
        found = []
        for first in range(0, len(queries), CHUNK):
            scores = queries[first : first + CHUNK] @ documents.T
            found.append(np.argpartition(-scores, k, axis=1)[:, :k])
        return np.concatenate(found)

    return search


PEERS = [
    Peer("FAISS IndexFlatIP", "faiss-cpu", "float32", faiss_flat),
    Peer("torch matmul + topk", "torch", "float32", torch_matmul("float32")),
    Peer("numpy matmul + argpartition", "numpy", "float32", numpy_matmul),
    Peer("sentence-transformers semantic_search", "sentence-transformers", "float32", semantic_search),
    Peer("usearch exact f32", "usearch", "float32", usearch("f32")),
    Peer("NumKong dots_packed f32 + topk", "numkong", "float32", numkong("f32")),
    Peer("torch bf16 top-50 + re-score", "torch", "re-scored", torch_rescored(torch_matmul("bfloat16"))),
    Peer("torch _int_mm top-50 + re-score", "torch", "re-scored", torch_rescored(torch_int8)),
    Peer("FAISS SQbf16", "faiss-cpu", "bfloat16", faiss_quantized("QT_bf16")),
    Peer("torch bf16 matmul + topk", "torch", "bfloat16", torch_matmul("bfloat16")),
    Peer("NumKong dots_packed bf16 + topk", "numkong", "bfloat16", numkong("bf16")),
    Peer("FAISS SQfp16", "faiss-cpu", "float16", faiss_quantized("QT_fp16")),
    Peer("usearch exact f16", "usearch", "float16", usearch("f16")),
    Peer("FAISS SQ8", "faiss-cpu", "int8", faiss_quantized("QT_8bit")),
    Peer("torch _int_mm + topk", "torch", "int8", torch_int8),
    Peer("usearch exact i8", "usearch", "int8", usearch("i8")),
    Peer("NumKong dots_packed i8 + topk", "numkong", "int8", numkong("i8")),
    Peer("FAISS IndexBinaryFlat", "faiss-cpu", "binary", faiss_binary),
    Peer("FAISS IndexBinaryFlat + re-score", "faiss-cpu", "binary re-scored", faiss_binary_rescored),
    Peer("FAISS IndexRaBitQ", "faiss-cpu", "binary", faiss_rabitq),
    Peer("usearch exact b1", "usearch", "binary", usearch("b1")),
    Peer("NumKong hammings_packed + topk", "numkong", "binary", numkong("u1")),
]


def searches(kinds: set[str], documents: np.ndarray, threads: int) -> dict[Peer, Search]:
    """Every installed peer of these kinds, with the documents inside."""
    made = {}
    for peer in PEERS:
        if peer.documents in kinds:
            with contextlib.suppress(ImportError):
                made[peer] = peer.make(documents, threads)
            if peer not in made:
                print(f"{peer.name} is left out: {peer.package} is not installed, or has one thread only")
    return made
