"""Judging one collection: what each mode finds and is worth, and how near the student is to the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.space import Kind
from leafkit.store.store import TextLike
from leafkit_eval import statistics
from leafkit_eval.alignment import Aligned, cosines, hubness, overlap, rank_correlation
from leafkit_eval.bm25 import bm25_run
from leafkit_eval.collections import Collection
from leafkit_eval.comparisons import Scored
from leafkit_eval.losses import lost_queries
from leafkit_eval.metrics import Measures, Run, measure
from leafkit_eval.runs import RunFolder
from leafkit_eval.search import search_run
from leafkit_eval.sweep import Setting, Swept, cut
from leafkit_eval.vectors import Vectors

Mode = str  # bm25, teacher, symmetric, asymmetric, or a baseline's name
BASELINE = "baseline-"
# Who embeds queries and who documents.
SIDES: dict[Mode, tuple[str, str]] = {
    "teacher": ("teacher", "teacher"),
    "symmetric": ("student", "student"),
    "asymmetric": ("student", "teacher"),
}


@dataclass(frozen=True)
class Judged:
    """One collection: what each mode's run is worth, and cosines between student and teacher, text by text."""

    collection: Collection
    measures: dict[Mode, Measures]
    means: dict[Mode, NDArray[np.float64]]  # bootstrap samples of the mean nDCG@10, paired between modes
    cosines: dict[Kind, NDArray[np.float64]]
    swept: Swept
    neighbours: dict[str, dict[str, float | None]]
    lost: list[dict[str, Any]]

    @property
    def scored(self) -> Scored:
        """For comparisons."""
        per_query = {mode: measures.per_query["ndcg_at_10"] for mode, measures in self.measures.items()}
        return Scored(self.collection.name, self.collection.split, self.collection.group, per_query, self.means)

    @property
    def aligned(self) -> list[Aligned]:
        """For the report of cosines."""
        texts: dict[Kind, Sequence[TextLike]] = {"query": self.collection.queries, "document": self.collection.findable}
        return [Aligned(self.collection.name, kind, texts[kind], values) for kind, values in self.cosines.items()]

    def share(self, mode: Mode) -> float | None:
        """Share of the teacher's nDCG@10, None where the teacher has none."""
        teacher = self.measures["teacher"].means["ndcg_at_10"]
        return self.measures[mode].means["ndcg_at_10"] / teacher if teacher else None

    def share_samples(self, mode: Mode) -> NDArray[np.float64]:
        """The same of queries drawn anew."""
        return statistics.ratio(self.means[mode], self.means["teacher"])


def judge_collection(
    collection: Collection,
    vectors: dict[str, Vectors],
    narrower: Sequence[Setting],
    *,
    bm25: bool,
    drop_self: bool,
    runs: RunFolder,
) -> Judged:
    """Search with every mode, measure, and compare student and teacher.

    Args:
        collection: documents, queries and judgements.
        vectors: of ``teacher``, ``student`` and baselines, each in its own space, every text embedded.
        narrower: widths and precisions to judge the modes at too.
        bm25: judge BM25 too.
        drop_self: leave the document out that has the query's own id.
        runs: where rankings go.
    """
    asked, answers = [row.text for row in collection.queries], [row.text for row in collection.findable]
    queries = {role: side.of(asked, "query") for role, side in vectors.items()}
    documents = {role: side.of(answers, "document") for role, side in vectors.items()}
    document_ids = [row.id for row in collection.findable]
    query_ids = [row.id for row in collection.queries]
    found: dict[Mode, Run] = {"bm25": bm25_run(collection, drop_self=drop_self)} if bm25 else {}
    others = {role: (role, role) for role in vectors if role.startswith(BASELINE)}
    for mode, (asker, answerer) in {**others, **SIDES}.items():
        found[mode] = search_run(queries[asker], documents[answerer], document_ids, query_ids, drop_self=drop_self)
    measures = {mode: measure(collection.qrels, run) for mode, run in found.items()}
    stem = f"{collection.name}.{collection.split}"
    for mode, run in found.items():
        runs.save(f"{stem}.{mode}", run, measures[mode])
    samples = statistics.bootstrap_means(
        np.stack([each.per_query["ndcg_at_10"] for each in measures.values()]),
        salt=f"{collection.name}/{collection.split}",
    )
    means = dict(zip(measures, samples.T, strict=True))
    return Judged(
        collection,
        measures,
        means=means,
        cosines={
            "query": cosines(queries["student"], queries["teacher"]),
            "document": cosines(documents["student"], documents["teacher"]),
        },
        swept=_sweep(
            collection,
            queries,
            documents,
            narrower,
            measures,
            means,
            normalized=vectors["teacher"].space.normalized,
            drop_self=drop_self,
            runs=runs,
        ),
        neighbours=_neighbours(queries, documents, document_ids, query_ids, found),
        lost=lost_queries(collection, found, measures),
    )


def _neighbours(
    queries: dict[str, NDArray[np.float32]],
    documents: dict[str, NDArray[np.float32]],
    document_ids: Sequence[str],
    query_ids: Sequence[str],
    found: Mapping[Mode, Run],
) -> dict[str, dict[str, float | None]]:
    """What the leaf finds of what the teacher finds, by mode."""
    teacher, row_of = found["teacher"], {name: row for row, name in enumerate(document_ids)}
    leaf = {mode: sides for mode, sides in SIDES.items() if mode != "teacher"}
    return {
        **{f"overlap_at_{k}": {mode: overlap(found[mode], teacher, k) for mode in leaf} for k in (10, 100)},
        "rank_correlation": {
            mode: rank_correlation(queries[asker], documents[answerer], row_of, query_ids, teacher)
            for mode, (asker, answerer) in leaf.items()
        },
        "hubness": {mode: hubness(found[mode], len(document_ids)) for mode in SIDES},
    }


def _sweep(
    collection: Collection,
    queries: dict[str, NDArray[np.float32]],
    documents: dict[str, NDArray[np.float32]],
    narrower: Sequence[Setting],
    measures: Mapping[Mode, Measures],
    means: Mapping[Mode, NDArray[np.float64]],
    *,
    normalized: bool,
    drop_self: bool,
    runs: RunFolder,
) -> Swept:
    """Judge every mode at every setting; rankings are kept to the tenth document, which nDCG@10 is made from."""
    document_ids, query_ids = [row.id for row in collection.findable], [row.id for row in collection.queries]
    found: dict[tuple[str, Setting], NDArray[np.float64]] = {}
    stem = f"{collection.name}.{collection.split}"
    for setting in narrower:
        asked, answers = (
            {role: cut(rows, setting.dim, normalized=normalized) for role, rows in side.items()}
            for side in (queries, documents)
        )
        for mode, (asker, answerer) in SIDES.items():
            run = search_run(
                asked[asker], answers[answerer], document_ids, query_ids, depth=10, drop_self=drop_self,
                precision=setting.precision,
            )  # fmt: skip
            found[mode, setting] = measure(collection.qrels, run).per_query["ndcg_at_10"]
            runs.save_packed(f"{stem}.{mode}.{setting}", run)
    samples = (
        statistics.bootstrap_means(np.stack([*found.values()]), salt=f"{collection.name}/{collection.split}")
        if found
        else np.empty((0, 0))
    )
    return Swept(
        collection.name,
        collection.group,
        full={mode: measures[mode].means["ndcg_at_10"] for mode in SIDES},
        full_samples={mode: means[mode] for mode in SIDES},
        means={key: float(values.mean()) for key, values in found.items()},
        samples=dict(zip(found, samples.T, strict=True)),
    )
