"""The linear start from a student's pooled vectors to its teacher's: ridge, or without stretching. NumPy, float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import ShapeMismatch

Projection = Literal["ridge", "orthonormal"]
STRENGTHS = tuple(10.0**power for power in range(-6, 1))  # of the mean variance of a feature
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Linear:
    """A linear map: ``x @ weight.T + bias``; weight (D, d), bias (D,) or none, as a torch Linear holds them."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64] | None
    cosine: float  # mean cosine to the targets on the rows held out

    def __call__(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Map (n, d) to (n, D)."""
        mapped = np.asarray(features, dtype=np.float64) @ self.weight.T
        return mapped if self.bias is None else mapped + self.bias


def fit_ridge(features: NDArray[np.floating[Any]], targets: NDArray[np.floating[Any]]) -> Linear:
    """Fit targets from features; the strength is the one with the best cosine on the last tenth of the rows.

    Args:
        features: (n, d), the student's pooled vectors, in random order.
        targets: (n, D), the teacher's vectors of the same texts.

    Raises:
        ShapeMismatch: another number of rows, or fewer than 2.
    """
    x, y, cut = _pair(features, targets)
    fitted = _fits(x[:cut], y[:cut])
    scored = [(_mean_cosine(x[cut:] @ weight.T + bias, y[cut:]), s) for s, weight, bias in fitted]
    cosine, strength = max(scored)
    _, weight, bias = next(entry for entry in _fits(x, y) if entry[0] == strength)
    return Linear(weight, bias, cosine)


def fit_orthonormal(features: NDArray[np.floating[Any]], targets: NDArray[np.floating[Any]]) -> Linear:
    """Fit the map with orthonormal columns (rows, where d > D) and no bias that has the largest mean inner product.

    Orthogonal Procrustes (Schönemann 1966): U V' of the singular value decomposition U S V' of targets' features.

    Args:
        features: (n, d), unit vectors.
        targets: (n, D), unit vectors of the same texts.

    Raises:
        ShapeMismatch: another number of rows, or fewer than 2.
    """
    x, y, cut = _pair(features, targets)

    def fit(rows: slice) -> NDArray[np.float64]:
        left, _, right = np.linalg.svd(y[rows].T @ x[rows], full_matrices=False)
        turn: NDArray[np.float64] = left @ right
        return turn

    return Linear(fit(slice(None)), None, _mean_cosine(x[cut:] @ fit(slice(cut)).T, y[cut:]))


def _pair(
    features: NDArray[np.floating[Any]], targets: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Both in float64, and where the rows begin that are held out."""
    if len(features) != len(targets) or len(features) < 2:
        raise ShapeMismatch(
            f"{len(features)} rows of features, {len(targets)} of targets: expected as many, at least 2"
        )
    x, y = np.asarray(features, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    return x, y, max(1, len(x) - max(1, round(len(x) * HELD_OUT_SHARE)))


def _fits(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> list[tuple[float, NDArray[np.float64], NDArray[np.float64]]]:
    """Solve for every strength at once: one eigendecomposition of the features' covariance."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    values, vectors = np.linalg.eigh((x - mean_x).T @ (x - mean_x) / len(x))
    projected = vectors.T @ ((x - mean_x).T @ (y - mean_y) / len(x))
    scale = max(float(values.mean()), 1e-30)
    out = []
    for strength in STRENGTHS:
        weight = (vectors @ (projected / (np.maximum(values, 0.0) + strength * scale)[:, None])).T
        out.append((strength, weight, mean_y - weight @ mean_x))
    return out


def _mean_cosine(mapped: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    norms = np.linalg.norm(mapped, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.mean((mapped * y).sum(axis=1) / np.maximum(norms, 1e-30)))
