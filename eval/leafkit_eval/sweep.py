"""The same vectors at smaller widths and precisions: what is kept of the full score, and what a leaf inherits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import UsageError
from leafkit_eval import statistics
from leafkit_eval.search import PRECISIONS, Precision

BITS: dict[str, int] = {"float32": 32, "bfloat16": 16, "int8": 8, "binary": 1}


@dataclass(frozen=True)
class Setting:
    """A width, in dims, and a precision of the documents; queries stay float32."""

    dim: int
    precision: Precision

    @property
    def bytes_a_document(self) -> int:
        """What the scan reads of a document; rows that are scored again lie beside it."""
        return self.dim * BITS[self.precision.partition("+")[0]] // 8

    def __str__(self) -> str:
        return f"{self.dim}.{self.precision}"


def settings(dims: Sequence[int], precisions: Sequence[str], full: int) -> list[Setting]:
    """Every width with every precision but the full one, which is judged anyway; none where nothing is asked for.

    Raises:
        UsageError: a width that is no prefix of the space, or an unknown precision.
    """
    for dim in dims:
        if not 1 <= dim <= full:
            raise UsageError(f"dims {dim}: expected 1 to {full}, the width of the space")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UsageError(f"there is no precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    wanted = [
        Setting(dim, precision)
        for dim in sorted(set(dims) or {full}, reverse=True)
        for precision in PRECISIONS
        if precision in (precisions or ["float32"])
    ]
    return [setting for setting in wanted if setting != Setting(full, "float32")]


def cut(vectors: NDArray[np.float32], dim: int, *, normalized: bool) -> NDArray[np.float32]:
    """The first dims of vectors, of unit length again where the space has unit vectors."""
    if dim == vectors.shape[1]:
        return vectors
    prefix = np.ascontiguousarray(vectors[:, :dim])
    if normalized:
        norms = np.linalg.norm(prefix, axis=1, keepdims=True)
        prefix /= np.where(norms == 0, 1, norms)
    return prefix


@dataclass(frozen=True)
class Swept:
    """One collection: nDCG@10 of every mode at every setting, query by query, and its bootstrap samples.

    Attributes:
        name: the collection's.
        group: what it counts as in the means.
        full: mode to its full-width float32 mean.
        full_samples: the same drawn anew, paired with ``samples``.
        means: mode and setting to the mean.
        samples: the same drawn anew.
    """

    name: str
    group: str
    full: Mapping[str, float]
    full_samples: Mapping[str, NDArray[np.float64]]
    means: Mapping[tuple[str, Setting], float]
    samples: Mapping[tuple[str, Setting], NDArray[np.float64]]


def sweep_rows(swept: Sequence[Swept]) -> list[dict[str, Any]]:
    """Give a row for every mode and setting, over all collections.

    Returns:
        ``kept``: the mean over collections of the score over the same mode's at full width in float32.
        ``share_of_teacher``: the same over the teacher's full score. ``inherited``: ``kept`` less the teacher's own at
        that setting: 0 where a leaf is as robust as its teacher. Collections where a full score is 0 are left out of
        the three. ``ndcg_at_10_by_dataset`` has every collection's mean.
    """
    usable = [each for each in swept if all(each.full.values())]
    rows = []
    for mode, setting in swept[0].means:
        kept = _mean(usable, lambda each, m=mode, s=setting: _over(each, m, s, m))
        share = _mean(usable, lambda each, m=mode, s=setting: _over(each, m, s, "teacher"))
        of_teacher = _mean(usable, lambda each, s=setting: _over(each, "teacher", s, "teacher"))
        inherited = None
        if mode != "teacher" and kept is not None and of_teacher is not None:
            inherited = (kept[0] - of_teacher[0], kept[1] - of_teacher[1])
        rows.append(
            {
                "mode": mode,
                "dim": setting.dim,
                "precision": setting.precision,
                "bytes_a_document": setting.bytes_a_document,
                "ndcg_at_10": float(
                    statistics.grouped_mean(
                        [each.means[mode, setting] for each in swept], [each.group for each in swept]
                    )
                ),
                **_told("kept", kept),
                **_told("share_of_teacher", share),
                **_told("inherited", inherited),
                "ndcg_at_10_by_dataset": {each.name: each.means[mode, setting] for each in swept},
            }
        )
    return rows


_Sampled = tuple[float, NDArray[np.float64]]


def _over(each: Swept, mode: str, setting: Setting, reference: str) -> _Sampled:
    value = each.means[mode, setting] / each.full[reference]
    return value, statistics.ratio(each.samples[mode, setting], each.full_samples[reference])


def _mean(swept: Sequence[Swept], of: Any) -> _Sampled | None:
    if not swept:
        return None
    values, samples = zip(*map(of, swept), strict=True)
    groups = [each.group for each in swept]
    return float(statistics.grouped_mean(values, groups)), statistics.grouped_mean(samples, groups)


def _told(name: str, sampled: _Sampled | None) -> dict[str, Any]:
    if sampled is None:
        return {name: None, f"{name}_interval": None}
    return {name: float(sampled[0]), f"{name}_interval": statistics.interval(sampled[1])}
