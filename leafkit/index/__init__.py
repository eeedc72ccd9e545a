"""Vectors for search, and the retriever that puts a query encoder before them."""

from leafkit.index.approximate import GpuIndex
from leafkit.index.index import Index
from leafkit.index.retriever import Hit, Retriever

__all__ = ["GpuIndex", "Hit", "Index", "Retriever"]
