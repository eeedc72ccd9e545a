"""Collections of mteb's retrieval tasks, which pin BEIR's data sets by revision and take them from the hub."""

from __future__ import annotations

from typing import Any

import mteb

from leafkit.errors import InputError, TeacherError, UsageError
from leafkit.io.texts import TextRow
from leafkit_eval.collections import Collection


def hub_collection(name: str) -> Collection:
    """Load a data set of BEIR, or another retrieval task of mteb's, from the hub or its cache.

    Args:
        name: as BEIR has it (scifact, nfcorpus, trec-covid ...), or a task of mteb's (SciFact). msmarco is judged on
            its dev split, as everywhere.

    Raises:
        UsageError: there is no such data set.
        TeacherError: the hub cannot be reached, and the data set is not in its cache.
    """
    by_path = {task.metadata.dataset["path"].rpartition("/")[2]: task for task in mteb.get_benchmark("BEIR").tasks}
    task: Any = by_path.get(name.lower())
    if task is None:
        try:
            task = mteb.get_task(name)
        except (KeyError, ValueError) as exc:
            known = ", ".join(sorted(path for path in by_path if " " not in path))
            raise UsageError(f"there is no data set {name!r}: expected one of {known}, or a task of mteb's") from exc
    if task.metadata.type != "Retrieval" or not hasattr(task, "ignore_identical_ids"):
        raise UsageError(
            f"{name} is {task.metadata.type} in mteb: name a retrieval task, one of its parts if it has some"
        )
    try:
        return task_collection(task, name=name)
    except (OSError, ConnectionError) as exc:
        reason = str(exc).strip().splitlines()[0]
        raise TeacherError(f"data set {name}: {reason}. Give a folder in BEIR's layout with --data instead") from exc


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
