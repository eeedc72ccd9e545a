"""Exact float32 search beside FAISS's flat index, torch and NumPy: queries/s, recall@10 against float64.

leafkit answers twice: documents in place, and packed (one byte a value beside the rows).
"""

import numpy as np
from form import arguments, finish, median_seconds, row


def clustered(rows: int, dim: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(1000, dim)).astype(np.float32)
    vectors = centres[random.integers(0, 1000, rows)] + random.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    options = arguments(__doc__)
    import torch

    from leafkit import ops

    torch.set_num_threads(options.threads)
    count, dim, k = (20_000, 384, 10) if options.quick else (100_000, 768, 10)
    documents = clustered(count, dim, 0)
    ways = {"in place": documents, "packed": ops.pack_documents(documents)}
    rows = []
    for batch in (1, 32, 256 if options.quick else 1024):
        queries = clustered(batch, dim, 1)
        exact = (queries.astype(np.float64) @ documents.astype(np.float64).T).argsort(axis=1)[:, -k:]
        peers = {"torch matmul + topk": ("torch", lambda q=queries: torch_search(torch, q, documents, k))}
        peers["numpy matmul + argpartition"] = ("numpy", lambda q=queries: numpy_search(q, documents, k))
        try:
            import faiss

            faiss.omp_set_num_threads(options.threads)
            index = faiss.IndexFlatIP(dim)
            index.add(documents)
            peers["FAISS IndexFlatIP"] = ("faiss-cpu", lambda q=queries, index=index: index.search(q, k)[1])
        except ImportError:
            print("faiss is not installed: its rows are left out (pip install 'leafkit[faiss-cpu]')")
        calls = {way: lambda q=queries, d=held: ops.search_topk(q, d, k).rows for way, held in ways.items()}
        calls |= {name: call for name, (_, call) in peers.items()}
        recall = {name: hits(call(), exact) for name, call in calls.items()}
        taken = median_seconds(calls, 9 if batch == 1 else 3)
        rows += [
            row(f"f32 {way} {count} x {dim} k={k} Q={batch}", name, package, batch / taken[name], batch / taken[way],
                "queries/s", quality=recall[way], peer_quality=recall[name])
            for way in ways
            for name, (package, _) in peers.items()
        ]  # fmt: skip
    finish(rows, options)


def hits(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean([len(set(f) & set(e)) / len(e) for f, e in zip(found.tolist(), exact.tolist(), strict=True)]))


def torch_search(torch, queries: np.ndarray, documents: np.ndarray, k: int) -> np.ndarray:  # a module
    with torch.inference_mode():
        d = torch.from_numpy(documents).T
        parts = [torch.topk(part @ d, k, dim=1).indices for part in torch.from_numpy(queries).split(256)]
        return torch.cat(parts).numpy()


def numpy_search(queries: np.ndarray, documents: np.ndarray, k: int) -> np.ndarray:
    scores = queries @ documents.T
    return np.argpartition(-scores, k, axis=1)[:, :k]


if __name__ == "__main__":
    main()
