"""Float64 definitions, written for reading. They share no code with what they check."""

import numpy as np


def search_topk(queries, documents, k):
    """Score everything, then rank: numbers, -inf, NaN; equals by row."""
    with np.errstate(invalid="ignore", over="ignore"):
        scores = np.array([[(q.astype(np.float64) * d.astype(np.float64)).sum() for d in documents] for q in queries])
    scores = scores.reshape(len(queries), len(documents))
    order = [sorted(range(len(documents)), key=lambda row: (np.isnan(s[row]), -s[row], row)) for s in scores]
    rows = np.array([o[:k] for o in order], dtype=np.int64).reshape(len(queries), min(k, len(documents)))
    return np.take_along_axis(scores, rows, axis=1), rows


def rounding_bound(queries, documents):
    """Largest error of a float32 dot product summed in any order: D eps sum |q||d|, maximum over all pairs."""
    eps = np.finfo(np.float32).eps
    dim = queries.shape[1]
    sums = np.abs(queries.astype(np.float64)) @ np.abs(documents.astype(np.float64)).T
    return (dim + 1) * eps * (sums.max() if sums.size else 0.0) + 1e-30


def alignment_loss(student, teacher, metric):
    """The mean over rows, as it is said."""
    values = []
    for s, t in zip(student.astype(np.float64), teacher.astype(np.float64), strict=True):
        if metric == "squared_l2":
            values.append(((s - t) ** 2).sum())
        elif metric == "l2":
            values.append(np.sqrt(((s - t) ** 2).sum()))
        else:
            norms = np.sqrt((s**2).sum()) * np.sqrt((t**2).sum())
            values.append(1.0 if norms == 0 else 1 - (s * t).sum() / norms)
    return float(np.mean(values))
