"""How sure a mean over queries is, or a difference of two: bootstrap, randomisation. Knows numbers, no data sets."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2000  # a 95 % bound of percentiles then rests on 50 samples
FLIPS = 10_000  # of the randomisation test: the smallest p is 1e-4
SEED = 0
LEVEL = 0.95
_AT_ONCE = 4_000_000  # counts held at a time: 32 MB


def bootstrap_means(
    values: NDArray[np.float64], *, samples: int = SAMPLES, seed: int = SEED, salt: str = ""
) -> NDArray[np.float64]:
    """Draw queries with replacement and average, for several systems over the same draws (paired).

    Args:
        values: (systems, Q).
        samples: how often to draw Q queries.
        seed: with ``salt``, decides every draw.
        salt: a data set's name, so that its draws do not depend on which others are judged beside it.

    Returns:
        (samples, systems).
    """
    systems, queries = values.shape
    generator = np.random.default_rng([seed, zlib.crc32(salt.encode())])
    chance = np.full(queries, 1.0 / queries)
    means = np.empty((samples, systems))
    step = max(1, _AT_ONCE // queries)
    for first in range(0, samples, step):
        count = min(step, samples - first)
        # How often each query is drawn, instead of which: the mean is then one product for all systems.
        drawn = generator.multinomial(queries, chance, size=count)
        means[first : first + count] = drawn @ values.T / queries
    return means


def flipped_means(
    differences: NDArray[np.float64], *, samples: int = FLIPS, seed: int = SEED, salt: str = ""
) -> NDArray[np.float64]:
    """Average paired differences under random signs: what they would be if the two systems were the same.

    Args:
        differences: (pairs, Q).
        samples: how often to draw Q signs, the same for all pairs.
        seed: with ``salt``, decides every draw.
        salt: a data set's name.

    Returns:
        (samples, pairs).
    """
    pairs, queries = differences.shape
    generator = np.random.default_rng([seed, zlib.crc32(salt.encode()), 1])
    means = np.empty((samples, pairs))
    step = max(1, _AT_ONCE // queries)
    for first in range(0, samples, step):
        count = min(step, samples - first)
        heads = generator.integers(0, 2, (count, queries), dtype=np.int8).astype(np.float64)
        means[first : first + count] = (heads @ differences.T * 2 - differences.sum(1)) / queries
    return means


def p_value(observed: float, chance: NDArray[np.float64]) -> float:
    """Give the share of samples at least as far from 0 as what was observed, itself counted in."""
    as_far = np.abs(chance) >= abs(observed) - 1e-12  # sums of the same numbers in another order
    return float((1 + as_far.sum()) / (1 + len(chance)))


def share_at_most(samples: NDArray[np.float64], bound: float) -> float:
    """Give the share of samples that do not pass the bound, one counted in."""
    return float((1 + (samples <= bound).sum()) / (1 + len(samples)))


def grouped_mean(values: Sequence[float | NDArray[np.float64]], groups: Sequence[str]) -> NDArray[np.float64]:
    """Average over groups the average of each group's members: a collection in twelve parts counts once.

    Args:
        values: one a member, of one shape.
        groups: the group of each.
    """
    members: dict[str, list[NDArray[np.float64]]] = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(np.asarray(value, np.float64))
    return np.asarray(np.mean([np.mean(of_group, axis=0) for of_group in members.values()], axis=0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values of one family for their number (Holm 1979): the chance of any false claim stays below."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p_values[number]))
        corrected[number] = largest
    return corrected


def interval(samples: NDArray[np.float64], *, level: float = LEVEL) -> tuple[float, float] | None:
    """Give the percentile interval of bootstrap samples: (low, high), or None where no sample is a number."""
    numbers = samples[np.isfinite(samples)]
    if not len(numbers):
        return None
    low, high = np.quantile(numbers, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ratio(values: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, NaN where the reference is 0: a share of nothing is no number."""
    out = np.full(np.broadcast_shapes(values.shape, reference.shape), np.nan)
    np.divide(values, reference, out=out, where=reference != 0)
    return out
