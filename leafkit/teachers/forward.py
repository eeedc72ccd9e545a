"""Forward: a model from prompted texts to its vectors, without gradients, by the fastest way that gives them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leafkit.teachers.packed import packed_encoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Forward:
    """Runs a model whose weights do not change any more.

    Args:
        model: a plain BERT runs packed, without padding; others as sentence-transformers runs them.
        bfloat16: what the products are in.
    """

    def __init__(self, model: SentenceTransformer, *, bfloat16: bool) -> None:
        self._model, self._bfloat16 = model, bfloat16
        lowers = bool(getattr(model[0], "do_lower_case", False))
        self._packed = None if lowers else packed_encoder(model, bfloat16=bfloat16, frozen=True)

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Give what the model gives for texts, cut at its limit: float32, (n, dim)."""
        model = self._model
        with torch.no_grad():  # inference_mode would cast the weights anew for every batch
            if self._packed is not None:
                tokenizer: Any = model.tokenizer
                ids = tokenizer(list(texts), truncation=True, max_length=model.max_seq_length)["input_ids"]
                return self._packed([np.asarray(row, np.int32) for row in ids])
            with torch.autocast("cpu", torch.bfloat16) if self._bfloat16 else nullcontext():
                out: torch.Tensor = model(model.preprocess(list(texts)))["sentence_embedding"].float()
                return out
