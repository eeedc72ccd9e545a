"""How sure a mean over queries is: the bootstrap, with a fixed seed. Knows numbers, no data sets."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2000  # a 95 % bound of percentiles then rests on 50 samples
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
