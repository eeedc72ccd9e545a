"""Judging a leaf beside its teacher on retrieval: both ways of using it, shares kept, intervals, cosines."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import UsageError
from leafkit.progress import OnProgress, Progress, silent
from leafkit.space import Kind
from leafkit.store.store import TextLike
from leafkit.teachers import Teacher
from leafkit.training import RunLog
from leafkit_eval import statistics
from leafkit_eval.alignment import Aligned, cosine_report, cosines, hubness, overlap, rank_correlation
from leafkit_eval.bm25 import K1, B, bm25_run
from leafkit_eval.collections import Collection
from leafkit_eval.comparisons import Scored, compare
from leafkit_eval.metrics import METRICS, Measures, Run, measure
from leafkit_eval.runs import RunFolder
from leafkit_eval.search import DEPTH, search_run
from leafkit_eval.sweep import Setting, Swept, cut, settings, sweep_rows
from leafkit_eval.vectors import Vectors, open_vectors

MARGIN = 0.05  # of another system's score
FORMAT, VERSION = "leafkit.report", 2
Mode = Literal["bm25", "teacher", "symmetric", "asymmetric"]
# Who embeds queries and who documents.
SIDES: dict[Mode, tuple[str, str]] = {
    "teacher": ("teacher", "teacher"),
    "symmetric": ("student", "student"),
    "asymmetric": ("student", "teacher"),
}
_PACKAGES = ("leafkit", "numpy", "torch", "sentence-transformers", "transformers", "pytrec-eval-terrier", "bm25s")


def judge_retrieval(
    collections: Sequence[Collection],
    *,
    teacher: Teacher,
    student: Teacher,
    out: str | Path,
    cache: str | Path | None = None,
    bm25: bool = False,
    drop_self: bool = True,
    dims: Sequence[int] = (),
    precisions: Sequence[str] = (),
    margin: float = MARGIN,
    teacher_name: str | None = None,
    student_name: str = "student",
    training: RunLog | None = None,
    command: str | None = None,
    on_progress: OnProgress = silent,
) -> dict[str, Any]:
    """Judge a student on collections as it would be used, beside its teacher.

    Modes: ``teacher`` embeds both sides with the teacher, ``symmetric`` both with the student, ``asymmetric`` the
    documents with the teacher and the queries with the student; ``bm25`` reads words. Every ranking is written under
    ``out/runs``: the run as trec_eval reads it, and each query's metrics.

    Args:
        collections: what to judge on; no name and split twice.
        teacher: encoder whose space it is.
        student: encoder of the same space.
        out: the report's folder.
        cache: folder of the vectors by encoder, ``out/cache`` if not given. A killed run goes on from it, and another
            student judged with the same cache finds the teacher's vectors.
        bm25: judge BM25 too.
        drop_self: leave the document out that has the query's own id, as BEIR does. Turn it off where queries and
            documents are numbered each for itself and equal ids mean nothing; the report counts them.
        dims: widths to judge the modes at too, from the same vectors (the space's own if not given).
        precisions: of the documents, to judge the modes at too (``search.PRECISIONS``; float32 if not given).
        margin: share of another system's score that a system may be worse by and pass as no worse.
        teacher_name: what the report calls the teacher; its space's name if not given.
        student_name: what the report calls the student (its space names the teacher only).
        training: the log of the student's training, whose curves the report shows.
        command: how the user asked for this, for the report.
        on_progress: told of texts embedded and collections searched.

    Returns:
        What ``report.json`` holds (``leafkit_eval/report/schema.json``).

    Raises:
        SpaceMismatch: the student is of another space.
        UsageError: no collection, or one twice; a width or precision that there is not; or a margin that is no share.
    """
    teacher.space.require_compatible(student.space, ours="the teacher", theirs="the student")
    _require_distinct(collections)
    if not 0 <= margin < 1:
        raise UsageError(f"margin {margin}: expected a share from 0 up to 1, as 0.05")
    narrower = settings(dims, precisions, teacher.space.dim)
    out = Path(out)
    vectors = open_vectors({"teacher": teacher, "student": student}, Path(cache) if cache else out / "cache")
    runs, judged = RunFolder(out / "runs"), []
    for number, collection in enumerate(collections):
        for side in vectors.values():
            side.embed([*collection.queries, *collection.findable], collection.name, on_progress)
        on_progress(Progress(f"search {collection.name}", number, len(collections)))
        judged.append(_judge(collection, vectors, narrower, bm25=bm25, drop_self=drop_self, runs=runs))
        on_progress(Progress(f"search {collection.name}", number + 1, len(collections)))
    runs.forget_others()
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": "retrieval",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "teacher": _described(teacher, teacher_name or teacher.space.teacher.name),
        "student": _described(student, student_name),
        "summary": _summary(judged),
        "results": [row for each in judged for row in _rows(each, teacher.space.dim)],
        "comparisons": compare([each.scored for each in judged], margin=margin),
        "sweep": sweep_rows([each.swept for each in judged]) if narrower else [],
        "alignment": [_alignment_row(each) for each in judged],
        "cosines": cosine_report([part for each in judged for part in each.aligned]),
        "embedding": {role: side.report() for role, side in vectors.items()},
        "settings": _settings(bm25, drop_self, margin),
        "made_with": _made_with(command),
        "training": None if training is None else training.to_json(),
        "extra_tables": [],
        "examples": [],
    }


@dataclass(frozen=True)
class _Judged:
    """One collection: what each mode's run is worth, and cosines between student and teacher, text by text."""

    collection: Collection
    measures: dict[Mode, Measures]
    means: dict[Mode, NDArray[np.float64]]  # bootstrap samples of the mean nDCG@10, paired between modes
    cosines: dict[Kind, NDArray[np.float64]]
    swept: Swept
    neighbours: dict[str, dict[str, float | None]]

    @property
    def scored(self) -> Scored:
        per_query: dict[str, NDArray[np.float64]] = {
            mode: measures.per_query["ndcg_at_10"] for mode, measures in self.measures.items()
        }
        samples: dict[str, NDArray[np.float64]] = {mode: self.means[mode] for mode in self.means}
        return Scored(self.collection.name, self.collection.split, per_query, samples)

    @property
    def aligned(self) -> list[Aligned]:
        texts: dict[Kind, Sequence[TextLike]] = {"query": self.collection.queries, "document": self.collection.findable}
        return [Aligned(self.collection.name, kind, texts[kind], values) for kind, values in self.cosines.items()]

    def share(self, mode: Mode) -> float | None:
        """Share of the teacher's nDCG@10, None where the teacher has none."""
        teacher = self.measures["teacher"].means["ndcg_at_10"]
        return self.measures[mode].means["ndcg_at_10"] / teacher if teacher else None

    def share_samples(self, mode: Mode) -> NDArray[np.float64]:
        return statistics.ratio(self.means[mode], self.means["teacher"])


def _judge(
    collection: Collection,
    vectors: dict[str, Vectors],
    narrower: Sequence[Setting],
    *,
    bm25: bool,
    drop_self: bool,
    runs: RunFolder,
) -> _Judged:
    asked, answers = [row.text for row in collection.queries], [row.text for row in collection.findable]
    queries = {role: side.of(asked, "query") for role, side in vectors.items()}
    documents = {role: side.of(answers, "document") for role, side in vectors.items()}
    document_ids = [row.id for row in collection.findable]
    query_ids = [row.id for row in collection.queries]
    found: dict[Mode, Run] = {"bm25": bm25_run(collection, drop_self=drop_self)} if bm25 else {}
    for mode, (asker, answerer) in SIDES.items():
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
    return _Judged(
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
        full={mode: measures[mode].means["ndcg_at_10"] for mode in SIDES},
        full_samples={mode: means[mode] for mode in SIDES},
        means={key: float(values.mean()) for key, values in found.items()},
        samples=dict(zip(found, samples.T, strict=True)),
    )


def _rows(judged: _Judged, dim: int) -> list[dict[str, Any]]:
    rows = []
    for mode, measures in judged.measures.items():
        rows.append(
            {
                "dataset": judged.collection.name,
                "split": judged.collection.split,
                "mode": mode,
                "dim": None if mode == "bm25" else dim,
                "precision": None if mode == "bm25" else "float32",
                **measures.means,
                "ndcg_at_10_interval": statistics.interval(judged.means[mode]),
                "share_of_teacher": judged.share(mode),
                "share_interval": statistics.interval(judged.share_samples(mode)),
                "queries": len(measures.query_ids),
                "documents": len(judged.collection.documents),
                "unanswered_queries": measures.unanswered,
                "queries_without_relevant": measures.without_relevant,
                "empty_documents": judged.collection.empty_documents,
                "shared_ids": len(judged.collection.shared_ids),
            }
        )
    return rows


def _summary(judged: Sequence[_Judged]) -> dict[str, Any]:
    teacher = float(np.mean([each.measures["teacher"].means["ndcg_at_10"] for each in judged]))
    comparable = [each for each in judged if each.share("teacher") is not None]
    modes: dict[str, dict[str, Any]] = {}
    for mode in judged[0].measures:
        means = {name: float(np.mean([each.measures[mode].means[name] for each in judged])) for name in METRICS}
        shares = [share for each in comparable if (share := each.share(mode)) is not None]
        samples = [each.share_samples(mode) for each in comparable]
        modes[mode] = {
            **means,
            "mean_share_of_teacher": float(np.mean(shares)) if shares else None,
            "mean_share_interval": statistics.interval(np.mean(samples, axis=0)) if samples else None,
            "share_of_means": means["ndcg_at_10"] / teacher if teacher else None,
        }
    of_kind = {kind: np.concatenate([each.cosines[kind] for each in judged]) for kind in judged[0].cosines}
    return {
        "collections": len(judged),
        "queries": sum(len(each.collection.queries) for each in judged),
        "modes": modes,
        "mean_cosine_to_teacher": _mean_cosines(of_kind),
    }


def _alignment_row(judged: _Judged) -> dict[str, Any]:
    means = {f"cosine_{group}": value for group, value in _mean_cosines(judged.cosines).items()}
    return {"dataset": judged.collection.name, "split": judged.collection.split, **means, **judged.neighbours}


def _mean_cosines(of_kind: dict[Kind, NDArray[np.float64]]) -> dict[str, float | None]:
    """Mean over queries, over documents, and over all texts of both."""
    groups = {"queries": of_kind["query"], "documents": of_kind["document"], "all": np.concatenate([*of_kind.values()])}
    return {name: float(np.nanmean(values)) if np.isfinite(values).any() else None for name, values in groups.items()}


def _require_distinct(collections: Sequence[Collection]) -> None:
    if not collections:
        raise UsageError("no collection to judge on: give at least one folder in BEIR layout")
    seen: set[tuple[str, str]] = set()
    for collection in collections:
        if (collection.name, collection.split) in seen:
            raise UsageError(
                f"two collections are called {collection.name!r} (split {collection.split!r}): their results would mix."
                " Rename one folder"
            )
        seen.add((collection.name, collection.split))


def _described(encoder: Teacher, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "fingerprint": encoder.fingerprint,
        "arithmetic": getattr(encoder, "arithmetic", None),  # a function's owner knows, we do not
        "space": encoder.space.to_json(),
    }


def _settings(bm25: bool, drop_self: bool, margin: float) -> dict[str, Any]:
    return {
        "depth": DEPTH,
        "self_hits": "dropped" if drop_self else "kept",
        "bootstrap": {"samples": statistics.SAMPLES, "seed": statistics.SEED, "level": statistics.LEVEL},
        "randomization": {"samples": statistics.FLIPS, "seed": statistics.SEED},
        "margin": margin,
        "bm25": {"method": "lucene", "k1": K1, "b": B, "stemmer": "english", "stopwords": "en"} if bm25 else None,
    }


def _made_with(command: str | None) -> dict[str, Any]:
    return {
        "command": command,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
