"""The native operations: exact search and alignment losses. Checks here, arithmetic in ``_C`` or NumPy."""

from leafkit.ops.losses import alignment_loss
from leafkit.ops.search import PackedDocuments, TopK, pack_documents, search_topk

__all__ = ["PackedDocuments", "TopK", "alignment_loss", "pack_documents", "search_topk"]
