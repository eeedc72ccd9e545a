"""Local folders as mteb tasks: BEIR folders, and folders of a JSON-lines file a split. Content is the revision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.task_metadata import TaskMetadata

from leafkit.errors import InputError
from leafkit.io.beir import is_beir_folder
from leafkit.io.texts import json_lines
from leafkit_eval.collections import load_collection

SUFFIXES = (".jsonl", ".jsonl.gz")
"""Of a split's file."""


@dataclass(frozen=True)
class _Form:
    """A type of task: its fields, the columns that mteb reads, and how it is scored."""

    name: str
    base: type[AbsTask]
    main_score: str
    fields: tuple[str, ...]
    columns: tuple[str, ...] = ()


# Which fields say which type; text and label are a classification where there is a split to learn from.
_STS = _Form("STS", AbsTaskSTS, "cosine_spearman", ("sentence1", "sentence2", "score"))
_PAIRS = _Form(
    "PairClassification", AbsTaskPairClassification, "max_ap", ("sentence1", "sentence2", "label"),
    ("sentence1", "sentence2", "labels"),
)  # fmt: skip
_CLASSES = _Form("Classification", AbsTaskClassification, "accuracy", ("text", "label"))
_CLUSTERS = _Form("Clustering", AbsTaskClustering, "v_measure", ("text", "label"), ("sentences", "labels"))
_RERANKING = _Form("Reranking", AbsTaskRetrieval, "map_at_1000", ("query", "positive", "negative"))
_RETRIEVAL = _Form("Retrieval", AbsTaskRetrieval, "ndcg_at_10", ())


