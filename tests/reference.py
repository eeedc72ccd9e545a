"""Float64 definitions, written for reading. They share no code with what they check."""

import itertools
import math

import numpy as np


def inner_product(q, d):
    """The exact sum of the float64 products of two float32 vectors, rounded once."""
    with np.errstate(invalid="ignore", over="ignore"):
        products = q.astype(np.float64) * d.astype(np.float64)
        return math.fsum(products.tolist()) if np.isfinite(products).all() else float(products.sum())


def search_topk(queries, documents, k, allowed=None):
    """Score everything, then rank: numbers, -inf, NaN; equals by row. ``allowed``: bool (N,) or (Q, N)."""
    scores = np.array([[inner_product(q, d) for d in documents] for q in queries])
    scores = scores.reshape(len(queries), len(documents))
    allowed = np.ones(len(documents), bool) if allowed is None else allowed
    may = np.broadcast_to(allowed, scores.shape)
    order = [sorted(np.flatnonzero(m).tolist(), key=lambda row: (np.isnan(s[row]), -s[row], row))[:k]
             for s, m in zip(scores, may, strict=True)]  # fmt: skip
    width = min(k, int(np.atleast_2d(allowed).sum(axis=1).max(initial=0)))
    rows = np.array([o + [-1] * (width - len(o)) for o in order], dtype=np.int64).reshape(len(queries), width)
    best = [[s[row] if row >= 0 else -np.inf for row in o] for s, o in zip(scores, rows.tolist(), strict=True)]
    return np.array(best).reshape(rows.shape), rows


def rounding_bound(queries, documents):
    """Largest error of a float32 dot product summed in any order: D eps sum |q||d|, maximum over all pairs."""
    eps = np.finfo(np.float32).eps
    dim = queries.shape[1]
    sums = np.abs(queries.astype(np.float64)) @ np.abs(documents.astype(np.float64)).T
    return (dim + 1) * eps * (sums.max() if sums.size else 0.0) + 1e-30


def alignment_loss(student, teacher, metric, delta=1.0):
    """The mean over rows, as it is said."""
    values = []
    for s, t in zip(student.astype(np.float64), teacher.astype(np.float64), strict=True):
        if metric == "squared_l2":
            values.append(((s - t) ** 2).sum())
        elif metric == "l2":
            values.append(np.sqrt(((s - t) ** 2).sum()))
        elif metric == "huber":
            apart = np.abs(s - t)
            values.append(np.where(apart <= delta, apart**2 / 2, delta * (apart - delta / 2)).sum())
        else:
            norms = np.sqrt((s**2).sum()) * np.sqrt((t**2).sum())
            values.append(1.0 if norms == 0 else 1 - (s * t).sum() / norms)
    return float(np.mean(values))


def aligned(student, teacher, metric, widths, shares, weights, unit, delta=1.0):
    """Sum over prefixes of share times the sum over rows of weight times loss, over the number of rows."""
    rows, dim = student.shape
    value = 0.0
    for width, share in zip(widths, shares, strict=True):
        for row in range(rows):
            s, t = (vectors[row, :width].astype(np.float64) for vectors in (student, teacher))
            if unit and width < dim:
                s, t = (v / np.sqrt((v**2).sum()) if v.any() else v for v in (s, t))
            value += share * float(weights[row]) * alignment_loss(s[None], t[None], metric, delta) / rows
    return value


def objective(student, teacher, metric, prefixes=(), normalized=True, weights=None):
    """Mean over prefixes and the whole width of the sum over rows of weight times loss, over the number of rows."""
    rows, dim = student.shape
    widths = sorted({*prefixes, dim})
    weights = np.ones(rows) if weights is None else weights
    return aligned(student, teacher, metric, widths, [1 / len(widths)] * len(widths), weights, normalized)


def relational_loss(student, teacher):
    """The mean over all pairs, and its gradient."""
    s, t = student.astype(np.float64), teacher.astype(np.float64)
    apart = s @ s.T - t @ t.T
    return (apart**2).mean(), 4 * apart @ s / apart.size


