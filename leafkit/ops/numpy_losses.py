"""The losses in NumPy, in float64: plain, and with a value for every pair of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Found = tuple[float, NDArray[np.float32]]


def alignment_loss(
    student: Floats,
    teacher: Floats,
    metric: str,
    widths: Sequence[int],
    shares: Sequence[float],
    weights: Doubles | None,
    unit_prefixes: bool,
    delta: float,
    threads: int = 0,
) -> Found:
    """Value and gradient, prefix by prefix."""
    del threads
    rows, dim = student.shape
    weights = np.ones(rows) if weights is None else weights
    value, gradient = 0.0, np.zeros((rows, dim))
    for width, share in zip(widths, shares, strict=True):
        a, b = student[:, :width].astype(np.float64), teacher[:, :width].astype(np.float64)
        losses, slopes = _row_losses(a, b, metric, unit_prefixes and width < dim, delta)
        value += share * float((weights * losses).sum()) / rows
        gradient[:, :width] += share * weights[:, None] * slopes / rows
    return value, gradient.astype(np.float32)


def _row_losses(a: Doubles, b: Doubles, metric: str, unit: bool, delta: float) -> tuple[Doubles, Doubles]:
    if metric == "huber":
        within = np.clip(a - b, -delta, delta)
        return (within * (a - b - within / 2)).sum(1), within
    if metric == "cosine" or unit:
        norm_a, norm_b = (np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        zero = (norm_a == 0) | (norm_b == 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = np.where(zero, 0.0, (a * b).sum(axis=1, keepdims=True) / (norm_a * norm_b))
            slopes = np.where(zero, 0.0, cosine * a / norm_a**2 - b / (norm_a * norm_b))
        losses = (1 - cosine)[:, 0]
        if metric == "cosine":
            return losses, slopes
        nothing = ((norm_a == 0) & (norm_b == 0))[:, 0]
        squares, slopes = np.where(nothing, 0.0, np.where(zero[:, 0], 1.0, 2 * losses)), 2 * slopes
    else:
        squares, slopes = ((a - b) ** 2).sum(1), 2 * (a - b)
    if metric == "squared_l2":
        return squares, slopes
    roots = np.sqrt(np.maximum(squares, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return roots, np.where(roots[:, None] == 0, 0.0, slopes / (2 * roots[:, None]))


def relational_loss(student: Floats, teacher: Floats, exact: bool, threads: int = 0) -> Found:
    """Value and gradient from all pairs."""
    del exact, threads
    s, t = _finite(student, "student"), _finite(teacher, "teacher")
    apart = s @ s.T - t @ t.T
    return float((apart**2).mean()), (4 * apart @ s / apart.size).astype(np.float32)


def listwise_kl_loss(student: Floats, teacher: Floats, temperature: float, exact: bool, threads: int = 0) -> Found:
    """Value and gradient from all pairs."""
    del exact, threads
    s, t = _finite(student, "student"), _finite(teacher, "teacher")
    log_q, log_p = (_log_softmax(x @ x.T / temperature, own=False) for x in (s, t))
    p, q = np.exp(log_p), np.exp(log_q)
    np.fill_diagonal(log_p, 0.0)
    np.fill_diagonal(log_q, 0.0)
    slopes = (q - p) / (temperature * len(s))
    return float((p * (log_p - log_q)).sum() / len(s)), ((slopes + slopes.T) @ s).astype(np.float32)


def contrastive_loss(student: Floats, teacher: Floats, temperature: float, exact: bool, threads: int = 0) -> Found:
    """Value and gradient from all pairs."""
    del exact, threads
    s, t = _finite(student, "student"), _finite(teacher, "teacher")
    log_p = _log_softmax(s @ t.T / temperature)
    slopes = (np.exp(log_p) - np.eye(len(s))) / (temperature * len(s))
    return float(-np.diag(log_p).mean()), (slopes @ t).astype(np.float32)


def _log_softmax(scores: Doubles, *, own: bool = True) -> Doubles:
    if not own:
        np.fill_diagonal(scores, -np.inf)
    above = scores - scores.max(1, keepdims=True)
    out: Doubles = above - np.log(np.exp(above).sum(1, keepdims=True))
    return out


def _finite(x: Floats, name: str) -> Doubles:
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise ValueError(f"{name} row {bad[0]} of {len(x)} holds a value that is not finite")
    return x.astype(np.float64)


def relative_hinge(student: Floats, teacher: Floats, margin: float) -> tuple[float, Doubles]:
    """Mean of max(0, s_q - s_p + margin) over all p, q with t_p > t_q, and its slope in every student score.

    Goes through the pairs as the teacher ranks them, ties together: those below, sorted by the student's score, reach a
    pair from a place on. O(P^2) time in the worst case for the insertions, O(P) memory.
    """
    s = student.astype(np.float64)
    order = np.argsort(teacher, kind="stable")
    below: Doubles = np.empty(0)
    which: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    total, pairs, slopes = 0.0, 0, np.zeros(len(s))
    for group in np.split(order, np.flatnonzero(np.diff(teacher[order])) + 1):
        if len(below):
            places = np.searchsorted(below, s[group] - margin, side="right")
            tails = np.concatenate([np.cumsum(below[::-1])[::-1], [0.0]])
            counts = len(below) - places
            total += float((tails[places] - counts * (s[group] - margin)).sum())
            slopes[group] -= counts
            reached = np.zeros(len(below) + 1)
            np.add.at(reached, places, 1.0)
            slopes[which] += np.cumsum(reached)[:-1]
            pairs += len(below) * len(group)
        merged = np.concatenate([below, s[group]])
        sorted_by_score = np.argsort(merged, kind="stable")
        below, which = merged[sorted_by_score], np.concatenate([which, group])[sorted_by_score]
    return (total / pairs, slopes / pairs) if pairs else (0.0, slopes)