def local_task(folder: str | Path, *, split: str = "test") -> AbsTask:
    """Make an mteb task of a folder.

    A folder in BEIR layout is a retrieval task. Another holds SPLIT.jsonl (or .jsonl.gz) files whose fields say what it
    is: sentence1, sentence2 and score: STS; sentence1, sentence2 and label (0 or 1): pair classification; query,
    positive and negative (lists): reranking; text and label: classification if there is train.jsonl, else clustering.

    Args:
        folder: where; its name with ``-local`` behind it is the task's, so that no task of mteb's is taken for it.
        split: which judgements, or which file is scored.

    Raises:
        InputError: the folder is none of these, or a line lacks a field; names file and line.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("no such folder", path=folder)
    if is_beir_folder(folder):
        return _made(folder, _RETRIEVAL, split, lambda task: _fill_retrieval(task, folder, split))
    path = _file(folder, split)
    if path is None:
        found = ", ".join(sorted(_splits(folder))) or "none"
        raise InputError(
            f"neither a BEIR folder (corpus, queries, qrels/) nor one with {split}.jsonl (splits found: {found})",
            path=folder,
        )
    form = _form_of(folder, path)
    fill = _fill_reranking if form is _RERANKING else _fill_rows
    return _made(folder, form, split, lambda task: fill(task, folder, split, form))


def _form_of(folder: Path, path: Path) -> _Form:
    line, first = next(json_lines(path), (0, {}))
    if not line:
        raise InputError("holds no rows", path=path)
    for form in (_STS, _PAIRS, _RERANKING):
        if set(form.fields) <= set(first):
            return form
    if set(_CLASSES.fields) <= set(first):
        return _CLASSES if _file(folder, "train") is not None else _CLUSTERS
    raise InputError(
        f"has the fields {', '.join(first)}: expected sentence1, sentence2 and score or label; query, positive and"
        " negative; or text and label",
        path=path,
        line=line,
    )


def _made(folder: Path, form: _Form, split: str, fill: Callable[[Any], None]) -> AbsTask:
    """A task of its own class, for mteb keeps metadata on classes."""
    name = folder.resolve().name
    metadata = TaskMetadata(
        name=f"{name}-local",
        description=f"Local folder {name}",
        reference=None,
        dataset={"path": name, "revision": _content(folder)},
        type=form.name,
        category="t2c" if form in (_CLASSES, _CLUSTERS) else "t2t",
        modalities=["text"],
        eval_splits=[split],
        eval_langs=["eng-Latn"],
        main_score=form.main_score,
    )

    def load_data(self: Any, *_: Any, **__: Any) -> None:
        if not self.data_loaded:
            fill(self)
            self.data_loaded = True

    members: dict[str, Any] = {"metadata": metadata, "load_data": load_data}
    if form is _RETRIEVAL:
        members["ignore_identical_ids"] = True  # as BEIR does
    if form is _CLUSTERS:
        members["max_fraction_of_documents_to_embed"] = None  # all of them: local sets are small
    made: AbsTask = type(f"Local{form.name}", (form.base,), members)()
    return made


def _fill_retrieval(task: Any, folder: Path, split: str) -> None:
    collection = load_collection(folder, split=split)
    task.dataset = {
        "default": {
            split: {
                "queries": Dataset.from_list([{"id": row.id, "text": row.text} for row in collection.queries]),
                "corpus": Dataset.from_list([{"id": row.id, "text": row.text} for row in collection.documents]),
                "relevant_docs": {query: dict(grades) for query, grades in collection.qrels.items()},
                "top_ranked": None,
            }
        }
    }


def _fill_reranking(task: Any, folder: Path, split: str, form: _Form) -> None:
    queries, corpus = [], []
    relevant: dict[str, dict[str, int]] = {}
    ranked: dict[str, list[str]] = {}
    for line, row in _checked(folder, split, form):
        query = f"q{line}"
        queries.append({"id": query, "text": row["query"]})
        relevant[query], ranked[query] = {}, []
        for grade, texts in ((1, row["positive"]), (0, row["negative"])):
            for text in texts:
                name = f"{query}-{len(ranked[query])}"
                corpus.append({"id": name, "text": text})
                ranked[query].append(name)
                relevant[query][name] = grade
    task.dataset = {
        "default": {
            split: {
                "queries": Dataset.from_list(queries),
                "corpus": Dataset.from_list(corpus),
                "relevant_docs": relevant,
                "top_ranked": ranked,
            }
        }
    }


def _fill_rows(task: Any, folder: Path, split: str, form: _Form) -> None:
    parts: dict[str, dict[str, list[Any]]] = {}
    for part in {split, "train"} if form is _CLASSES else {split}:
        columns: dict[str, list[Any]] = {column: [] for column in form.columns or form.fields}
        for _, row in _checked(folder, part, form):
            for column, field in zip(columns, form.fields, strict=True):
                columns[column].append(row[field])
        parts[part] = columns
    if form is _CLASSES:  # mteb's precision of two classes wants a 1
        labels = [str(label) for columns in parts.values() for label in columns["label"]]
        number_of = {label: number for number, label in enumerate(sorted(set(labels)))}
        for columns in parts.values():
            columns["label"] = [number_of[str(label)] for label in columns["label"]]
    elif form is _CLUSTERS:
        parts[split]["labels"] = [str(label) for label in parts[split]["labels"]]
    if form is _STS:
        scores = [float(score) for score in parts[split]["score"]]
        if len(set(scores)) < 2:
            raise InputError(f"all {len(scores)} scores are the same: no correlation can be told", path=folder)
        parts[split]["score"] = scores
        task.min_score, task.max_score = min(scores), max(scores)  # correlations do not depend on them
    task.dataset = DatasetDict({part: Dataset.from_dict(columns) for part, columns in parts.items()})


def _checked(folder: Path, split: str, form: _Form) -> Iterator[tuple[int, dict[str, Any]]]:
    path = _file(folder, split)
    assert path is not None
    kinds: dict[str, tuple[type, ...]] = {
        "score": (int, float),
        "label": (str, int),
        "positive": (list,),
        "negative": (list,),
    }
    for line, row in json_lines(path):
        for field in form.fields:
            value = row.get(field)
            if not isinstance(value, kinds.get(field, (str,))) or isinstance(value, bool) or not _sound(value):
                raise InputError(
                    f"{field} is {row.get(field)!r}: this is a folder for {form.name}", path=path, line=line
                )
        if form is _PAIRS and row["label"] not in (0, 1):
            raise InputError(f"label is {row['label']!r}, expected 0 or 1", path=path, line=line)
        yield line, row


def _sound(value: Any) -> bool:
    """No number that is none, and nothing but texts in a list."""
    if isinstance(value, list):
        return all(isinstance(text, str) for text in value)
    return not isinstance(value, float) or math.isfinite(value)


def _splits(folder: Path) -> dict[str, Path]:
    return {path.name.removesuffix(suffix): path for suffix in SUFFIXES for path in folder.glob(f"*{suffix}")}


def _file(folder: Path, split: str) -> Path | None:
    return _splits(folder).get(split)


def _content(folder: Path) -> str:
    """Hash of every file of a folder: a changed one is another revision."""
    digest = xxhash.xxh3_128()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
