"""Losses between a student's and its teacher's vectors, text by text: checks here, arithmetic in ``_C`` or NumPy."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import ShapeMismatch
from leafkit.ops.arrays import as_matrix, to_numpy
from leafkit.ops.backend import backend, threads

Metric = Literal["squared_l2", "l2", "cosine", "huber"]
ROWS_A_PART = 64  # of a thread's work
MOST = float(np.finfo(np.float32).max)
Found = tuple[float, NDArray[np.float32]]


def alignment_loss(
    student: Any,
    teacher: Any,
    metric: Metric = "squared_l2",
    *,
    prefixes: Sequence[int] | None = None,
    shares: Sequence[float] | None = None,
    weights: Any = None,
    unit_prefixes: bool = False,
    delta: float = 1.0,
) -> Found:
    """Give the mean loss over rows and its gradient in the student's vectors, at any number of widths in one pass.

    ``squared_l2`` is the sum over dims of squared differences (LEAF, arXiv 2509.12539): D times the mean over all
    elements that sentence-transformers' MSELoss takes. ``l2`` is its root, row by row; ``cosine`` is 1 - cos; ``huber``
    the sum over dims of x^2 / 2 up to ``delta`` and delta (|x| - delta / 2) beyond.

    Args:
        student: float32, (B, D).
        teacher: float32, (B, D).
        metric: which loss.
        prefixes: widths that are compared, rising, up to D; D alone if not given (Matryoshka, arXiv 2205.13147).
        shares: weight of each of them; one over their number if not given.
        weights: of the rows, (B,); 1 each if not given. The sum goes over B, whatever they are.
        unit_prefixes: give a prefix shorter than D unit length first, on both sides; not with ``huber``.
        delta: of ``huber``.

    Returns:
        Value (rows are summed in float32, their losses in float64) and gradient, float32 (B, D). Where ``l2`` has no
        difference, or ``cosine`` or a unit prefix a row of zeros, the gradient is 0; the cosine of zeros is 0, and a
        unit prefix of zeros stays zeros.

    Raises:
        ShapeMismatch: the shapes differ, or there are no rows.
        ValueError: another metric; prefixes that are not rising from 1 to D; shares or weights that are negative, not
            finite or not one each; or a row that holds NaN, named.

    The float64 definition is ``tests/reference.py::objective``.
    """
    s, t = pair_of(student, teacher)
    value, gradient = unchecked_alignment_loss(
        s, t, metric, prefixes=prefixes, shares=shares, weights=weights, unit_prefixes=unit_prefixes, delta=delta
    )
    if not np.isfinite(value):
        require_finite(student=s, teacher=t)
        raise ValueError(f"the loss is {value}: values are beyond float32")
    return value, gradient


def unchecked_alignment_loss(
    s: NDArray[np.float32],
    t: NDArray[np.float32],
    metric: str,
    *,
    prefixes: Sequence[int] | None = None,
    shares: Sequence[float] | None = None,
    weights: Any = None,
    unit_prefixes: bool = False,
    delta: float = 1.0,
) -> Found:
    """The same of matrices of one shape, NaN where a row holds NaN."""
    widths, parts = checked_prefixes(metric, s.shape[1], prefixes, shares, unit_prefixes, delta)
    of_rows = None if weights is None else np.ascontiguousarray(_numbers(weights, "weights"), np.float64)
    if of_rows is not None:
        _require_weights(of_rows, len(s), "weights")
    share = threads() if len(s) > ROWS_A_PART else 1
    return backend().alignment_loss(s, t, metric, widths, parts, of_rows, unit_prefixes, delta, share)


def checked_prefixes(
    metric: str,
    dim: int,
    prefixes: Sequence[int] | None,
    shares: Sequence[float] | None,
    unit_prefixes: bool,
    delta: float,
) -> tuple[list[int], list[float]]:
    """Give widths and shares, ``ValueError`` if they or the metric's options cannot be meant."""
    if metric not in get_args(Metric):
        raise ValueError(f"metric {metric!r}: expected one of {', '.join(get_args(Metric))}")
    if metric == "huber" and unit_prefixes:
        raise ValueError("unit_prefixes are not there for huber: cut and normalise before, or take another metric")
    if not 0 < float(require_number(delta, "delta")) <= MOST:
        raise ValueError(f"delta {delta}: expected a number above 0 that float32 holds")
    widths = [dim] if prefixes is None else whole_numbers(prefixes, "prefixes")
    if not widths or any(b <= a for a, b in zip([0, *widths], [*widths, dim + 1], strict=True)):
        raise ValueError(f"prefixes {widths}: expected rising widths from 1 to {dim}, each once")
    parts = [1 / len(widths)] * len(widths) if shares is None else [float(share) for share in shares]
    if shares is not None:
        _require_weights(np.asarray(parts), len(widths), "shares")
    return widths, parts


