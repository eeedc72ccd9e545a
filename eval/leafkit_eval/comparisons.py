"""Is a difference between two systems more than chance, and is a leaf no worse than its teacher by a margin?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit_eval import statistics

PAIRS = (("asymmetric", "teacher"), ("symmetric", "teacher"), ("asymmetric", "symmetric"))
LEAF = ("asymmetric", "symmetric")


@dataclass(frozen=True)
class Scored:
    """One collection.

    Attributes:
        name: the collection's.
        split: of its judgements.
        group: what it counts as in the means.
        per_query: system to nDCG@10 of each query, float64, (Q,).
        samples: system to bootstrap samples of its mean, paired between systems.
    """

    name: str
    split: str
    group: str
    per_query: Mapping[Any, NDArray[np.float64]]
    samples: Mapping[Any, NDArray[np.float64]]


def compare(scored: Sequence[Scored], *, margin: float) -> list[dict[str, Any]]:
    """Compare leaf, teacher and baselines on every collection, and over all of them where there are several.

    Args:
        scored: collections, all judged with the same systems.
        margin: share of the other system's score that a system may be worse by.

    Returns:
        A row for each pair and collection, and before them one for each pair over all collections (``dataset`` null):
        ``difference`` of the mean nDCG@10 with its bootstrap interval; ``p`` of a two-sided paired randomisation test,
        ``p_holm`` the same corrected for the rows of its kind (all collections; each collection); ``p_worse`` of the
        bootstrap that the system is worse by the margin or more: below 0.05 it is not.
    """
    named = {name for pair in PAIRS for name in pair}
    baselines = [name for name in scored[0].per_query if name not in named]  # BM25 among them
    pairs = [*PAIRS, *((system, baseline) for baseline in baselines for system in LEAF)]
    flipped = [_flipped(each, pairs) for each in scored]
    groups = [each.group for each in scored]
    rows = []
    for number, (system, other) in enumerate(pairs) if len(scored) > 1 else ():
        differences = [float((each.per_query[system] - each.per_query[other]).mean()) for each in scored]
        difference = float(statistics.grouped_mean(differences, groups))
        own, others = (
            statistics.grouped_mean([each.samples[name] for each in scored], groups) for name in (system, other)
        )
        chance = statistics.grouped_mean([samples[:, number] for samples in flipped], groups)
        rows.append(_row(None, None, (system, other), difference, own, others, chance, margin))
    first = len(rows)
    for each, samples in zip(scored, flipped, strict=True):
        for number, (system, other) in enumerate(pairs):
            difference = float((each.per_query[system] - each.per_query[other]).mean())
            own, others = each.samples[system], each.samples[other]
            rows.append(
                _row(each.name, each.split, (system, other), difference, own, others, samples[:, number], margin)
            )
    for part in (rows[:first], rows[first:]):
        for row, corrected in zip(part, statistics.holm([row["p"] for row in part]), strict=True):
            row["p_holm"] = corrected
    return rows


def _flipped(each: Scored, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    differences = np.stack([each.per_query[system] - each.per_query[other] for system, other in pairs])
    return statistics.flipped_means(differences, salt=f"{each.name}/{each.split}")


def _row(
    dataset: str | None,
    split: str | None,
    pair: tuple[str, str],
    difference: float,
    own: NDArray[np.float64],
    others: NDArray[np.float64],
    chance: NDArray[np.float64],
    margin: float,
) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "split": split,
        "system": pair[0],
        "other": pair[1],
        "difference": difference,
        "difference_interval": statistics.interval(own - others),
        "p": statistics.p_value(difference, chance),
        "p_holm": 1.0,
        "p_worse": statistics.share_at_most(own - (1 - margin) * others, 0.0),
    }
