"""Judging a leaf beside its teacher on retrieval: both ways of using it, shares kept, intervals, cosines."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import TeacherError, UsageError
from leafkit.progress import OnProgress, Progress, silent
from leafkit.space import Kind
from leafkit.teachers import Teacher
from leafkit.training import RunLog
from leafkit_eval import statistics
from leafkit_eval.alignment import cosine_report
from leafkit_eval.bm25 import K1, B
from leafkit_eval.collections import Collection
from leafkit_eval.comparisons import compare
from leafkit_eval.cost import DOCUMENTS, TIMED, encoder_cost
from leafkit_eval.judging import BASELINE, Judged, judge_collection
from leafkit_eval.metrics import METRICS
from leafkit_eval.runs import RunFolder
from leafkit_eval.search import DEPTH
from leafkit_eval.sweep import settings, sweep_rows
from leafkit_eval.vectors import open_vectors

MARGIN = 0.05  # of another system's score
FORMAT, VERSION = "leafkit.report", 3
_PACKAGES = ("leafkit", "numpy", "torch", "sentence-transformers", "transformers", "pytrec-eval-terrier", "bm25s")


def judge_retrieval(
    collections: Sequence[Collection],
    *,
    teacher: Teacher,
    student: Teacher,
    out: str | Path,
    cache: str | Path | None = None,
    bm25: bool = False,
    baselines: Mapping[str, Teacher] | None = None,
    drop_self: bool = True,
    dims: Sequence[int] = (),
    precisions: Sequence[str] = (),
    margin: float = MARGIN,
    timed: bool = False,
    teacher_name: str | None = None,
    student_name: str = "student",
    training: RunLog | None = None,
    command: str | None = None,
    not_judged: Sequence[str] = (),
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
        baselines: other encoders by name, each judged alone in a space of its own.
        drop_self: leave the document out that has the query's own id, as BEIR does. Turn it off where queries and
            documents are numbered each for itself and equal ids mean nothing; the report counts them.
        dims: widths to judge the modes at too, from the same vectors (the space's own if not given).
        precisions: of the documents, to judge the modes at too (``search.PRECISIONS``; float32 if not given).
        margin: share of another system's score that a system may be worse by and pass as no worse.
        timed: measure what each encoder costs, on fifty queries and 64 documents.
        teacher_name: what the report calls the teacher; its space's name if not given.
        student_name: what the report calls the student (its space names the teacher only).
        training: the log of the student's training, whose curves the report shows.
        command: how the user asked for this, for the report.
        not_judged: why collections that were asked for too are missing, for the report.
        on_progress: told of texts embedded and collections searched.

    Returns:
        What ``report.json`` holds (``leafkit_eval/report/schema.json``).

    Raises:
        SpaceMismatch: the student is of another space.
        UsageError: no collection, or one twice; a baseline without a plain name; a width or precision that there is
            not; or a margin that is no share.
    """
    teacher.space.require_compatible(student.space, ours="the teacher", theirs="the student")
    _require_distinct(collections)
    if not 0 <= margin < 1:
        raise UsageError(f"margin {margin}: expected a share from 0 up to 1, as 0.05")
    narrower = settings(dims, precisions, teacher.space.dim)
    out = Path(out)
    others = {f"{BASELINE}{_plain(name)}": encoder for name, encoder in (baselines or {}).items()}
    encoders = {"teacher": teacher, "student": student, **others}
    vectors = open_vectors(encoders, Path(cache) if cache else out / "cache")
    dims_of = {mode: encoder.space.dim for mode, encoder in others.items()}
    runs, judged = RunFolder(out / "runs"), []
    for number, collection in enumerate(collections):
        for side in vectors.values():
            side.embed([*collection.queries, *collection.findable], collection.name, on_progress)
        on_progress(Progress(f"search {collection.name}", number, len(collections)))
        judged.append(judge_collection(collection, vectors, narrower, bm25=bm25, drop_self=drop_self, runs=runs))
        on_progress(Progress(f"search {collection.name}", number + 1, len(collections)))
    runs.forget_others()
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": "retrieval",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "teacher": _described(teacher, teacher_name or teacher.space.teacher.name),
        "student": _described(student, student_name),
        "baselines": {mode: _described(encoder, mode.removeprefix(BASELINE)) for mode, encoder in others.items()},
        "not_judged": list(not_judged),
        "summary": _summary(judged),
        "results": [row for each in judged for row in _rows(each, dims_of, teacher.space.dim)],
        "comparisons": compare([each.scored for each in judged], margin=margin),
        "sweep": sweep_rows([each.swept for each in judged]) if narrower else [],
        "alignment": [_alignment_row(each) for each in judged],
        "cosines": cosine_report([part for each in judged for part in each.aligned]),
        "lost_queries": [query for each in judged for query in each.lost],
        "embedding": {role: side.report() for role, side in vectors.items()},
        "cost": _costs(encoders, collections) if timed else {},
        "settings": _settings(bm25, drop_self, margin),
        "made_with": _made_with(command),
        "training": None if training is None else training.to_json(),
        "extra_tables": [],
        "examples": [],
    }


