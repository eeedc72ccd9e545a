"""Alignment losses between a student's and its teacher's vectors: checks here, arithmetic in ``_C`` or NumPy."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import ShapeMismatch
from leafkit.ops.arrays import as_matrix
from leafkit.ops.backend import backend, threads

Metric = Literal["squared_l2", "l2", "cosine"]


def alignment_loss(student: Any, teacher: Any, metric: Metric = "squared_l2") -> tuple[float, NDArray[np.float32]]:
    """Give the mean loss over rows and its gradient in the student's vectors.

    ``squared_l2`` is the sum over dims of squared differences (LEAF, arXiv 2509.12539): D times the mean over all
    elements that sentence-transformers' MSELoss takes. ``l2`` is its root, row by row; ``cosine`` is 1 - cos.

    Args:
        student: float32, (B, D).
        teacher: float32, (B, D).
        metric: which loss.

    Returns:
        Value (summed in float64) and gradient, float32 (B, D). Where ``l2`` has no difference, or ``cosine`` a row of
        zeros (loss 1), the gradient is 0.

    Raises:
        ShapeMismatch: the shapes differ, or there are no rows.
        ValueError: another metric.

    The float64 definition is ``tests/reference.py::alignment_loss``.
    """
    s, t = as_matrix(student, "student"), as_matrix(teacher, "teacher")
    if s.shape != t.shape:
        raise ShapeMismatch(f"student has shape {s.shape}, teacher has shape {t.shape}: one row each, of one width")
    if not len(s):
        raise ShapeMismatch("the batch has 0 rows, expected at least 1")
    if metric not in get_args(Metric):
        raise ValueError(f"metric {metric!r}: expected one of {', '.join(get_args(Metric))}")
    return backend().alignment_loss(s, t, metric, threads())
