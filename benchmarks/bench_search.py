"""Exact search beside the public libraries, interleaved: queries/s, recall@k against float64, share of the machine's
limit. `--quick` takes a minute; `--documents 1000000 --dim 384 --k 100` and so on give the other sizes. `best` is the
fastest peer whose recall is not more than 0.01 below ours.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import form  # first: it sees to NumPy's BLAS
import numpy as np
from limits import limits, share
from search_peers import searches

from leafkit import ops

SLOWER = 0.01  # recall that a peer may be behind and still count


@dataclass(frozen=True)
class Way:
    """One way that we search: what is packed, how it is asked, what it reads, which peers it meets."""

    name: str
    dtype: str | None  # None: in place
    reads: str
    rescored: bool
    peers: frozenset[str]


FLOAT32 = frozenset({"float32"})
FAMILIES = {
    "float32": [
        Way("float32 exact", "float32", "int8", False, FLOAT32),
        Way("float32 exact, in place", None, "float32", False, FLOAT32),
        Way("int8 + re-score", "int8", "int8", True, FLOAT32 | {"re-scored"}),
    ],
    "half": [
        Way("bfloat16", "bfloat16", "bfloat16", False, frozenset({"bfloat16", "float16"})),
        Way("float16", "float16", "float16", False, frozenset({"bfloat16", "float16"})),
    ],
    "int8": [Way("int8", "int8", "int8", False, frozenset({"int8"}))],
    "binary": [
        Way("binary", "binary", "binary", False, frozenset({"binary"})),
        Way("binary + re-score", "binary", "binary", True, frozenset({"binary", "binary re-scored"})),
    ],
}


def clustered(rows: int, dim: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(1000, dim)).astype(np.float32)
    vectors = random.normal(size=(rows, dim)).astype(np.float32)
    vectors += centres[random.integers(0, 1000, rows)]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def unclustered(rows: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def data(options) -> tuple[np.ndarray, np.ndarray]:  # an argparse namespace
    if options.data in ("clustered", "random"):
        make = clustered if options.data == "clustered" else unclustered
        return make(options.documents, options.dim, 0), make(max(options.batches), options.dim, 1)
    vectors = np.concatenate([np.load(path) for path in sorted(Path(options.data).glob("*.npy"))]).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(vectors))
    count = max(options.batches)
    return vectors[order[count:]], vectors[order[:count]]


def truth(queries: np.ndarray, documents: np.ndarray, k: int) -> np.ndarray:
    best = np.full((len(queries), k), -np.inf)
    rows = np.zeros((len(queries), k), np.int64)
    for first in range(0, len(documents), 16384):
        scores = queries.astype(np.float64) @ documents[first : first + 16384].astype(np.float64).T
        near = np.argpartition(-scores, min(k, scores.shape[1] - 1), axis=1)[:, :k]
        scores = np.concatenate([best, np.take_along_axis(scores, near, 1)], axis=1)
        rows = np.concatenate([rows, near + first], axis=1)
        order = np.argsort(-scores, axis=1)[:, :k]
        best, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    return rows


def hits(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean([len(set(f) & set(e)) / len(e) for f, e in zip(found.tolist(), exact.tolist(), strict=True)]))


def compare(family: str, documents: np.ndarray, queries: np.ndarray, exact: np.ndarray, options, machine) -> list[dict]:
    ways = FAMILIES[family]
    peers = searches(frozenset().union(*(way.peers for way in ways)), documents, options.threads)
    held = {way: documents if way.dtype is None else ops.pack_documents(documents, way.dtype) for way in ways}

    def ours(way: Way, part: np.ndarray) -> np.ndarray:
        rescore = documents if way.rescored else None
        return ops.search_topk(part, held[way], options.k, rescore=rescore).rows

    rows = []
    for batch in options.batches:
        part = queries[:batch]
        calls: dict[object, Callable[[], np.ndarray]] = {way: partial(ours, way, part) for way in ways}
        calls |= {peer: partial(search, part, options.k) for peer, search in peers.items()}
        recall = {who: hits(call(), exact[:batch]) for who, call in calls.items()}
        taken = form.median_seconds(calls, 9 if batch == 1 else 3)
        for way in ways:
            rate = batch / taken[way]
            met = [peer for peer in peers if peer.documents in way.peers]
            near = [peer for peer in met if recall[peer] >= recall[way] - SLOWER]
            best = min(near, key=lambda peer: taken[peer], default=None)
            reached = share(machine, way.reads, *documents.shape, rate, batch) / options.threads if machine else None
            case = f"{way.name} {len(documents)} x {documents.shape[1]} k={options.k} Q={batch}"
            rows += [
                form.row(f"{case}{' best' if peer is best else ''}", peer.name, peer.package, batch / taken[peer], rate,
                         "queries/s", quality=recall[way], peer_quality=recall[peer], limit_share=reached)
                for peer in met
            ]  # fmt: skip
    return rows


def main() -> None:
    def more(parser):
        parser.add_argument("--documents", type=int, default=100_000)
        parser.add_argument("--dim", type=int, default=768)
        parser.add_argument("--k", type=int, default=10)
        parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 1024])
        parser.add_argument("--data", default="clustered", help="clustered, random, or a folder of .npy matrices")
        parser.add_argument("--only", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))

    options = form.arguments(__doc__, more)
    if options.quick:
        options.documents, options.dim, options.batches = 20_000, 384, [1, 32, 256]
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(options.threads)
    documents, queries = data(options)
    exact = truth(queries, documents, options.k)
    machine = limits()
    print({name: f"{value / 1e9:.1f} G/s" for name, value in machine.items()})
    rows = [row for family in options.only for row in compare(family, documents, queries, exact, options, machine)]
    form.finish(rows, options)


if __name__ == "__main__":
    main()
