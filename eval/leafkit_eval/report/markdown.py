"""A report in markdown: the table that goes into a text, and a model card in the hub's form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leafkit.errors import InputError
from leafkit.io.atomic import write_file
from leafkit_eval.report.words import MODE_WORDS, collections_words, count, figure, percent

CARD_METRIC = "ndcg_at_10"
CARD_MODES = {"symmetric": "nDCG@10", "asymmetric": "nDCG@10, documents by the teacher"}


def markdown_table(report: Mapping[str, Any]) -> str:
    """Give nDCG@10 of every system on every collection, the leaf's shares of the teacher's with their intervals."""
    modes = list(report["summary"]["modes"])
    leaf = [mode for mode in modes if mode in ("symmetric", "asymmetric")]
    names = [*(MODE_WORDS[mode] for mode in modes), *(f"{MODE_WORDS[mode]}: share of the teacher's" for mode in leaf)]
    lines = ["| nDCG@10 | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    if report["summary"]["parts"] > 1:
        summary = report["summary"]["modes"]
        cells = [figure(summary[mode]["ndcg_at_10"]) for mode in modes]
        cells += [_share(summary[mode]["mean_share_of_teacher"], summary[mode]["mean_share_interval"]) for mode in leaf]
        lines.append(_line(f"mean of {collections_words(report['summary'])}", cells))
    of_dataset: dict[tuple[str, str], dict[str, Any]] = {}
    for row in report["results"]:
        of_dataset.setdefault((row["dataset"], row["split"]), {})[row["mode"]] = row
    for (dataset, split), rows in of_dataset.items():
        cells = [figure(rows[mode]["ndcg_at_10"]) for mode in modes]
        cells += [_share(rows[mode]["share_of_teacher"], rows[mode]["share_interval"]) for mode in leaf]
        lines.append(_line(dataset if split == "test" else f"{dataset} ({split})", cells))
    return "\n".join(lines) + "\n"


def _line(name: str, cells: list[str]) -> str:
    return "| " + " | ".join([name.replace("|", "\\|"), *cells]) + " |"


def _share(value: float | None, interval: list[float] | None) -> str:
    ends = "" if interval is None else f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return percent(value) + ends


def model_card(report: Mapping[str, Any], mteb: Mapping[str, Any] | None = None, *, name: str | None = None) -> str:
    """Give a leaf's card in the hub's form: metadata with its scores, how to use it, what it keeps.

    Args:
        report: what ``report.json`` holds.
        mteb: what ``mteb.json`` of the same leaf holds.
        name: of the leaf on the hub; as the report calls it if not given.
    """
    from huggingface_hub import EvalResult, ModelCardData  # 0.5 s

    student, teacher = name or report["student"]["name"], report["teacher"]["name"]
    space = report["teacher"]["space"]
    results = [
        EvalResult(
            "Retrieval", row["dataset"], row["dataset"], CARD_METRIC, round(row[CARD_METRIC], 5),
            dataset_split=row["split"], metric_name=CARD_MODES[row["mode"]],
        )
        for row in report["results"]
        if row["mode"] in CARD_MODES
    ]  # fmt: skip
    tasks = [task for task in (mteb or {}).get("tasks", []) if task["score"] is not None]
    own = {f"{row['dataset']}-local" for row in report["results"]}
    results += [
        EvalResult(
            task["type"],
            task["name"],
            task["name"],
            task["metric"],
            round(task["score"], 5),
            dataset_split=task["split"],
        )
        for task in tasks
        if task["name"] not in own
    ]
    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "leafkit", "retrieval", *(["mteb"] if mteb else [])],
        model_name=student,
        eval_results=results,
    )
    prompts = space["prompts"]
    prompted = [f"{kind}s `{prompts[kind]}`" for kind in ("query", "document") if prompts[kind]]
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {student}",
        f"A leaf of **{teacher}**: a small encoder that leafkit brought into its space by the method of"
        " [LEAF](https://arxiv.org/abs/2509.12539). Its vectors may be searched among the teacher's: documents stay as"
        " the teacher embedded them, this model embeds the queries.",
        f"{space['dim']} dims, {space['similarity']}"
        + (", unit length" if space["normalized"] else "")
        + (f", texts cut at {cut} tokens" if (cut := report["student"]["max_tokens"]) else "")
        + (f"; put before {' and '.join(prompted)}, as `encode_query` and `encode_document` do" if prompted else "")
        + ".",
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        f'model = SentenceTransformer("{student}")\nvectors = model.encode_query(["what is a leaf?"])\n```',
        f"Documents are {teacher}'s (revision `{space['teacher']['revision']}`)"
        + (f", cut at {space['max_tokens']} tokens" if space["max_tokens"] else "")
        + ": embedded otherwise, they are vectors of another space.",
        *_cost_words(report),
        "## What it keeps of its teacher",
        markdown_table(report).rstrip(),
        f"Brackets: {100 * report['settings']['bootstrap']['level']:.0f} % bootstrap intervals over the queries. The"
        f" mean cosine to the teacher is {figure(report['summary']['mean_cosine_to_teacher']['all'])}.",
    ]
    if tasks:
        parts += ["## MTEB", _tasks_table(mteb or {})]
    return "\n\n".join(parts) + "\n"


def _cost_words(report: Mapping[str, Any]) -> list[str]:
    """Size and speed where they were measured."""
    cost = report["cost"].get("student")
    if cost is None:
        return []
    size = f"{count(cost['parameters'])} parameters, " if cost["parameters"] else ""
    return [f"{size}{count(cost['query_p50_ms'])} ms a query alone (median), on {report['made_with']['cpu']}."]


def _tasks_table(mteb: Mapping[str, Any]) -> str:
    lines = ["| task | type | metric | score |", "|---|---|---|---|"]
    lines += [
        f"| {task['name']} | {task['type']} | {task['metric']} | {figure(task['score'])} |" for task in mteb["tasks"]
    ]
    lines += [
        f"| mean of {count(mean['tasks'])} | {kind} | | {figure(mean['score'])} |"
        for kind, mean in mteb["means"].items()
    ]
    return "\n".join(lines)


def write_card(report: str | Path, out: str | Path, *, mteb: str | Path | None = None, name: str | None = None) -> Path:
    """Write a card from the folder of a report, and that of ``leafkit eval mteb``, into a file.

    Raises:
        InputError: a folder holds no report, or mteb's is of another model.
    """
    told = _read(Path(report) / "report.json", "leafkit.report")
    scores = None if mteb is None else _read(Path(mteb) / "mteb.json", "leafkit.mteb")
    own = told.get("student", {}).get("fingerprint")
    if scores is not None and scores.get("revision") != own:
        raise InputError(f"holds scores of {scores.get('revision')}, the report is of {own}", path=Path(mteb or ""))
    try:
        text = model_card(told, scores, name=name)
    except (KeyError, TypeError, AttributeError) as exc:
        raise InputError(
            f"holds something else than leafkit writes ({exc!r}): make it anew", path=Path(report)
        ) from exc
    write_file(Path(out), text.encode())
    return Path(out)


def _read(path: Path, form: str) -> Any:
    try:
        value: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise InputError(f"is no report ({exc!r})", path=path) from exc
    if not isinstance(value, dict) or value.get("format") != form:
        raise InputError(f"is no {form}", path=path)
    return value
