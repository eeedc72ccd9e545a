"""Which rows a step sees: a function of seed, epoch and position, so that a resumed run sees what it would have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Order:
    """The order of a run's rows.

    Attributes:
        lengths: tokens of each row.
        shares: rows that come equally often, and how often in an epoch: 2 is twice, 0.5 every other epoch.
        batch_size: rows a batch; the last one of an epoch may be smaller.
        window: batches sorted together.
        seed: of the run.
    """

    lengths: NDArray[np.int64]
    shares: Sequence[tuple[NDArray[np.int64], float]]
    batch_size: int
    window: int
    seed: int

    @property
    def rows_per_epoch(self) -> int:
        """Rows of an epoch, repeated ones counted."""
        return sum(_count(rows, weight) for rows, weight in self.shares)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return -(-self.rows_per_epoch // self.batch_size)

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """Cut an epoch into batches of like length that come in random order.

        Rows are shuffled, sorted by length inside windows of ``window`` batches, cut, and the batches shuffled:
        padding falls from 71 % to a few, while every window stays a random sample of the data.

        Args:
            number: counted from 0; each epoch has its own order.

        Returns:
            Row numbers of every batch.
        """
        random = np.random.default_rng((self.seed, number))
        rows = np.concatenate([_drawn(share, weight, random) for share, weight in self.shares])
        order = rows[random.permutation(len(rows))]
        batches: list[NDArray[np.int64]] = []
        for first in range(0, len(order), self.window * self.batch_size):
            part = order[first : first + self.window * self.batch_size]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches.extend(part[at : at + self.batch_size] for at in range(0, len(part), self.batch_size))
        return [batches[place] for place in random.permutation(len(batches))]


def _count(rows: NDArray[np.int64], weight: float) -> int:
    whole = int(weight)
    return whole * len(rows) + round((weight - whole) * len(rows))


def _drawn(rows: NDArray[np.int64], weight: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Each row as often as the whole part of the weight says, and a sample of the rows for the rest of it."""
    whole = int(weight)
    sample = random.permutation(rows)[: _count(rows, weight) - whole * len(rows)]
    return np.concatenate([*[rows] * whole, sample])


def held_out_rows(keys: Sequence[bytes], count: int) -> NDArray[np.int64]:
    """Choose rows to keep from training: those with the smallest keys, which are hashes.

    The choice depends on the texts alone: more data, another order or another seed keeps the same ones. No more than
    a tenth of the rows is taken.
    """
    taken = min(count, max(1, len(keys) // 10))
    return np.sort(np.array(sorted(range(len(keys)), key=lambda row: keys[row])[:taken], dtype=np.int64))


def learning_rate_factor(progress: float, *, warmup: float, cycles: int = 1) -> float:
    """Give the factor on the peak rate: a linear rise over ``warmup``, then a linear fall to a tenth in each cycle.

    Args:
        progress: share of the run that is done, 0 to 1.
        warmup: share of the run in which the rate rises; part of the first cycle.
        cycles: falls in a run; each but the first starts at the peak at once (LEAF, arXiv 2509.12539).
    """
    if progress < warmup:
        return max(progress / warmup, 0.01)
    number = min(int(progress * cycles), cycles - 1)
    begin = max(number / cycles, warmup)
    return 1.0 - 0.9 * min((progress - begin) / ((number + 1) / cycles - begin), 1.0)
