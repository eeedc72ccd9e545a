"""The operations as torch custom ops, ``torch.ops.leafkit``: fake kernels for tracing, autograd for the loss."""

from __future__ import annotations

from typing import Any, cast

import torch

from leafkit.ops import losses, search


@torch.library.custom_op("leafkit::search_topk", mutates_args=(), device_types="cpu")
def _search_topk(
    queries: torch.Tensor,
    documents: torch.Tensor,
    k: int,
    exact: bool = True,
    allowed: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    found = search.search_topk(queries, documents, k, exact=exact, allowed=allowed)
    missing = min(k, documents.shape[0]) - found.rows.shape[1]  # the shape must not depend on what is allowed
    if missing == 0:
        return found.scores, found.rows
    pad = torch.nn.functional.pad
    return pad(found.scores, (0, missing), value=-torch.inf), pad(found.rows, (0, missing), value=-1)


@_search_topk.register_fake
def _(
    queries: torch.Tensor, documents: torch.Tensor, k: int, exact: bool = True, allowed: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (queries.shape[0], min(k, documents.shape[0]))
    return queries.new_empty(shape), queries.new_empty(shape, dtype=torch.int64)


@torch.library.custom_op("leafkit::alignment_loss", mutates_args=(), device_types="cpu")
def _alignment_loss(student: torch.Tensor, teacher: torch.Tensor, metric: str) -> tuple[torch.Tensor, torch.Tensor]:
    value, gradient = losses.alignment_loss(student.contiguous(), teacher.contiguous(), cast(losses.Metric, metric))
    return torch.tensor(value, dtype=torch.float32), torch.from_numpy(gradient)


@_alignment_loss.register_fake
def _(student: torch.Tensor, teacher: torch.Tensor, metric: str) -> tuple[torch.Tensor, torch.Tensor]:
    return student.new_empty(()), student.new_empty(student.shape)


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, value: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
    return value * ctx.saved_tensors[0], None, None


_alignment_loss.register_autograd(_backward, setup_context=_keep_gradient)


def search_topk(
    queries: torch.Tensor,
    documents: torch.Tensor,
    k: int,
    *,
    exact: bool = True,
    allowed: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Search through ``torch.ops.leafkit.search_topk``: scores and rows, (Q, min(k, N)).

    Options as in ``leafkit.ops.search_topk``; where fewer rows are allowed, rows are -1 and scores -inf at the end.
    """
    return cast(
        tuple[torch.Tensor, torch.Tensor],
        torch.ops.leafkit.search_topk(queries, documents, k, exact=exact, allowed=allowed),
    )


def alignment_loss(student: torch.Tensor, teacher: torch.Tensor, metric: losses.Metric = "squared_l2") -> torch.Tensor:
    """Give the loss as a scalar tensor that propagates into the student; the teacher is fixed.

    Args:
        student: float32, (B, D).
        teacher: float32, (B, D).
        metric: as in ``leafkit.ops.alignment_loss``.
    """
    return cast(torch.Tensor, torch.ops.leafkit.alignment_loss(student, teacher, metric)[0])
