"""GpuIndex: the documents of an index in FAISS's inverted lists on a GPU; some are not looked at."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import DeviceError, MissingExtra, UsageError
from leafkit.index.index import Index
from leafkit.ops import TopK
from leafkit.space import EmbeddingSpace

SAMPLE = 64  # documents a list that the centres are learned from
GPU_PACKAGES = ("faiss-gpu", "faiss-gpu-cu12")


class GpuIndex:
    """Answers from the lists nearest to a query, so not every near document is found; takes an index's place.

    Args:
        index: whose documents; its ids and texts are used where they lie.
        lists: parts of the documents; 4 times the root of their number if not given.
        probes: lists looked at for a query: more find more, and take longer.

    Raises:
        MissingExtra: faiss-gpu is not installed.
        UsageError: faiss-cpu is installed beside it, or in its place; or lists and probes that cannot be meant.
        DeviceError: FAISS sees no GPU.
    """

    def __init__(self, index: Index, *, lists: int | None = None, probes: int = 32) -> None:
        count = len(index)
        lists = max(1, round(4 * count**0.5)) if lists is None else lists
        if not 1 <= lists <= count:
            raise UsageError(f"{lists} lists for {count} documents: expected 1 to {count}")
        if not probes >= 1:
            raise UsageError(f"{probes} probes: expected at least 1")
        faiss = _faiss()
        self._index, self.ids = index, index.ids
        vectors, dim = np.ascontiguousarray(index.vectors), index.space.dim
        flat = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
        self._held = _on_gpu(faiss, flat)
        sample = np.random.default_rng(0).permutation(count)[: SAMPLE * lists]
        self._held.train(vectors[np.sort(sample)])
        self._held.add(vectors)
        self._held.nprobe = min(probes, lists)

    @property
    def space(self) -> EmbeddingSpace:
        """Space of the documents."""
        return self._index.space

    def __len__(self) -> int:
        return len(self._index)

    def text(self, row: int) -> str:
        """Give a document's text."""
        return self._index.text(row)

    def search(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Find k near documents of every query: scores and rows, (Q, min(k, N)), best first.

        Where the lists looked at hold fewer, rows are -1 and scores -inf at the end.
        """
        scores, rows = self._held.search(np.ascontiguousarray(queries, dtype=np.float32), min(k, len(self)))
        return TopK(np.where(rows < 0, np.float32(-np.inf), scores), rows.astype(np.int64))


def _faiss() -> Any:
    """The module, where it is the one that knows GPUs and nothing else has written over it."""
    gpu = [name for name in GPU_PACKAGES if _installed(name)]
    if _installed("faiss-cpu"):
        beside = f"beside {gpu[0]}" if gpu else "in faiss-gpu's place"
        raise UsageError(
            f"faiss-cpu is installed {beside}, and both are the module faiss: pip uninstall faiss-cpu"
            f" {' '.join(gpu)}; pip install 'leafkit[faiss-gpu]'"
        )
    if not gpu:
        raise MissingExtra("faiss-gpu", "faiss-gpu")
    import faiss

    if not faiss.get_num_gpus():
        raise DeviceError("FAISS sees no GPU: `leafkit info` says what is missing; leafkit.Index searches on the CPU")
    return faiss


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _on_gpu(faiss: Any, index: Any) -> Any:
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
