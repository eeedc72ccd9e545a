"""The native operations: exact search and alignment losses. Checks here, arithmetic in ``_C`` or NumPy."""

from leafkit.ops.batch_losses import contrastive_loss, listwise_kl_loss, relational_loss, relative_similarity_loss
from leafkit.ops.losses import alignment_loss, margin_mse_loss, score_mse_loss
from leafkit.ops.search import PackedDocuments, TopK, pack_documents, search_topk

__all__ = [
    "PackedDocuments",
    "TopK",
    "alignment_loss",
    "contrastive_loss",
    "listwise_kl_loss",
    "margin_mse_loss",
    "pack_documents",
    "relational_loss",
    "relative_similarity_loss",
    "score_mse_loss",
    "search_topk",
]
