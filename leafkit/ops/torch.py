"""The operations as torch custom ops, ``torch.ops.leafkit``: fake kernels for tracing, autograd for the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd.function import once_differentiable

from leafkit.errors import DeviceError, ShapeMismatch
from leafkit.ops import batch_losses, cuda, losses, search


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
    return queries.new_empty(shape, dtype=torch.float32), queries.new_empty(shape, dtype=torch.int64)


@_search_topk.register_kernel("cuda")
def _search_on_gpu(
    queries: torch.Tensor, documents: torch.Tensor, k: int, exact: bool = True, allowed: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    return cuda.search_topk(queries, documents, k, exact=exact, allowed=allowed)


_HALVES = (torch.bfloat16, torch.float16)
_COMPUTE: dict[str, Callable[..., losses.Found]] = {}
OnGpu = Callable[..., tuple[torch.Tensor, torch.Tensor]]


class _Fused(torch.autograd.Function):
    """Value and gradient at once, the gradient kept: as the ops, without the dispatcher (0.1 ms a call)."""

    @staticmethod
    def forward(ctx: Any, student: torch.Tensor, teacher: torch.Tensor, name: str, rest: list[Any]) -> torch.Tensor:
        value, gradient = _COMPUTE[name](student.detach().numpy(), teacher.detach().numpy(), *rest)
        ctx.save_for_backward(torch.from_numpy(gradient))
        return torch.from_numpy(np.array(value, dtype=np.float32))

    @staticmethod
    @once_differentiable  # the gradient's own slope is not there: refuse, not 0
    def backward(ctx: Any, *values: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient if values[0].item() == 1.0 else values[0] * gradient, None, None, None


def _loss(name: str, student: torch.Tensor, teacher: torch.Tensor, *rest: Any) -> torch.Tensor:
    """The loss by its op where torch traces, or has another device or kind of tensor; else straight."""
    if student.device != teacher.device:
        raise DeviceError(f"student is on {student.device}, teacher is on {teacher.device}: move them to one device")
    on_cpu = student.device.type == "cpu"
    if on_cpu and (student.dtype in _HALVES or teacher.dtype in _HALVES):  # of autocast, as a rule
        student, teacher = (side.float() if side.dtype in _HALVES else side for side in (student, teacher))
    plain = type(student) in (torch.Tensor, torch.nn.Parameter) and type(teacher) is torch.Tensor
    if plain and on_cpu and not torch.compiler.is_compiling():
        fused: Any = _Fused.apply  # untyped
        return cast(torch.Tensor, fused(student, teacher, name, [*rest]))
    return cast(torch.Tensor, getattr(torch.ops.leafkit, name)(student, teacher, *rest)[0])


def _define_loss(name: str, arguments: str, compute: Callable[..., losses.Found], on_gpu: OnGpu | None) -> None:
    """Register ``name``: (student, teacher, arguments) to value and gradient, which is what its backward needs."""
    qualified = f"leafkit::{name}"

    def on_cpu(student: torch.Tensor, teacher: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        value, gradient = compute(student.detach().numpy(), teacher.detach().numpy(), *rest)
        return torch.tensor(value, dtype=torch.float32), torch.from_numpy(gradient)

    def fake(student: torch.Tensor, teacher: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        gradient = student.new_empty(student.shape, dtype=cuda.gradient_type(student, teacher))
        return student.new_empty((), dtype=torch.float32), gradient

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.inputs = len(inputs)

    @once_differentiable
    def backward(ctx: Any, value: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (value * ctx.saved_tensors[0], *[None] * (ctx.inputs - 1))

    _COMPUTE[name] = compute
    torch.library.define(qualified, f"(Tensor student, Tensor teacher, {arguments}) -> (Tensor, Tensor)")
    torch.library.impl(qualified, "CPU", on_cpu)
    if on_gpu is not None:
        torch.library.impl(qualified, "CUDA", on_gpu)
    torch.library.register_fake(qualified, fake)
    torch.library.register_autograd(qualified, backward, setup_context=keep)


def _aligned(
    student: NDArray[np.float32],
    teacher: NDArray[np.float32],
    metric: str,
    prefixes: list[int] | None,
    shares: list[float] | None,
    weights: torch.Tensor | None,
    unit_prefixes: bool,
    delta: float,
) -> losses.Found:
    s, t = losses.pair_of(student, teacher)
    return losses.unchecked_alignment_loss(
        s, t, metric, prefixes=prefixes, shares=shares, weights=None if weights is None else weights.numpy(),
        unit_prefixes=unit_prefixes, delta=delta,
    )  # fmt: skip


def _aligned_on_gpu(
    student: torch.Tensor,
    teacher: torch.Tensor,
    metric: str,
    prefixes: list[int] | None,
    shares: list[float] | None,
    weights: torch.Tensor | None,
    unit_prefixes: bool,
    delta: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    widths, parts = losses.checked_prefixes(metric, student.shape[-1], prefixes, shares, unit_prefixes, delta)
    return cuda.alignment_loss(student, teacher, metric, widths, parts, weights, unit_prefixes, delta)


_define_loss(
    "alignment_loss",
    "str metric, int[]? prefixes, float[]? shares, Tensor? weights, bool unit_prefixes, float delta",
    _aligned,
    _aligned_on_gpu,
)
_define_loss(
    "relational_loss", "bool exact",
    lambda s, t, e: batch_losses.relational_loss(s, t, exact=e),
    lambda s, t, e: cuda.batch_loss("relational", s, t, 1.0, e),
)  # fmt: skip
_define_loss(
    "listwise_kl_loss", "float temperature, bool exact",
    lambda s, t, temperature, e: batch_losses.listwise_kl_loss(s, t, temperature, exact=e),
    lambda s, t, temperature, e: cuda.batch_loss("listwise_kl", s, t, temperature, e),
)  # fmt: skip
_define_loss(
    "contrastive_loss", "float temperature, bool exact",
    lambda s, t, temperature, e: batch_losses.contrastive_loss(s, t, temperature, exact=e),
    lambda s, t, temperature, e: cuda.batch_loss("contrastive", s, t, temperature, e),
)  # fmt: skip
_define_loss("relative_similarity_loss", "float margin", batch_losses.relative_similarity_loss, None)


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


def alignment_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    metric: losses.Metric = "squared_l2",
    *,
    prefixes: Sequence[int] | None = None,
    shares: Sequence[float] | None = None,
    weights: torch.Tensor | None = None,
    unit_prefixes: bool = False,
    delta: float = 1.0,
) -> torch.Tensor:
    """Give the loss as a scalar tensor that propagates into the student; the teacher is fixed.

    As ``leafkit.ops.alignment_loss``, but that a row of NaN makes the loss NaN, as torch's own losses do.
    """
    if weights is not None:
        weights = torch.as_tensor(weights).detach()
    widths = None if prefixes is None else losses.whole_numbers(prefixes, "prefixes")
    return _loss("alignment_loss", student, teacher, metric, widths, shares, weights, unit_prefixes, delta)


def relational_loss(student: torch.Tensor, teacher: torch.Tensor, *, exact: bool = False) -> torch.Tensor:
    """``leafkit.ops.relational_loss`` as a scalar tensor that propagates into the student; the teacher is fixed."""
    return _loss("relational_loss", student, teacher, exact)


def listwise_kl_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    temperature: float = batch_losses.TEMPERATURE,
    *,
    exact: bool = False,
) -> torch.Tensor:
    """``leafkit.ops.listwise_kl_loss`` as a scalar tensor that propagates into the student; the teacher is fixed."""
    return _loss("listwise_kl_loss", student, teacher, temperature, exact)


def contrastive_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    temperature: float = batch_losses.TEMPERATURE,
    *,
    exact: bool = False,
) -> torch.Tensor:
    """``leafkit.ops.contrastive_loss`` as a scalar tensor that propagates into the student; the teacher is fixed."""
    return _loss("contrastive_loss", student, teacher, temperature, exact)


def relative_similarity_loss(student: torch.Tensor, teacher: torch.Tensor, margin: float = 0.015) -> torch.Tensor:
    """``leafkit.ops.relative_similarity_loss`` as a scalar tensor that propagates into the student."""
    return _loss("relative_similarity_loss", student, teacher, margin)


def margin_mse_loss(
    query: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, margins: torch.Tensor
) -> torch.Tensor:
    """``leafkit.ops.margin_mse_loss`` as a scalar tensor that propagates into all three; torch's own operators.

    Raises:
        ShapeMismatch: the shapes do not fit, or there are no rows.
    """
    _require_alike(query=query, positive=positive, negative=negative)
    _require_column(margins, query, "margins")
    return ((query * (positive - negative)).sum(1) - margins).square().mean()


def score_mse_loss(one: torch.Tensor, other: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """``leafkit.ops.score_mse_loss`` as a scalar tensor that propagates into both; torch's own operators.

    Raises:
        ShapeMismatch: the shapes do not fit, or there are no rows.
    """
    _require_alike(one=one, other=other)
    _require_column(scores, one, "scores")
    return ((one * other).sum(1) - scores).square().mean()


def _require_alike(**sides: torch.Tensor) -> None:
    """Refuse what would be broadcast."""
    (first, one), *others = sides.items()
    for name, side in others:
        if side.shape != one.shape or one.ndim != 2 or not one.numel():
            raise ShapeMismatch(
                f"{first} has shape {tuple(one.shape)}, {name} has shape {tuple(side.shape)}: one row"
                " each, of one width"
            )


def _require_column(column: torch.Tensor, rows: torch.Tensor, name: str) -> None:
    if column.shape != rows.shape[:1]:
        raise ShapeMismatch(f"{name} have shape {tuple(column.shape)}, expected ({len(rows)},): one a row")