def margin_mse_loss(
    query: Any, positive: Any, negative: Any, margins: Any
) -> tuple[float, tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
    """Give the mean over rows of (q.p - q.n - margin)^2, and its gradients in the three (arXiv 2010.02666).

    Margin-MSE of Hofstätter et al.: a cross-encoder's margins, its score of the positive less that of the negative,
    teach an encoder.

    Args:
        query: float32, (B, D).
        positive: float32, (B, D).
        negative: float32, (B, D).
        margins: the teacher's, (B,).

    Raises:
        ShapeMismatch: the shapes do not fit, or there are no rows.
        ValueError: a row that is not finite, named, or a gradient beyond float32.
    """
    q, p = pair_of(query, positive, names=("query", "positive"))
    _, n = pair_of(query, negative, names=("query", "negative"))
    wanted = _column(margins, len(q), "margins")
    require_finite(query=q, positive=p, negative=n, margins=wanted[:, None])
    apart = p.astype(np.float64) - n
    error = np.einsum("bd,bd->b", q, apart) - wanted
    slope = (2 * error / len(q))[:, None]
    in_query, in_positive, in_negative = _float32(slope * apart, slope * q, -slope * q)
    return float(np.mean(error**2)), (in_query, in_positive, in_negative)


def score_mse_loss(one: Any, other: Any, scores: Any) -> tuple[float, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Give the mean over rows of (a.b - score)^2, and its gradients in both (arXiv 1908.05161).

    Distilled Sentence Embedding: the scores of a model that reads both texts at once teach one that embeds each.

    Args:
        one: float32, (B, D).
        other: float32, (B, D).
        scores: a teacher's, (B,), for each pair of texts.

    Raises:
        ShapeMismatch: the shapes do not fit, or there are no rows.
        ValueError: a row that is not finite, named, or a gradient beyond float32.
    """
    a, b = pair_of(one, other, names=("one", "other"))
    wanted = _column(scores, len(a), "scores")
    require_finite(one=a, other=b, scores=wanted[:, None])
    error = np.einsum("bd,bd->b", a, b, dtype=np.float64) - wanted
    slope = (2 * error / len(a))[:, None]
    in_one, in_other = _float32(slope * b, slope * a)
    return float(np.mean(error**2)), (in_one, in_other)


def _float32(*gradients: NDArray[np.float64]) -> list[NDArray[np.float32]]:
    most = max(float(np.abs(gradient).max()) for gradient in gradients)
    if not most <= MOST:
        raise ValueError(f"the gradient reaches {most:.3g}, beyond float32: normalise the vectors")
    return [gradient.astype(np.float32) for gradient in gradients]


def pair_of(
    student: Any, teacher: Any, names: tuple[str, str] = ("student", "teacher")
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give two float32 matrices of one shape with at least one value.

    Raises:
        ShapeMismatch: they are not.
    """
    s, t = as_matrix(student, names[0]), as_matrix(teacher, names[1])
    if s.shape != t.shape:
        raise ShapeMismatch(
            f"{names[0]} has shape {s.shape}, {names[1]} has shape {t.shape}: one row each, of one width"
        )
    if not s.size:
        raise ShapeMismatch(f"the batch has {len(s)} rows of {s.shape[1]} dims, expected at least 1 of each")
    return s, t


def _numbers(values: Any, name: str) -> NDArray[Any]:
    """An array of numbers from anything that holds some."""
    array = np.asarray(values) if isinstance(values, list | tuple) else to_numpy(values, name)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} are {array.dtype}, expected numbers")
    return array


def _column(values: Any, rows: int, name: str) -> NDArray[np.float64]:
    column = np.asarray(_numbers(values, name), dtype=np.float64)
    if column.shape != (rows,):
        raise ShapeMismatch(f"{name} have shape {column.shape}, expected ({rows},): one a row")
    return column


def require_number(value: Any, name: str) -> float:
    """Give it as a float; ``TypeError`` or ``ValueError`` if it is no finite number."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} {value}: expected a finite number")
    return float(value)


def whole_numbers(values: Any, name: str) -> list[int]:
    """Give a list of whole numbers; ``TypeError`` if it is none."""
    try:
        return [operator.index(value) for value in values]
    except TypeError:
        raise TypeError(f"{name} {values!r}: expected whole numbers, as [256, 768]") from None


def _require_weights(values: NDArray[np.float64], count: int, name: str) -> None:
    if values.shape != (count,):
        raise ShapeMismatch(f"{name} have shape {values.shape}, expected ({count},)")
    bad = np.flatnonzero(~((values >= 0) & (values <= MOST)))
    if len(bad):
        raise ValueError(f"{name}[{bad[0]}] is {values[bad[0]]}: expected a number from 0 up to float32's largest")


def require_finite(**matrices: NDArray[Any]) -> None:
    """Raise ``ValueError`` with the first row that holds NaN or an infinity."""
    for name, matrix in matrices.items():
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        if len(bad):
            raise ValueError(f"{name} row {bad[0]} of {len(matrix)} holds a value that is not finite")
