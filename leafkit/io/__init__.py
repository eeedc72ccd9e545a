"""Files at the edge: atomic writes, and readers of what users bring."""

from leafkit.io.beir import is_beir_folder, read_corpus, read_qrels, read_queries, splits
from leafkit.io.texts import TextRow, read_texts
from leafkit.io.vectors import read_npy, read_vectors

__all__ = [
    "TextRow",
    "is_beir_folder",
    "read_corpus",
    "read_npy",
    "read_qrels",
    "read_queries",
    "read_texts",
    "read_vectors",
    "splits",
]
