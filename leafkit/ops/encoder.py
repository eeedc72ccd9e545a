"""What a BERT layer does beside torch's matrix products, on packed rows of torch tensors: arithmetic is ``_C``'s.

Packed: the tokens of all texts one after another, text t in rows starts[t] to starts[t + 1]. Rows (R, H) are float32 or
bfloat16, adjacent, H a multiple of 16; parameters are float32. Rows behind the last text are allowed and come out as 0
where texts matter. Nothing is recorded for autograd: the backwards stand beside the functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from leafkit.ops.backend import backend, threads

Starts = NDArray[np.int64]
PRODUCT_STEP = 32  # sizes that the native product takes are multiples of it


class Attended(NamedTuple):
    """``rows`` (R, H), and what the backward finds the weights from, (heads, R, 2)."""

    rows: torch.Tensor
    kept: torch.Tensor


def attend(qkv: torch.Tensor, bias: torch.Tensor, starts: Starts, heads: int) -> Attended:
    """Give softmax(q k^T / sqrt(dim)) v of every text and head.

    Args:
        qkv: queries, keys and values side by side, (R, 3 H), before their bias.
        bias: float32, (3 H,).
        starts: (texts + 1,), strictly rising from 0.
        heads: of dim H / heads, a multiple of 16, at most 256.

    The float64 definition is ``tests/reference.py::attend``.
    """
    rows, width = qkv.shape
    out, kept = qkv.new_empty((rows, width // 3)), bias.new_empty((heads, rows, 2))
    _native().attend(_view(qkv), _view(bias), starts, heads, _view(out), _view(kept), threads())
    return Attended(out, kept)


def attend_backward(
    qkv: torch.Tensor, bias: torch.Tensor, starts: Starts, heads: int, attended: Attended, gradient: torch.Tensor
) -> torch.Tensor:
    """Give the gradient in qkv, (R, 3 H), from that in ``attended.rows``."""
    out = torch.empty_like(qkv)
    rows, kept = attended
    _native().attend_backward(
        _view(qkv), _view(bias), starts, heads, _view(rows), _view(kept), _view(gradient), _view(out), threads()
    )
    return out


def gelu(rows: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Give x Phi(x) of x = rows + bias: transformers' "gelu". ``rows`` become its slope at x, for the backward."""
    out = torch.empty_like(rows)
    _native().gelu(_view(rows), _view(bias), _view(out), threads())
    return out


class Norm(NamedTuple):
    """A layer norm of rows + bias + residual: what its forward and its backward read.

    Attributes:
        rows: (R, H).
        bias: float32, (H,), or None.
        residual: as ``rows``, or None.
        scale: float32, (H,).
        shift: float32, (H,).
        epsilon: added to the variance.
    """

    rows: torch.Tensor
    bias: torch.Tensor | None
    residual: torch.Tensor | None
    scale: torch.Tensor
    shift: torch.Tensor
    epsilon: float


def normalize(norm: Norm, dtype: torch.dtype) -> torch.Tensor:
    """Give the norm's rows; ``dtype`` is that of norm.rows, or bfloat16 where those are float32."""
    out = torch.empty_like(norm.rows, dtype=dtype)
    _native().normalize(*_views(norm), _view(out), threads())
    return out


def normalize_backward(
    norm: Norm, gradient: torch.Tensor, more: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give the gradients in rows (and in residual: the same), scale and shift, from one or two that are added."""
    out, scale, shift = torch.empty_like(norm.rows), torch.empty_like(norm.scale), torch.empty_like(norm.shift)
    second = None if more is None else _view(more)
    _native().normalize_backward(
        *_views(norm), _view(gradient), second, _view(out), _view(scale), _view(shift), threads()
    )
    return out, scale, shift


def weight_gradient(
    gradient: torch.Tensor, rows: torch.Tensor, factor: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the gradients of y = rows W^T + b in W and b, float32 (O, I) and (O,), from that in y.

    Args:
        gradient: (R, O); multiplied by the factor first, if there is one, in its place.
        rows: (R, I).
        factor: (R, O).
    """
    (count, outputs), inputs = gradient.shape, rows.shape[1]
    sums = gradient.new_empty(outputs, dtype=torch.float32)
    by = None if factor is None else _view(factor)
    tiles = gradient.dtype == torch.bfloat16 and _native().has_products()
    if not tiles or any(size % PRODUCT_STEP for size in (count, outputs, inputs)):
        # As rows of its own: torch's product reads a transposed view of bfloat16 at half the speed.
        turned = gradient.new_empty((outputs, count))
        _native().transpose(_view(gradient), by, _view(turned), _view(sums), threads())
        return (turned @ rows).float(), sums
    out, packed = sums.new_empty((outputs, inputs)), gradient.new_empty(count * min(outputs, inputs))
    _native().weight_gradient(_view(gradient), by, _view(rows), _view(packed), _view(out), _view(sums), threads())
    return out, sums


def pool(rows: torch.Tensor, starts: Starts, *, mean: bool) -> torch.Tensor:
    """Give float32 (texts, H): the mean of each text's rows, or its first row."""
    out = rows.new_empty((len(starts) - 1, rows.shape[1]), dtype=torch.float32)
    _native().pool(_view(rows), starts, mean, _view(out), threads())
    return out


def pool_backward(gradient: torch.Tensor, starts: Starts, rows: torch.Tensor, *, mean: bool) -> torch.Tensor:
    """Give the gradient in rows, of their shape and dtype."""
    out = torch.empty_like(rows)
    _native().pool_backward(_view(gradient), starts, mean, _view(out), threads())
    return out


def _native() -> Any:
    return cast(Any, backend())


def _view(tensor: torch.Tensor) -> NDArray[Any]:
    """The tensor's memory; bfloat16 as its 16 bits."""
    plain = tensor.detach()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()


def _views(norm: Norm) -> tuple[Any, ...]:
    return (*(None if part is None else _view(part) for part in norm[:5]), norm.epsilon)
