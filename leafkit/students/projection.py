"""The projection into the teacher's space: where it starts, and how it is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import ShapeMismatch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

STRENGTHS = tuple(10.0**power for power in range(-6, 1))  # of the mean variance of a feature
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Ridge:
    """A linear map: ``x @ weight.T + bias``; weight (D, d), bias (D,), as a torch Linear holds them."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float
    cosine: float  # mean cosine to the targets on the rows held out

    def __call__(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Map (n, d) to (n, D)."""
        return np.asarray(features, dtype=np.float64) @ self.weight.T + self.bias


def fit_ridge(features: NDArray[np.floating[Any]], targets: NDArray[np.floating[Any]]) -> Ridge:
    """Fit targets from features; the strength is the one with the best cosine on the last tenth of the rows.

    Args:
        features: (n, d), the student's pooled vectors, in random order.
        targets: (n, D), the teacher's vectors of the same texts.

    Raises:
        ShapeMismatch: another number of rows, or fewer than 2.
    """
    if len(features) != len(targets) or len(features) < 2:
        raise ShapeMismatch(
            f"{len(features)} rows of features, {len(targets)} of targets: expected as many, at least 2"
        )
    x, y = np.asarray(features, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    cut = max(1, len(x) - max(1, round(len(x) * HELD_OUT_SHARE)))
    fitted = _fits(x[:cut], y[:cut])
    scored = [(_mean_cosine(weight, bias, x[cut:], y[cut:]), s, weight, bias) for s, weight, bias in fitted]
    cosine, strength, _, _ = max(scored, key=lambda entry: entry[0])
    _, weight, bias = next(entry for entry in _fits(x, y) if entry[0] == strength)
    return Ridge(weight, bias, strength, cosine)


@contextlib.contextmanager
def without_stretching(model: SentenceTransformer) -> Iterator[None]:
    """Put the nearest projection that turns and stretches nothing into a model while the context lasts.

    The least loss shrinks the directions that a student cannot tell, and shifts all towards the mean; texts are told
    apart by those directions too. The projection's U S V' becomes U V', its bias 0. Trained that way from the start it
    is the encoder that learns to shrink, and less is won (``docs/results.md``).
    """
    import torch

    held = [
        (parameter, parameter.detach().clone())
        for module in model
        if type(module).__name__ == "Dense"
        for parameter in module.parameters()
    ]
    try:
        with torch.no_grad():
            for parameter, value in held:
                if parameter.ndim == 1:
                    parameter.zero_()
                else:
                    left, _, right = torch.linalg.svd(value.double(), full_matrices=False)
                    parameter.copy_(left @ right)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in held:
                parameter.copy_(value)


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


def _mean_cosine(
    weight: NDArray[np.float64], bias: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> float:
    mapped = x @ weight.T + bias
    norms = np.linalg.norm(mapped, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.mean((mapped * y).sum(axis=1) / np.maximum(norms, 1e-30)))
