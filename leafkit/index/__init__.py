"""Vectors for search, and the retriever that puts a query encoder before them."""

from leafkit.index.index import Index
from leafkit.index.retriever import Hit, Retriever

__all__ = ["Hit", "Index", "Retriever"]
