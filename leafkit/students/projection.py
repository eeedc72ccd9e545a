"""The projection into the teacher's space: where it starts, and how it is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import ModelError, ShapeMismatch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

STRENGTHS = tuple(10.0**power for power in range(-6, 1))  # of the mean variance of a feature
HELD_OUT_SHARE = 0.1
WHITENING = 0.25  # power of the second moment that is divided by: 0 is none, 1/2 a whole one


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


def projection_of(model: SentenceTransformer) -> Any | None:
    """Give the module that maps into the teacher's space, the last Dense; None where there is none (a token table)."""
    return next((module for module in reversed(list(model)) if type(module).__name__ == "Dense"), None)


@contextlib.contextmanager
def projection_inputs(model: SentenceTransformer) -> Iterator[list[NDArray[np.float32]]]:
    """Collect what enters the projection while the context lasts, a (B, d) array for every batch that is run.

    Raises:
        ModelError: the model has no projection.
    """
    projection = _required(model)
    seen: list[NDArray[np.float32]] = []

    def note(_: Any, features: tuple[dict[str, Any], ...]) -> None:
        seen.append(features[0]["sentence_embedding"].detach().float().cpu().numpy())

    handle = projection.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


@contextlib.contextmanager
def whitened(model: SentenceTransformer, inputs: Sequence[NDArray[np.floating[Any]]]) -> Iterator[None]:
    """Put a projection that evens out the student's directions into a model while the context lasts.

    The least loss shrinks the directions that a student cannot tell, and shifts all texts towards their mean; texts are
    told apart by those directions too. Instead of W x + b with W = U S V', texts get U V' C^(-1/4) x, C the second
    moment of x (Ledoit and Wolf 2004): half a whitening, then a turn that stretches nothing. Trained that way from the
    start it is the encoder that learns to shrink, and less is won (``docs/explanation/decisions.md``).

    Args:
        model: the student.
        inputs: (B, d) arrays, what enters the projection for texts such as were trained on: ``projection_inputs``.

    Raises:
        ModelError: the model has no projection.
        ShapeMismatch: there are fewer than 2 inputs, or they have another width than the projection.
    """
    import torch
    from sklearn.covariance import ledoit_wolf

    projection = _required(model)
    weight, bias = projection.linear.weight, projection.linear.bias
    rows, widths = sum(map(len, inputs)), sorted({array.shape[-1] for array in inputs})
    if rows < 2 or widths != [weight.shape[1]]:
        raise ShapeMismatch(f"{rows} inputs, widths {widths}: expected 2 or more of {weight.shape[1]}")
    moment, _ = ledoit_wolf(np.concatenate(inputs).astype(np.float64), assume_centered=True)
    values, vectors = np.linalg.eigh(moment)
    values = np.maximum(values / max(values.mean(), 1e-30), 1e-6)
    left, _, right = np.linalg.svd(weight.detach().double().cpu().numpy(), full_matrices=False)
    turned = left @ right @ (vectors * values**-WHITENING) @ vectors.T
    held = [(parameter, parameter.detach().clone()) for parameter in (weight, bias) if parameter is not None]
    try:
        with torch.no_grad():
            weight.copy_(torch.from_numpy(turned))
            if bias is not None:
                bias.zero_()
        yield
    finally:
        with torch.no_grad():
            for parameter, value in held:
                parameter.copy_(value)


def _required(model: SentenceTransformer) -> Any:
    projection = projection_of(model)
    if projection is None:
        raise ModelError("the model has no projection: no Dense among " + ", ".join(type(m).__name__ for m in model))
    return projection


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
