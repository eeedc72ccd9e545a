"""Collections of mteb's retrieval tasks, which pin BEIR's data sets by revision and take them from the hub."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mteb

from leafkit.errors import InputError, TeacherError, UsageError
from leafkit.io.texts import TextRow
from leafkit_eval.collections import Collection


def hub_collections(name: str) -> list[Collection]:
    """Load a data set of BEIR, or another retrieval task of mteb's, from the hub or its cache.

    Args:
        name: as BEIR has it (scifact, nfcorpus, cqadupstack ...), or a task of mteb's (SciFact). msmarco is judged on
            its dev split, as everywhere.

    Returns:
        The one collection, or the parts of one, as cqadupstack's twelve.

    Raises:
        UsageError: there is no such data set.
        TeacherError: the hub cannot be reached, and the data set is not in its cache.
    """
    known = {_known_as(task): task for task in mteb.get_benchmark("BEIR").tasks}
    task: Any = known.get(name.lower())
    if task is None:
        try:
            task = mteb.get_task(name)
        except (KeyError, ValueError) as exc:
            names = ", ".join(sorted(known))
            raise UsageError(f"there is no data set {name!r}: expected one of {names}, or a task of mteb's") from exc
    parts = getattr(task, "tasks", [task])
    if not all(part.metadata.type == "Retrieval" and hasattr(part, "ignore_identical_ids") for part in parts):
        raise UsageError(f"{name} is {task.metadata.type} in mteb: name a retrieval task")
    try:
        if len(parts) == 1:
            return [task_collection(task, name=name)]
        return [replace(task_collection(part, name=part.metadata.name), part_of=name) for part in parts]
    except (OSError, ConnectionError) as exc:
        reason = str(exc).strip().splitlines()[0]
        raise TeacherError(f"data set {name}: {reason}. Give a folder in BEIR's layout with --data instead") from exc


def _known_as(task: Any) -> str:
    """BEIR's own name of a task: its data set's, and of one that has parts in its place only its task's."""
    if hasattr(task, "tasks"):
        return str(task.metadata.name).removesuffix("Retrieval").lower()
    return str(task.metadata.dataset["path"]).rpartition("/")[2]


def task_collection(task: Any, *, name: str) -> Collection:
    """Give a retrieval task's documents, judged queries and judgements, titles joined to texts.

    Raises:
        InputError: a judgement names a query or document that the task does not have.
    """
    split = task.metadata.eval_splits[0]
    task.load_data()
    task.convert_v1_dataset_format_to_v2(num_proc=None)
    data = task.dataset["default"][split]
    documents = tuple(
        TextRow(f"{row.get('title') or ''} {row['text']}".strip(), "document", row["id"]) for row in data["corpus"]
    )
    queries = {row["id"]: TextRow(row["text"], "query", row["id"]) for row in data["queries"]}
    qrels = {query: dict(grades) for query, grades in data["relevant_docs"].items() if grades}
    ids = {row.id for row in documents}
    for query, grades in qrels.items():
        unknown = next((document for document in grades if document not in ids), None)
        if query not in queries or unknown is not None:
            missing = f"query {query!r}" if query not in queries else f"document {unknown!r}"
            raise InputError(f"{name}: {missing} is judged and is not in the data set")
    return Collection(name, split, documents, tuple(queries[query] for query in qrels), qrels)
