"""Losses that compare a batch's texts with one another: checks here, arithmetic in ``_C`` or NumPy.

None of them holds a value for every pair of texts, but for ``relative_similarity_loss``. Products are formed in
bfloat16 where the CPU multiplies it, unless ``exact``; sums are float32 at least. Results do not depend on the number
of threads.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import ShapeMismatch
from leafkit.ops.backend import backend, threads
from leafkit.ops.losses import Found, pair_of, require_finite, require_number

TEMPERATURE = 0.05  # of unit vectors: cosines 0.05 apart differ by a factor of e
MOST_SCORE = 1e8  # over the temperature: float32 steps there are 8, a factor of 3,000 in a softmax
LEAST_TEMPERATURE, MOST_TEMPERATURE = 1e-8, 1e18
MOST_LENGTH = 1e12  # of a row: gradients are its cube


def relational_loss(student: Any, teacher: Any, *, exact: bool = False) -> Found:
    """Give the mean over all pairs of texts of (s_i.s_j - t_i.t_j)^2, a text with itself included, and its gradient.

    With more texts than dims it is formed from matrices over dims: |SS' - TT'|^2 is a sum over products of S'S, T'T,
    E'E and E'S with E = S - T, which is exact where the two are near (``docs/kernels.md``). Where these cancel, as for
    a student that is its teacher turned, and for as many dims as texts or more, products are float32 in any case.

    Args:
        student: float32, (B, D).
        teacher: float32, (B, D).
        exact: products in float32.

    Returns:
        Value (summed in float64) and gradient in the student, float32 (B, D).

    Raises:
        ShapeMismatch: the shapes differ, or there are no rows.
        ValueError: a row that is not finite, named; or one that is longer than 1e12.

    The float64 definition is ``tests/reference.py::relational_loss``.
    """
    s, t = pair_of(student, teacher)
    longest = max(_longest(s, MOST_LENGTH), _longest(t, MOST_LENGTH))
    if longest > MOST_LENGTH:
        _refuse(s, t, f"a row is {longest:.3g} long, expected at most {MOST_LENGTH:.0e}: normalise the vectors")
    return backend().relational_loss(s, t, exact, threads())


def listwise_kl_loss(student: Any, teacher: Any, temperature: float = TEMPERATURE, *, exact: bool = False) -> Found:
    """Give the mean over texts of KL(P_i || Q_i), and its gradient in the student's vectors.

    P_i and Q_i are the softmax, over the batch's other texts j, of t_i.t_j and of s_i.s_j over the temperature: how the
    teacher and the student rank the batch for text i. A text's likeness to itself says nothing and is left out.

    Args:
        student: float32, (B, D), B of 2 or more.
        teacher: float32, (B, D).
        temperature: in units of the inner product.
        exact: products in float32.

    Returns:
        Value and gradient in the student, float32 (B, D).

    Raises:
        ShapeMismatch: the shapes differ, or there are fewer than 2 rows.
        ValueError: a temperature that is not from 1e-8 to 1e18; a row that is not finite, named; or vectors whose
            products may reach 1e8 times the temperature, where float32 does not tell scores apart.

    The float64 definition is ``tests/reference.py::listwise_kl_loss``.
    """
    s, t = pair_of(student, teacher)
    require_temperature(temperature)
    if len(s) < 2:
        raise ShapeMismatch(f"the batch has {len(s)} row, expected at least 2: a text is ranked among others")
    enough = math.sqrt(MOST_SCORE * temperature)
    _require_scores(s, t, max(_longest(s, enough), _longest(t, enough)) ** 2, temperature)
    return backend().listwise_kl_loss(s, t, temperature, exact, threads())


def contrastive_loss(student: Any, teacher: Any, temperature: float = TEMPERATURE, *, exact: bool = False) -> Found:
    """Give the mean over texts of -log softmax_j(s_i.t_j / temperature) at j = i, and its gradient in the student.

    InfoNCE in the batch (van den Oord et al., arXiv 1807.03748) with the teacher's vectors fixed: each student's vector
    is to find its own teacher's among the batch's.

    Args:
        student: float32, (B, D).
        teacher: float32, (B, D).
        temperature: in units of the inner product.
        exact: products in float32.

    Returns:
        Value and gradient in the student, float32 (B, D).

    Raises:
        ShapeMismatch: the shapes differ, or there are no rows.
        ValueError: a temperature that is not from 1e-8 to 1e18; a row that is not finite, named; or vectors whose
            products may reach 1e8 times the temperature, where float32 does not tell scores apart.

    The float64 definition is ``tests/reference.py::contrastive_loss``.
    """
    s, t = pair_of(student, teacher)
    require_temperature(temperature)
    enough = math.sqrt(MOST_SCORE * temperature)
    _require_scores(s, t, _longest(s, enough) * _longest(t, enough), temperature)
    return backend().contrastive_loss(s, t, temperature, exact, threads())


def relative_similarity_loss(student: Any, teacher: Any, margin: float = 0.015) -> Found:
    """Give the mean of max(0, s_q - s_p + margin) over pairs of texts p, q with t_p > t_q, and its gradient.

    s and t are the inner products of two of the batch's texts by student and teacher; the student is to put two pairs
    of texts in the teacher's order (Jasper and Stella, arXiv 2412.19048). O(B^2 log B) time and O(B^2) memory, not
    O(B^4): ``docs/kernels.md`` has why.

    Args:
        student: float32, (B, D), B of 2 or more.
        teacher: float32, (B, D).
        margin: from 0 up.

    Returns:
        Value and gradient in the student, float32 (B, D); both 0 where the teacher tells no two pairs apart. At the
        hinge's edge the gradient is 0.

    Raises:
        ShapeMismatch: the shapes differ, or there are fewer than 2 rows.
        ValueError: a margin below 0, a row that is not finite, named, or one that is longer than 1e12.

    The float64 definition is ``tests/reference.py::relative_similarity_loss``.
    """
    s, t = pair_of(student, teacher)
    require_margin(margin)
    if len(s) < 2:
        raise ShapeMismatch(f"the batch has {len(s)} row, expected at least 2: pairs of texts are compared")
    require_finite(student=s, teacher=t)
    longest = max(_longest(s, MOST_LENGTH), _longest(t, MOST_LENGTH))
    if longest > MOST_LENGTH:
        raise ValueError(f"a row is {longest:.3g} long, expected at most {MOST_LENGTH:.0e}: normalise the vectors")
    upper = np.triu_indices(len(s), 1)
    value, slopes = backend().relative_hinge((s @ s.T)[upper], (t @ t.T)[upper], margin)
    weights = np.zeros((len(s), len(s)), dtype=np.float32)
    weights[upper] = slopes
    return value, weights @ s + weights.T @ s


def _longest(x: NDArray[np.float32], enough: float) -> float:
    """The longest row's length; or, for a third of the work, that of all together where even that is enough or less."""
    together = math.sqrt(float(np.vdot(x, x)))
    return together if together <= enough else math.sqrt(float(np.einsum("bd,bd->b", x, x).max()))


def require_margin(margin: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` if it is no number from 0 up."""
    if not require_number(margin, "margin") >= 0:
        raise ValueError(f"margin {margin}: expected a number from 0 up")


def require_temperature(temperature: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` if it is no number from 1e-8 to 1e18."""
    if not LEAST_TEMPERATURE <= require_number(temperature, "temperature") <= MOST_TEMPERATURE:
        raise ValueError(
            f"temperature {temperature}: expected a number from {LEAST_TEMPERATURE:.0e} to {MOST_TEMPERATURE:.0e}"
        )


def _require_scores(s: NDArray[np.float32], t: NDArray[np.float32], largest: float, temperature: float) -> None:
    if not largest <= MOST_SCORE * temperature:
        _refuse(
            s, t, f"products may reach {largest:.3g} at temperature {temperature}, more than {MOST_SCORE:.0e} times it:"
            " normalise the vectors, or raise the temperature",
        )  # fmt: skip


def _refuse(s: NDArray[np.float32], t: NDArray[np.float32], why: str) -> NoReturn:
    require_finite(student=s, teacher=t)
    raise ValueError(why)
