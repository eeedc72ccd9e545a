"""Stores of teacher vectors: what training, indexes and evaluation read."""

from leafkit.store.embedding import EmbedReport, embed_texts
from leafkit.store.importing import import_vectors
from leafkit.store.store import EmbeddingStore, Row, text_key

__all__ = ["EmbedReport", "EmbeddingStore", "Row", "embed_texts", "import_vectors", "text_key"]