def listwise_kl_loss(student, teacher, temperature):
    """The divergence of the softmax over the others, text by text, and its gradient."""
    s, t = student.astype(np.float64), teacher.astype(np.float64)
    value, gradient, count = 0.0, np.zeros_like(s), len(s)
    for i in range(count):
        others = [j for j in range(count) if j != i]
        p, q = (_softmax(x[others] @ x[i] / temperature) for x in (t, s))
        value += (np.exp(p) * (p - q)).sum() / count
        slopes = (np.exp(q) - np.exp(p)) / (count * temperature)
        gradient[i] += slopes @ s[others]
        gradient[others] += slopes[:, None] * s[i]
    return value, gradient


def contrastive_loss(student, teacher, temperature):
    """-log of its own teacher's softmax, text by text, and its gradient."""
    s, t = student.astype(np.float64), teacher.astype(np.float64)
    value, gradient, count = 0.0, np.zeros_like(s), len(s)
    for i in range(count):
        logs = _softmax(t @ s[i] / temperature)
        value -= logs[i] / count
        gradient[i] = (np.exp(logs) @ t - t[i]) / (count * temperature)
    return value, gradient


def _softmax(scores):
    above = scores - scores.max()
    return above - np.log(np.exp(above).sum())


def relative_hinge(student, teacher, margin):
    """The mean over all p and q with t_p > t_q, pair by pair, and its slopes."""
    pairs = [(p, q) for p in range(len(teacher)) for q in range(len(teacher)) if teacher[p] > teacher[q]]
    value, slopes = 0.0, np.zeros(len(student))
    for p, q in pairs:
        over = float(student[q]) - float(student[p]) + margin
        if over > 0:
            value += over / len(pairs)
            slopes[q] += 1 / len(pairs)
            slopes[p] -= 1 / len(pairs)
    return value, slopes


def ranking(student, teacher, documents, temperature=0.05):
    """Kullback-Leibler divergence of the teacher's softmax over the documents from the student's, of every row; the
    temperature is in units of the teacher's mean norms."""
    student, teacher, documents = (rows.astype(np.float64) for rows in (student, teacher, documents))
    for vectors in (teacher, documents):
        temperature *= np.sqrt((vectors**2).sum(1)).mean()
    ours, theirs = (rows @ documents.T / temperature for rows in (student, teacher))
    ours, theirs = (scores - scores.max(1, keepdims=True) for scores in (ours, theirs))
    ours, theirs = (scores - np.log(np.exp(scores).sum(1, keepdims=True)) for scores in (ours, theirs))
    return (np.exp(theirs) * (theirs - ours)).sum(1)


def attend(qkv, bias, starts, heads, gradient):
    """Attention of every text and head, and the gradient in qkv of the sum of gradient * out."""
    hidden = qkv.shape[1] // 3
    dim = hidden // heads
    x = qkv + bias
    out, back = np.zeros((len(qkv), hidden)), np.zeros_like(x)
    for first, last in itertools.pairwise(starts):
        for head in range(heads):
            at = [slice(part * hidden + head * dim, part * hidden + (head + 1) * dim) for part in range(3)]
            q, k, v = (x[first:last, columns] for columns in at)
            scores = q @ k.T / math.sqrt(dim)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            g = gradient[first:last, at[0]]
            out[first:last, at[0]] = weights @ v
            of_weights = g @ v.T
            of_scores = weights * (of_weights - (weights * of_weights).sum(axis=1, keepdims=True)) / math.sqrt(dim)
            back[first:last, at[0]] = of_scores @ k
            back[first:last, at[1]] = of_scores.T @ q
            back[first:last, at[2]] = weights.T @ g
    return out, back


def gelu(x):
    """x Phi(x), and its slope."""
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x.ravel().tolist()]).reshape(x.shape)
    return x * below, below + x * np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)


def normalize(x, scale, shift, epsilon, gradient):
    """Layer norm, and the gradients in x, scale and shift of the sum of gradient * out."""
    mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    unit = (x - mean) / np.sqrt(variance + epsilon)
    inner = gradient * scale
    along = (inner * unit).mean(axis=1, keepdims=True)
    back = (inner - inner.mean(axis=1, keepdims=True) - unit * along) / np.sqrt(variance + epsilon)
    return unit * scale + shift, back, (gradient * unit).sum(axis=0), gradient.sum(axis=0)
