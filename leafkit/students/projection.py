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
    cut = _held_out_from(len(x))
    fitted = _fits(x[:cut], y[:cut])
    scored = [(_mean_cosine(weight, bias, x[cut:], y[cut:]), s, weight, bias) for s, weight, bias in fitted]
    cosine, strength, _, _ = max(scored, key=lambda entry: entry[0])
    _, weight, bias = next(entry for entry in _fits(x, y) if entry[0] == strength)
    return Ridge(weight, bias, strength, cosine)


def projection_of(model: SentenceTransformer) -> Any | None:
    """Give the module that maps into the teacher's space: the last Dense, if it is linear; else None."""
    dense = next((module for module in reversed(list(model)) if type(module).__name__ == "Dense"), None)
    if dense is None or type(dense.activation_function).__name__ != "Identity" or dense.use_residual:
        return None
    return dense


def table_of(model: SentenceTransformer) -> Any | None:
    """Give the token table of a student that is one, with nothing behind it but Normalize; else None."""
    table, *behind = list(model)
    is_table = type(table).__name__ == "StaticEmbedding"
    return table if is_table and all(type(module).__name__ == "Normalize" for module in behind) else None


def refit(model: SentenceTransformer, pooled: NDArray[np.floating[Any]], targets: NDArray[np.floating[Any]]) -> float:
    """Bring the linear end of a student, its projection or token table, back to the least loss on some texts.

    A leaf is written evened out (``whitened``), which is no place to train on from. What the leaf has is kept where it
    is as near to the teacher.

    Args:
        model: the student.
        pooled: (n, d), its ``pooled_vectors`` of texts in random order.
        targets: (n, D), the teacher's vectors of them.

    Returns:
        The mean cosine to the teacher on the last tenth of the rows.

    Raises:
        ModelError: the student has neither a projection nor a token table.
        ShapeMismatch: another number of rows, or fewer than 2.
    """
    import torch

    ridge = fit_ridge(pooled, targets)
    projection = projection_of(model)
    if projection is None:
        table = _required(table_of(model), model).embedding.weight
        weight, bias = np.eye(pooled.shape[1]), np.zeros(pooled.shape[1])
        new = {table: ridge(table.detach().cpu().numpy())}
    else:
        linear = projection.linear
        weight = linear.weight.detach().double().cpu().numpy()
        bias = np.zeros(len(weight)) if linear.bias is None else linear.bias.detach().double().cpu().numpy()
        new = {linear.weight: ridge.weight} | ({} if linear.bias is None else {linear.bias: ridge.bias})
    cut = _held_out_from(len(pooled))
    own = _mean_cosine(weight, bias, pooled[cut:].astype(np.float64), targets[cut:].astype(np.float64))
    if own >= ridge.cosine:
        return own
    with torch.no_grad():
        for parameter, value in new.items():
            parameter.copy_(torch.from_numpy(value))
    return ridge.cosine


@contextlib.contextmanager
def pooled_vectors(model: SentenceTransformer) -> Iterator[list[NDArray[np.float32]]]:
    """Collect a student's pooled vectors while the context lasts: a (B, d) array for every batch that is run.

    They are what enters the projection or, where there is none, what the token table gives.

    Raises:
        ModelError: the model has neither.
    """
    pooled: list[NDArray[np.float32]] = []

    def note(features: dict[str, Any]) -> None:
        pooled.append(features["sentence_embedding"].detach().float().cpu().numpy())

    projection = projection_of(model)
    if projection is not None:
        handle = projection.register_forward_pre_hook(lambda _, given: note(given[0]))
    else:
        handle = _required(table_of(model), model).register_forward_hook(lambda _, __, out: note(out))
    try:
        yield pooled
    finally:
        handle.remove()


@contextlib.contextmanager
def whitened(model: SentenceTransformer, pooled: Sequence[NDArray[np.floating[Any]]]) -> Iterator[None]:
    """Even out the directions in which a student's vectors spread, while the context lasts.

    The least loss shrinks the directions that a student cannot tell, and shifts all texts towards their mean; texts are
    told apart by those directions too. Instead of W x + b with W = U S V', texts get U V' C^(-1/4) x, C the second
    moment of the directions of x (Ledoit and Wolf 2004): half a whitening, then a turn that stretches nothing. A token
    table gets C^(-1/4) alone. Trained that way from the start it is the encoder that learns to shrink, and less is won
    (``docs/explanation/decisions.md``).

    Args:
        model: the student.
        pooled: (B, d) arrays, its ``pooled_vectors`` of texts such as were trained on.

    Raises:
        ModelError: the model has neither a projection nor a token table.
        ShapeMismatch: there are fewer than 2 vectors, or they have another width than the projection or the table.
    """
    import torch

    projection = projection_of(model)
    if projection is not None:
        weight, bias = projection.linear.weight, projection.linear.bias
    else:
        weight, bias = _required(table_of(model), model).embedding.weight, None
    rows, widths = sum(map(len, pooled)), sorted({array.shape[-1] for array in pooled})
    if rows < 2 or widths != [weight.shape[1]]:
        raise ShapeMismatch(f"{rows} pooled vectors, widths {widths}: expected 2 or more of {weight.shape[1]}")
    before = weight.detach().double().cpu().numpy()
    if projection is not None:
        left, _, right = np.linalg.svd(before, full_matrices=False)
        before = left @ right
    held = [(parameter, parameter.detach().clone()) for parameter in (weight, bias) if parameter is not None]
    try:
        with torch.no_grad():
            weight.copy_(torch.from_numpy(before @ _half_whitening(np.concatenate(pooled))))
            if bias is not None:
                bias.zero_()
        yield
    finally:
        with torch.no_grad():
            for parameter, value in held:
                parameter.copy_(value)


def _half_whitening(x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """C^(-1/4), (d, d), up to a factor; C the second moment of the rows' directions, drawn towards the identity."""
    from sklearn.covariance import ledoit_wolf

    norms = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    moment, _ = ledoit_wolf(x / np.where(norms == 0, 1, norms), assume_centered=True)
    values, vectors = np.linalg.eigh(moment)
    values = np.maximum(values / max(values.mean(), 1e-30), 1e-6)
    return np.asarray((vectors * values**-WHITENING) @ vectors.T)


def _required(module: Any | None, model: SentenceTransformer) -> Any:
    if module is None:
        found = ", ".join(type(part).__name__ for part in model)
        raise ModelError(
            f"the model ends in no linear projection (Dense) and is no token table (StaticEmbedding): it is {found}"
        )
    return module


def _held_out_from(rows: int) -> int:
    return max(1, rows - max(1, round(rows * HELD_OUT_SHARE)))


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
