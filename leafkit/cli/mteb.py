"""``leafkit eval mteb``: a model's scores by mteb's own evaluators, in mteb's own layout."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from leafkit.errors import InputError, UsageError

USED = ("embedded", "from_cache")
FAILED = 4  # as of a teacher or network: some task gave no score


def mteb(
    model: Annotated[str, typer.Option(help="Leaf, or hub name or folder of a sentence-transformers model.")],
    out: Annotated[Path, typer.Option(help="Folder of the results (OUT/results, mteb's layout) and mteb.json.")],
    data: Annotated[
        list[Path] | None, typer.Option(help="Local folder that becomes a task, or one of such folders; once each.")
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="Names of mteb's tasks, with commas between.")] = None,
    benchmark: Annotated[str | None, typer.Option(help="Name of a benchmark of mteb's, as 'MTEB(eng, v2)'.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Embeds documents in the model's place: the asymmetric scores.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which judgements or file of a local folder.")] = "test",
    name: Annotated[
        str | None, typer.Option(help="ORGANISATION/MODEL as the results shall have it; local/FOLDER if not given.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of vectors to share; OUT/cache if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="mteb.json on stdout, for machines.")] = False,
) -> None:
    """Evaluate a model on MTEB tasks and on folders of one's own, each with its main score.

    What was scored is kept: run it again to go on. A task that fails does not keep the others from running; the exit
    code then is 4.

    Example: leafkit eval mteb --model leaf --data sts/stsb --data scifact --out mteb-leaf
    """
    from leafkit.cli.console import (
        progress_bar,
        require_no_model,
        require_packages,
        say,
        tell,
        tell_json,
        warn_of_prompts,
    )

    require_packages("mteb", extra="eval")
    from leafkit.io.atomic import make_folder
    from leafkit.io.beir import data_folders
    from leafkit.students import open_encoder, open_model, student_rotation
    from leafkit.students.folder import student_space
    from leafkit_eval.mteb import (
        MtebModel,
        describe_model,
        local_task,
        named_tasks,
        require_own,
        run_mteb,
        write_model_meta,
        write_summary,
    )

    names = [task.strip() for task in (tasks or "").split(",") if task.strip()]
    if name is not None and name.count("/") != 1:
        raise UsageError(f"--name {name!r}: expected ORGANISATION/MODEL")
    if not data and not names and benchmark is None:
        raise UsageError("nothing to evaluate on: give --data FOLDER, --tasks NAMES or --benchmark NAME")
    require_no_model(out)
    make_folder(out)
    wanted, unread = [], []
    for folder in (found for given in data or [] for found in data_folders(given)):
        try:
            wanted.append(local_task(folder, split=split))
        except InputError as exc:
            unread.append(exc)
    wanted += named_tasks(names, benchmark=benchmark)
    if unread and not wanted:
        raise unread[0]
    _require_distinct([task.metadata.name for task in wanted])
    encoder, whole = open_model(model), None
    if teacher is not None:
        rotation = student_rotation(model) if student_space(Path(model)) is not None else None
        whole = open_encoder(teacher, encoder.space, whose=model, rotation=rotation)
    require_own(out, encoder, whole)
    warn_of_prompts(whole or encoder)
    meta = describe_model(encoder, name or _name(model, asymmetric=whole is not None), documents=whole)
    with progress_bar() as on_progress:
        asked = MtebModel(encoder, meta, cache or out / "cache", documents=whole, on_progress=on_progress)
        outcomes = run_mteb(asked, wanted, out)
    summary = write_summary(asked, outcomes, out, command=shlex.join(["leafkit", *sys.argv[1:]]))
    write_model_meta(asked, out)
    if as_json:
        tell_json(summary)
    else:
        tell(_table(summary))
    for kind, text in asked.first_encoded.items():
        say(f"first {kind} as it was encoded: {text[:100]!r}")
    say(f"results: {out / 'results'}, {meta.name} at {meta.revision}; for mteb's repository: {out / 'model_meta.py'}")
    done = asked.embedding_report().get("documents' encoder")
    if done is not None and not any(done[name] for name in USED):
        say(f"{teacher} embedded nothing: no task has documents of its own")
    failed = [outcome for outcome in outcomes if outcome.failure]
    for outcome in failed:
        say(f"{outcome.name} failed: {outcome.failure}")
    for error in unread:
        say(f"not evaluated: {error}")
    if failed or unread:
        raise typer.Exit(FAILED if failed else unread[0].exit_code)


def _name(model: str, *, asymmetric: bool) -> str:
    given = model if not Path(model).is_dir() and model.count("/") == 1 else f"local/{Path(model).resolve().name}"
    return f"{given}-asym" if asymmetric else given


def _require_distinct(names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(f"two tasks are called {name!r}: their results would be one file. Rename one folder")


def _table(summary: dict[str, Any]) -> str:
    """Scores in columns, and the mean of each type with how many it is of."""
    rows = [("task", "type", "metric", "score")]
    count = Counter(task["name"] for task in summary["tasks"])
    for task in summary["tasks"]:
        name = f"{task['name']} ({task['split']})" if count[task["name"]] > 1 else task["name"]
        rows.append((name, task["type"], task["metric"], _cell(task["score"])))
    rows += [(f"mean of {mean['tasks']}", kind, "", _cell(mean["score"])) for kind, mean in summary["means"].items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows)


def _cell(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