def _costs(encoders: Mapping[str, Teacher], collections: Sequence[Collection]) -> dict[str, dict[str, Any]]:
    """What each costs; one that fails now, having embedded all, costs no report."""
    costs = {}
    for role, encoder in encoders.items():
        with contextlib.suppress(TeacherError):
            costs[role] = encoder_cost(encoder, *_first_texts(collections))
    return costs


def _first_texts(collections: Sequence[Collection]) -> tuple[list[str], list[str]]:
    """Some queries and documents of every collection: they are of different lengths."""
    queries, documents = (-(-count // len(collections)) for count in (TIMED, DOCUMENTS))
    return (
        [row.text for collection in collections for row in collection.queries[:queries] if row.text.strip()],
        [row.text for collection in collections for row in collection.findable[:documents]],
    )


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise UsageError(f"baseline {name!r}: expected a name of letters, digits, dots, dashes: it names files")
    return name


def _rows(judged: Judged, dims_of: Mapping[str, int], dim: int) -> list[dict[str, Any]]:
    rows = []
    for mode, measures in judged.measures.items():
        rows.append(
            {
                "dataset": judged.collection.name,
                "part_of": judged.collection.part_of,
                "split": judged.collection.split,
                "mode": mode,
                "dim": None if mode == "bm25" else dims_of.get(mode, dim),
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
                "judgements": judged.collection.judgements,
                "relevant_self_hits": judged.collection.relevant_self_hits,
            }
        )
    return rows


def _summary(judged: Sequence[Judged]) -> dict[str, Any]:
    groups = [each.collection.group for each in judged]
    teacher = float(statistics.grouped_mean([each.measures["teacher"].means["ndcg_at_10"] for each in judged], groups))
    comparable = [each for each in judged if each.share("teacher") is not None]
    compared = [each.collection.group for each in comparable]
    modes: dict[str, dict[str, Any]] = {}
    for mode in judged[0].measures:
        means = {
            name: float(statistics.grouped_mean([each.measures[mode].means[name] for each in judged], groups))
            for name in METRICS
        }
        shares = [share for each in comparable if (share := each.share(mode)) is not None]
        samples = [each.share_samples(mode) for each in comparable]
        modes[mode] = {
            **means,
            "mean_share_of_teacher": float(statistics.grouped_mean(shares, compared)) if comparable else None,
            "mean_share_interval": (
                statistics.interval(statistics.grouped_mean(samples, compared)) if comparable else None
            ),
            "share_of_means": means["ndcg_at_10"] / teacher if teacher else None,
        }
    of_kind = {kind: np.concatenate([each.cosines[kind] for each in judged]) for kind in judged[0].cosines}
    return {
        "collections": len(set(groups)),
        "parts": len(judged),
        "queries": sum(len(each.collection.queries) for each in judged),
        "modes": modes,
        "mean_cosine_to_teacher": _mean_cosines(of_kind),
    }


def _alignment_row(judged: Judged) -> dict[str, Any]:
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
        "max_tokens": getattr(encoder, "max_tokens", None),
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
