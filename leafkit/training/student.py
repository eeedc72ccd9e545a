"""The student as a step sees it: from token ids to vectors, by the fastest way that gives the model's gradients."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from leafkit.teachers.packed import packed_encoder
from leafkit.teachers.sentence_transformers import cpu_has_bfloat16
from leafkit.training.data import Tokens
from leafkit.training.recipe import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class TrainedStudent(torch.nn.Module):
    """A sentence-transformers model in training: no dropout, bfloat16 products where the CPU has them."""

    def __init__(self, model: SentenceTransformer, tokens: Tokens, recipe: Recipe) -> None:
        super().__init__()
        keep_freed_memory()
        self.model, self._tokens = model.eval(), tokens
        wants_bfloat16 = recipe.precision == "bfloat16" or (recipe.precision == "auto" and has_bfloat16(model.device))
        self._in_bfloat16 = wants_bfloat16 and not tokens.static
        self._compared = _without_last_normalize(model) if not recipe.normalized else model
        self._packed = packed_encoder(self._compared, bfloat16=self._in_bfloat16)
        if self._packed is None:
            _use_eager_attention(model)

    def forward(self, ids: Sequence[NDArray[np.int32]]) -> torch.Tensor:
        """Give the vectors that the loss compares: float32, (B, dim)."""
        if self._packed is not None:
            return self._packed(ids)
        features = {name: value.to(self.model.device) for name, value in self._tokens.features(ids).items()}
        device = self.model.device.type
        with torch.autocast(device, torch.bfloat16) if self._in_bfloat16 else nullcontext():
            return self._compared(features)["sentence_embedding"].float()  # type: ignore[no-any-return]


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are fast there."""
    return cpu_has_bfloat16() if device.type == "cpu" else device.type == "cuda" and torch.cuda.is_bf16_supported()


def freeze_unused(student: TrainedStudent, ids: Sequence[NDArray[np.int32]]) -> None:
    """Take parameters that no gradient reaches (a pooler that nothing reads) out of training."""
    for parameter in student.model.parameters():
        parameter.requires_grad_(True)
    student(ids).sum().backward()
    for parameter in student.model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


def keep_freed_memory() -> None:
    """Have glibc hold what a step frees for the next one: fresh pages from the system cost up to a tenth of a step."""
    m_trim_threshold, m_mmap_threshold, at_most = -1, -3, 32 << 20  # of malloc.h; glibc refuses a larger mmap threshold
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        mallopt(m_mmap_threshold, at_most)
        mallopt(m_trim_threshold, 2**31 - 1)


def _without_last_normalize(model: SentenceTransformer) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    modules = list(model)
    if type(modules[-1]).__name__ != "Normalize":
        return model
    return SentenceTransformer(modules=modules[:-1], device=str(model.device)).eval()


def _use_eager_attention(model: SentenceTransformer) -> None:
    """On short texts torch's own CPU attention takes two to three times as long, forward and backward."""
    encoder = getattr(model[0], "auto_model", None)
    if encoder is not None and model.device.type == "cpu" and getattr(encoder, "_supports_sdpa", False):
        encoder.set_attn_implementation("eager")
