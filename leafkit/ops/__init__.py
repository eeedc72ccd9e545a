"""The native operations: exact search and alignment losses. Checks here, arithmetic in ``_C`` or NumPy."""

from leafkit.ops.losses import alignment_loss
from leafkit.ops.search import TopK, search_topk

__all__ = ["TopK", "alignment_loss", "search_topk"]
