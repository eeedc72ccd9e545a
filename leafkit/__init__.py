"""leafkit: distil small encoders into a teacher's embedding space, and serve retrieval asymmetrically.

Public names load on first use (PEP 562): ``import leafkit`` imports neither torch nor pyarrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leafkit.export import export_router
    from leafkit.index import Hit, Index, Retriever
    from leafkit.space import EmbeddingSpace
    from leafkit.store import EmbeddingStore, embed_texts, import_vectors
    from leafkit.students import open_encoder, open_student
    from leafkit.teachers import CallableTeacher, Teacher, open_teacher
    from leafkit.training import Recipe, distil, preset

__version__ = "0.1.0"

_HOME = {
    "EmbeddingSpace": "leafkit.space",
    "Teacher": "leafkit.teachers",
    "CallableTeacher": "leafkit.teachers",
    "open_teacher": "leafkit.teachers",
    "EmbeddingStore": "leafkit.store",
    "embed_texts": "leafkit.store",
    "import_vectors": "leafkit.store",
    "open_student": "leafkit.students",
    "open_encoder": "leafkit.students",
    "Recipe": "leafkit.training",
    "preset": "leafkit.training",
    "distil": "leafkit.training",
    "export_router": "leafkit.export",
    "Index": "leafkit.index",
    "Retriever": "leafkit.index",
    "Hit": "leafkit.index",
}

__all__ = [
    "CallableTeacher",
    "EmbeddingSpace",
    "EmbeddingStore",
    "Hit",
    "Index",
    "Recipe",
    "Retriever",
    "Teacher",
    "distil",
    "embed_texts",
    "export_router",
    "import_vectors",
    "open_encoder",
    "open_student",
    "open_teacher",
    "preset",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'leafkit' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
